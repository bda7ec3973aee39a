"""Wrong usage is answered with exit 2, one line, and what was probably meant."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from mafsar.cli import voice
from mafsar.cli.app import build_app

runner = CliRunner()
app = build_app()


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("predict", "mafsar match"),
        ("val", "mafsar eval"),
        ("tensorrt", "mafsar export --engine trt"),
        ("onnx", "mafsar export --engine onnx"),
        ("benchmark", "mafsar bench"),
        ("mtach", "mafsar match"),
        ("enrol", "mafsar enroll"),
        ("mode=val", "mafsar eval"),
        ("bank lsit", "mafsar bank list"),
        ("bank merg", "mafsar bank merge"),
        ("cache inof", "mafsar cache info"),
        ("export format=engine", "--engine trt"),
        ("export tiny format=onnx", "--engine onnx"),
        ("export --engine tensorrt", "trt"),
        ("export --format engine", "--engine"),
        ("match s q.mp4 --engine tensorrt", "trt"),
        ("match s q.mp4 --engine pytorch", "torch"),
        ("match s q.mp4 --device gpu", "cuda"),
        ("match s q.mp4 --precision half", "fp16"),
        ("match s q.mp4 --topkk 3", "--topk"),
        ("match s q.mp4 --top-k 3", "--topk"),
        ("match s q.mp4 --conf 0.5", "--threshold"),
        ("match s q.mp4 conf=0.5", "--threshold 0.5"),
        ("match s q.mp4 device=0", "--device 0"),
        ("match s source=q.mp4", "q.mp4"),
        ("eval --metric bi-mhm", "bimhm"),
        ("eval --part validation", "val"),
        ("match s q.mp4 --fit letterbox", "pad"),
    ],
)
def test_did_you_mean(line: str, meant: str) -> None:
    result = runner.invoke(app, line.split())
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("error: ")
    assert f"did you mean {meant}?" in result.stderr


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("match", "SUPPORT"),
        ("match support", "QUERY"),
        ("enroll", "SUPPORT"),
        ("info", "THING"),
        ("match s q --topk 0", "--topk"),
        ("match s q --topk five", "--topk"),
        ("match s q --threshold 1.5", "--threshold"),
        ("match s q --threshold maybe", "--threshold"),
        ("match s q --alpha 2", "--alpha"),
        ("match s q --device tpu", "--device"),
        ("match s q --rotate 45", "--rotate"),
        ("match s q --batch", "--batch"),
        ("eval --way 1 --data d", "--way"),
        ("qqqqqq", "qqqqqq"),
    ],
)
def test_wrong_usage_names_what_is_wrong(line: str, says: str) -> None:
    result = runner.invoke(app, line.split())
    assert result.exit_code == 2, result.output
    assert result.stderr.count("\n") == 1
    assert says in result.stderr
    assert "--help" in result.stderr


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("export --engine trt", "trt"),
        ("train --dataset hmdb51 --root videos", "train"),
        ("train --dataset hmdb51 --root videos --model vit-b-16 -o runs/h", "train"),
    ],
)
def test_the_users_own_lines(
    line: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the user wrote them: understood, and what cannot be done is said in one line."""
    monkeypatch.chdir(tmp_path)
    # Engines are built in tests/export; here it is the line that counts.
    monkeypatch.setattr("mafsar.export.engines.tensorrt.MODULES", {"trt": "no_such_tensorrt"})
    result = runner.invoke(app, line.split())
    assert result.exit_code in (0, 1), result.output
    if result.exit_code:
        last = result.stderr.splitlines()[-1]
        assert last.startswith("error: ")
        assert says in last or "--root videos" in last
        assert "Traceback" not in result.stderr


def test_long_work_is_heard_of_without_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter(range(100))
    monkeypatch.setattr("mafsar.cli.voice.time.monotonic", lambda: next(clock))
    voice.reset()
    with voice.progress("encoding clips", 30) as bar:
        for _ in range(30):
            bar()
    assert capsys.readouterr().err.splitlines() == [
        "encoding clips: 10 of 30, 10 s",
        "encoding clips: 20 of 30, 20 s",
        "encoding clips: 30 of 30, 30 s",
    ]
    voice.quieter(True)
    with voice.progress("encoding clips", 30) as bar:
        for _ in range(30):
            bar()
    assert capsys.readouterr().err == ""
    voice.reset()
