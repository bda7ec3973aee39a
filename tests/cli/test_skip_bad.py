"""`--skip-bad`: bad support clips end the command, all in one line, or are left out and named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mafsar.cli.app import build_app
from mafsar.runtime.bank.bank import read_bank
from mafsar.video import write_video

runner = CliRunner()
app = build_app()
pytestmark = pytest.mark.usefixtures("pixels")


def run(*words: object, code: int = 0) -> tuple[str, str]:
    result = runner.invoke(app, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result.stdout, result.stderr


@pytest.fixture
def support(scene: Path, tmp_path: Path) -> Path:
    """The rendered support with two bad files among its twelve clips."""
    folder = tmp_path / "support"
    shutil.copytree(scene / "support", folder)
    for path in bad_clips(folder):
        path.write_bytes(path.name.encode())
    return folder


def bad_clips(support: Path) -> list[Path]:
    return [support / "goes_down" / "bad.mp4", support / "goes_up" / "worse.avi"]


def only_error(stderr: str) -> str:
    (line,) = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert stderr.splitlines()[-1] == line
    return line


def test_enroll_lists_all_bad_clips_and_writes_no_bank(support: Path, tmp_path: Path) -> None:
    bank, report = tmp_path / "b.safetensors", tmp_path / "q.html"
    stdout, stderr = run("enroll", support, "-o", bank, "--report", report, code=1)
    line = only_error(stderr)
    assert line.startswith("error: 2 clips cannot be read")
    assert all(str(path) in line for path in bad_clips(support))
    assert line.endswith("; fix or remove them, or skip them with --skip-bad")
    assert stdout == ""
    assert not bank.exists()
    assert not report.exists()


def test_enroll_goes_on_without_them(support: Path, tmp_path: Path) -> None:
    path = tmp_path / "b.safetensors"
    stdout, _ = run("enroll", support, "-o", path, "--skip-bad")
    assert f"wrote {path}: 4 classes, 12 clips" in stdout
    assert stdout.count("left out") >= 2
    assert len(read_bank(path).clips) == 12
    stdout, _ = run("enroll", support, "-o", path, "-y", "--skip-bad", "--json")
    said = json.loads(stdout)
    assert len(said["clips"]) == 12
    for bad, note in zip(bad_clips(support), said["notes"], strict=True):
        assert note.startswith(f"{bad}: ")
        assert note.endswith("; left out")


def test_adding_twice_is_the_same_as_adding_once(support: Path, tmp_path: Path) -> None:
    path = tmp_path / "b.safetensors"
    run("enroll", support, "-o", path, "--skip-bad")
    before = read_bank(path)
    run("enroll", support, "--add", path, "--skip-bad")
    assert [clip.identity for clip in read_bank(path).clips] == [
        clip.identity for clip in before.clips
    ]
    run("enroll", support, "--add", path, code=1)


def test_match_lists_all_bad_clips_or_goes_on_without_them(scene: Path, support: Path) -> None:
    query = scene / "queries" / "goes_up.mp4"
    stdout, stderr = run("match", support, query, code=1)
    line = only_error(stderr)
    assert all(str(path) in line for path in bad_clips(support))
    assert line.endswith("or skip them with --skip-bad")
    assert stdout == ""
    stdout, stderr = run("match", support, query, "--skip-bad", "--json")
    assert json.loads(stdout)["label"] == "goes_up"
    for path in bad_clips(support):
        (note,) = [line for line in stderr.splitlines() if str(path) in line]
        assert note.startswith("note: ")
        assert note.endswith("; left out")


def test_a_support_of_bad_clips_alone_is_an_error(tmp_path: Path, scene: Path) -> None:
    for label in ("a", "b"):
        (tmp_path / "s" / label).mkdir(parents=True)
        (tmp_path / "s" / label / "bad.mp4").write_bytes(label.encode())
    bank = tmp_path / "b.safetensors"
    _, stderr = run("enroll", tmp_path / "s", "-o", bank, "--skip-bad", code=1)
    assert only_error(stderr).endswith("; fix or remove them")
    assert not bank.exists()
    query = scene / "queries" / "goes_up.mp4"
    _, stderr = run("match", tmp_path / "s", query, "--skip-bad", code=1)
    assert "2 clips cannot be read" in only_error(stderr)


def test_eval_lists_all_bad_clips(support: Path) -> None:
    _, stderr = run("eval", "--data", support, "--way", 2, "--episodes", 5, code=1)
    line = only_error(stderr)
    assert all(str(path) in line for path in bad_clips(support))
    assert "--skip-bad" in line


def test_a_clip_that_the_region_does_not_fit_is_left_out_in_the_words_of_the_flags(
    scene: Path, tmp_path: Path
) -> None:
    support = tmp_path / "support"
    shutil.copytree(scene / "support", support)
    small = support / "goes_up" / "small.mp4"
    write_video(small, [np.zeros((32, 32, 3), np.uint8)] * 8, 8)
    words = ["--roi", "0,0,60,60", "--skip-bad"]
    stdout, _ = run("enroll", support, "-o", tmp_path / "b.safetensors", *words)
    joined = "".join(stdout.split())
    assert f"{small}:--roi0,0,60,60".replace(" ", "") in joined
    _, stderr = run("match", support, scene / "queries" / "goes_up.mp4", *words)
    (note,) = [line for line in stderr.splitlines() if str(small) in line]
    assert "--roi 0,0,60,60" in note


def test_a_list_with_missing_clips(scene: Path, tmp_path: Path) -> None:
    clips = sorted((scene / "support").glob("*/*"))
    table = tmp_path / "support.csv"
    rows = [f"{clip},{clip.parent.name}" for clip in clips]
    table.write_text(
        "\n".join(["path,label", *rows[:5], "gone.mp4,goes_up", *rows[5:], "no.mp4,new"])
    )
    bank = tmp_path / "b.safetensors"
    _, stderr = run("enroll", table, "-o", bank, code=1)
    line = only_error(stderr)
    assert "2 clips cannot be read" in line
    assert "line 7: no such clip" in line
    assert f"line {len(rows) + 3}: no such clip" in line
    assert not bank.exists()
    stdout, _ = run("enroll", table, "-o", bank, "--skip-bad")
    assert stdout.count("no such clip") == 2
    assert len(read_bank(bank)) == len(clips)
    run("match", table, clips[0], "--skip-bad")
    table.write_text("path,label\ngone.mp4,goes_up\n")
    only_error(run("enroll", table, "-o", bank, "-y", "--skip-bad", code=1)[1])
