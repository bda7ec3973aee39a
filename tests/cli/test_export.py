"""`mafsar export` as a user types it, with the shipped model."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mafsar.cli.app import build_app
from mafsar.model.names import SHIPPED_BUNDLE
from mafsar.runtime.engines.bundle import Bundle

pytestmark = pytest.mark.skipif(
    not SHIPPED_BUNDLE.exists(), reason="the shipped model is not in this checkout"
)
runner = CliRunner()
app = build_app()


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_onnx_is_verified_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mafsar.export.engines.tensorrt.MODULES", {"trt": "no_such_tensorrt"})
    before = {path.name: path.read_bytes() for path in SHIPPED_BUNDLE.iterdir()}
    done = runner.invoke(app, ["export", "--engine", "onnx", "--json"])
    assert done.exit_code == 0, done.stderr
    (line,) = [json.loads(text) for text in done.stdout.splitlines()]
    assert (line["schema"], line["artefact"], line["bundle"]) == (1, "onnx-fp16", "tiny.mafsar")
    report = line["verification"]
    assert (report["verified"], report["clips"], report["episodes"]) == ("yes", 24, 2000)
    assert all(value["centred_cosine"] > 0.999 for value in report["outputs"].values())
    assert abs(report["accuracy"] - report["accuracy_reference"]) <= 0.5
    assert re.search(
        r"^exported in \d+ s, peak memory 0\.[1-9] GB$|[1-9]\.\d GB$", done.stderr, re.MULTILINE
    )
    assert report["largest_half"][1] < 65504
    assert {path.name: path.read_bytes() for path in SHIPPED_BUNDLE.iterdir()} == before
    assert Bundle.open("tiny.mafsar").precisions() == ["fp32", "fp16"]

    again = runner.invoke(app, ["export"])
    assert again.exit_code == 1
    assert again.stderr.startswith("error: fp32 and fp16: the bundle has these graphs already; ")
    shown = runner.invoke(app, ["export", "--overwrite"])
    assert shown.exit_code == 0
    assert "onnx-fp16" in shown.stdout
    assert "yes, 24 rendered clips" in shown.stdout

    trt = runner.invoke(app, ["export", "--engine", "trt"])
    assert trt.exit_code == 1
    assert trt.stderr.count("\n") == 1
    assert 'pip install "mafsar[trt]"' in trt.stderr
    assert '"mafsar[trt-rtx]"' in trt.stderr


@pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None,
    reason="real engines need tensorrt_rtx: pip install 'mafsar[trt-rtx]'",
)
@pytest.mark.slow
@pytest.mark.parametrize("model", ["", "vit-b-32:random"])
def test_the_user_s_own_line(model: str) -> None:
    """`mafsar export --engine trt`, as the user wrote it, on a machine with or without a GPU."""
    done = runner.invoke(app, ["export", *model.split(), "--engine", "trt"])
    assert done.exit_code == 0, done.stderr
    (bundle,) = Path.cwd().glob("*.mafsar")
    names = Bundle.open(bundle).manifest["engines"]
    assert len(names) == (1 if model else 2)
    for name in names:
        assert (bundle / name).stat().st_size > 1_000_000
        assert Path(name).name.startswith(("query-fp32-b1.8.32-", "support-fp32-b1.8.32-"))


@pytest.mark.parametrize(
    ("line", "status", "says"),
    [
        ("export --opset 17", 1, "opset 20 only"),
        ("export --engine trt --precision int8", 1, "int8 is for ONNX Runtime on a CPU"),
        ("export --calib d", 1, "only int8 is calibrated; add --precision int8"),
        ("export --batch 1,x", 2, "not a list of whole numbers"),
        ("export --engine trt --batch 8,1", 1, "batch sizes must rise"),
        ("export --engine trt --compute-capability 86", 1, "must look like 8.6"),
        ("export --frames 16", 1, "takes 8 frames per clip"),
        ("export vit-b-33", 1, "did you mean vit-b-32?"),
    ],
)
def test_what_cannot_be_is_one_line(line: str, status: int, says: str) -> None:
    done = runner.invoke(app, line.split())
    assert done.exit_code == status, done.output
    assert says in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert list(Path.cwd().iterdir()) == []
