"""`mafsar bench`: separate stages, correct statistics, parity beside the speed."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mafsar.cli.app import build_app
from mafsar.cli.wording import worded
from mafsar.errors import InputError
from mafsar.model.names import SHIPPED_BUNDLE
from mafsar.runtime.engines.bundle import Bundle
from mafsar.runtime.evaluation.bench import STAGES, Stage, bench, memory_line
from mafsar.runtime.machine.system import peak_bytes

runner = CliRunner()
app = build_app()


def test_figures_of_a_stage() -> None:
    seconds = [0.001 * value for value in range(1, 101)]
    stage = Stage.of(seconds)
    assert (stage.runs, stage.mean, stage.min) == (100, pytest.approx(50.5), pytest.approx(1.0))
    assert stage.sd == pytest.approx(29.011492, abs=1e-5)  # √(n(n+1)/12) of 1…100
    assert stage.median == pytest.approx(50.5)
    assert stage.p95 == pytest.approx(95.05)
    assert stage.p99 == pytest.approx(99.01)
    assert Stage.of([0.5]).sd == 0


def test_parity_is_measured_at_the_timed_batch(make_encoder) -> None:
    """An engine whose largest profile is wrong must not look right in its row."""
    reference, wrong = make_encoder(), make_encoder()
    right = wrong.encode_query

    def encode(frames):
        features = right(frames)
        if len(frames) > 4:
            features = replace(features, frames=features.frames[::-1].copy())
        return features

    wrong.encode_query = encode
    one, eight = bench([wrong], reference, batches=(1, 8), runs=1).rows
    assert one.max_error == 0
    assert eight.max_error > 1e-3


def test_gpu_memory_is_said_of_engines_that_count_it(make_encoder) -> None:
    counting, other = make_encoder(), make_encoder()
    counting.device_bytes = 123_400_000
    result = bench([counting, other], make_encoder(), runs=1)
    assert [row.gpu_mb for row in result.rows] == [123, None]
    name = f"{counting.engine} {counting.precision}"
    assert memory_line(result) == f"{result.peak_mb} MB, {name} on the GPU 123 MB"
    assert [row["gpu_mb"] for row in result.to_json()] == [123, None]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"runs": 0}, "runs must be ≥ 1, got 0"),
        ({"batches": (1, 0)}, "batch must be sizes ≥ 1, got [1, 0]"),
        ({"batches": ()}, "batch must be sizes ≥ 1, got []"),
        ({"seconds": 0.0}, "seconds must be > 0, got 0"),
    ],
)
def test_numbers_out_of_range(options, words, make_encoder) -> None:
    with pytest.raises(InputError) as error:
        bench([make_encoder()], make_encoder(), **options)
    assert str(error.value) == words
    assert worded(error.value).startswith(f"--{words.split()[0]} must be")


@pytest.mark.skipif(not SHIPPED_BUNDLE.exists(), reason="the shipped model is not in this checkout")
def test_engines_side_by_side(tmp_path: Path) -> None:
    file = tmp_path / "b.md"
    line = f"bench tiny --engine onnx,onnx --batch 1,2 --runs 2 --markdown {file} --json"
    done = runner.invoke(app, line.split())
    assert done.exit_code == 0, done.stderr
    rows = [json.loads(text) for text in done.stdout.splitlines()]
    assert [(row["engine"], row["batch"]) for row in rows] == [("onnx", 1)] * 2 + [("onnx", 2)] * 2
    for row in rows:
        assert set(row["milliseconds"]) == set(STAGES)
        encode = row["milliseconds"]["encode"]
        assert encode["runs"] == 2
        assert 0 < encode["min"] <= encode["median"] <= encode["p95"] <= encode["p99"]
        assert row["clips_per_second"] == pytest.approx(1e3 * row["batch"] / encode["mean"])
        # The engine is its own reference.
        assert row["min_cosine"] == pytest.approx(1.0, abs=1e-6)
        assert row["max_error"] < 1e-4
        assert row["system"]["mafsar"]
        # Of this process; the kernel's counters lag by some pages per thread.
        assert 10 < row["peak_mb"] <= 1.01 * peak_bytes() / 1e6
        assert np.isfinite([stage["mean"] for stage in row["milliseconds"].values()]).all()
    table = file.read_text(encoding="utf-8")
    assert table.count("| onnx | cpu | fp32 |") == 8  # encode and match of each
    assert table.count("| all | cpu |") == 2
    (first, *_) = [line for line in table.splitlines() if "| encode |" in line]
    (number, *_) = [row["milliseconds"]["encode"] for row in rows]
    figures = [number[name] for name in ("mean", "sd", "min", "median", "p95", "p99")]
    assert " | ".join(f"{value:.2f}" for value in figures) in first
    assert "smallest cosine" in table
    assert f"peak memory of the process {rows[0]['peak_mb']} MB" in table
    assert f"mafsar {rows[0]['system']['mafsar']}" in table
    again = runner.invoke(app, line.split())
    assert again.exit_code == 1
    assert "exists already" in again.stderr
    trt = runner.invoke(app, ["bench", "--engine", "trt,onxn"])
    assert trt.exit_code == 2
    assert "did you mean onnx?" in trt.stderr
    precision = runner.invoke(app, ["bench", "--precision", "fp32,fp61"])
    assert precision.exit_code == 2
    assert "did you mean fp16?" in precision.stderr
    sustained = runner.invoke(app, ["bench", "--seconds", "0.3", "--runs", "1"])
    assert sustained.exit_code == 0
    assert "smallest cosine" in sustained.stdout
    assert re.search(r"peak memory \d+ MB", sustained.stdout)


def test_all_precisions_of_a_bundle_are_timed(tmp_path: Path) -> None:
    """fp16 differs from the fp32 of the same bundle by more than rounding."""
    if importlib.util.find_spec("onnx_ir") is None:
        pytest.skip("writing fp16 graphs needs onnx_ir")
    from mafsar.export.job import export_model

    bundle = Path(shutil.copytree(SHIPPED_BUNDLE, tmp_path / "own.mafsar"))
    export_model(bundle, precision="fp16", verify=False)
    assert Bundle.open(bundle).precisions() == ["fp32", "fp16"]
    out = tmp_path / "rows.jsonl"
    done = runner.invoke(app, ["bench", str(bundle), "--runs", "2", "--json", "-o", str(out)])
    assert done.exit_code == 0, done.stderr
    assert done.stdout == ""
    rows = [json.loads(text) for text in out.read_text().splitlines()]
    assert [row["precision"] for row in rows] == ["fp32", "fp16"]
    assert {row["reference"] for row in rows} == {"onnx fp32 on cpu"}
    assert rows[0]["max_error"] < 1e-4 < rows[1]["max_error"]
    assert rows[0]["min_cosine"] > rows[1]["min_cosine"] > 0.999
    one = runner.invoke(app, ["bench", str(bundle), "--precision", "fp16", "--runs", "1"])
    assert one.exit_code == 0, one.stderr
    assert "fp32 " not in one.stdout.split("stage")[1].split("milliseconds")[0]
