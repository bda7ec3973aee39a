"""`mafsar info` and `mafsar doctor`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mafsar.cli.app import build_app
from mafsar.runtime.machine.check import Check

runner = CliRunner()
app = build_app()


def run(*words: object, code: int = 0) -> tuple[str, str]:
    result = runner.invoke(app, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result.stdout, result.stderr


def test_info_of_a_clip_name_counts_as_the_paper_does() -> None:
    said = json.loads(run("info", "vit-b-32", "--json")[0])
    assert said["schema"] == 1
    assert said["parameters_tunable"] == 18_535_680
    assert said["parameters_total"] == 169_812_993
    assert said["adapters"] == "none"
    assert said["text"] is True
    fields = ("name", "backbone", "frames", "image_size", "embed_dim")
    assert [said[name] for name in fields] == ["vit-b-32", "vit-b-32", 8, 224, 512]
    table = run("info", "vit-b-32")[0]
    assert "18,535,680" in table
    assert "169,812,993" in table


def test_info_of_an_unknown_name_hints() -> None:
    _, stderr = run("info", "vit-b-23", code=1)
    assert stderr.startswith("error: ")
    assert "did you mean" in stderr
    assert stderr.count("\n") == 1


def test_info_of_a_support(scene: Path) -> None:
    said = json.loads(run("info", scene / "support", "--json")[0])
    assert said["kind"] == "support"
    assert said["clips"] == 12


@pytest.mark.usefixtures("pixels")
def test_info_of_a_bank(scene: Path, tmp_path: Path) -> None:
    bank = tmp_path / "b.safetensors"
    run("enroll", scene / "support", "-o", bank)
    said = json.loads(run("info", bank, "--json")[0])
    assert said["kind"] == "bank"
    assert said["clips"] == 12


def test_info_writes_to_out(tmp_path: Path) -> None:
    out = tmp_path / "info.json"
    assert run("info", "vit-b-32", "--json", "-o", out)[0] == ""
    assert json.loads(out.read_text())["name"] == "vit-b-32"
    _, stderr = run("info", "vit-b-32", "-o", out, code=1)
    assert "exists already" in stderr


def test_doctor_says_what_is_broken_and_how_to_fix_it(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = [
        Check("one", "ok", "fine"),
        Check("two", "warn", "slow", "do this"),
        Check("three", "fail", "gone", "install that"),
    ]
    monkeypatch.setattr("mafsar.runtime.machine.doctor.examine", lambda: checks)
    stdout, stderr = run("doctor", code=1)
    assert "→ do this" in stdout
    assert "→ install that" in stdout
    assert stderr == "error: doctor: three broken; install that\n"
    stdout, _ = run("doctor", "--json", code=1)
    lines = [json.loads(line) for line in stdout.splitlines()]
    assert [line["schema"] for line in lines] == [1, 1, 1]
    assert [line["status"] for line in lines] == ["ok", "warn", "fail"]
    monkeypatch.setattr("mafsar.runtime.machine.doctor.examine", lambda: checks[:2])
    run("doctor")


def test_doctor_opens_with_what_can_be_fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = [
        Check("one", "ok", "fine"),
        Check("op otam", "ok", "native", detailed=True),
        Check("two", "warn", "slow", "do this"),
        Check("three", "fail", "gone", "install that"),
    ]
    monkeypatch.setattr("mafsar.runtime.machine.doctor.examine", lambda: checks)
    stdout, _ = run("doctor", code=1)
    order = [stdout.index(word) for word in ("to fix", "\nthree", "\ntwo", "works", "\none")]
    assert order == sorted(order)
    assert "op otam" not in stdout
    assert "1 more check with -v" in stdout
    stdout, _ = run("doctor", "-v", code=1)
    assert "op otam" in stdout
    stdout, _ = run("doctor", "--json", code=1)
    lines = [json.loads(line) for line in stdout.splitlines()]
    assert [list(line) for line in lines] == [["schema", "name", "status", "detail", "mend"]] * 4
    monkeypatch.setattr("mafsar.runtime.machine.doctor.examine", lambda: checks[:1])
    assert run("doctor")[0].startswith("nothing to fix\n")


def test_doctor_runs_here() -> None:
    result = runner.invoke(app, ["doctor", "--json"])
    names = [json.loads(line)["name"] for line in result.stdout.splitlines()]
    assert {"python", "native kernels", "onnxruntime", "codecs", "cache"} <= set(names)


def test_bisect_needs_a_bundle() -> None:
    _, stderr = run("doctor", "--bisect", "x.mafsar", code=1)
    assert stderr.startswith("error: x.mafsar: no such bundle; ")
