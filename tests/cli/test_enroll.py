"""`mafsar enroll` and `mafsar bank` on a small rendered support."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mafsar.cli.app import build_app
from mafsar.runtime.bank.bank import read_bank

runner = CliRunner()
app = build_app()
pytestmark = pytest.mark.usefixtures("pixels")


def run(*words: object, code: int = 0) -> tuple[str, str]:
    result = runner.invoke(app, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result.stdout, result.stderr


@pytest.fixture
def bank(scene: Path, tmp_path: Path) -> Path:
    path = tmp_path / "b.safetensors"
    run("enroll", scene / "support", "-o", path)
    return path


def test_enroll_writes_a_bank_and_says_how_good_it_is(scene: Path, tmp_path: Path) -> None:
    path = tmp_path / "b.safetensors"
    stdout, stderr = run("enroll", scene / "support", "-o", path)
    assert stdout.count("3 of 3") == 4
    assert f"wrote {path}: 4 classes, 12 clips" in stdout
    assert "engine: onnx on cpu" in stderr
    assert f"wrote {path}" in stderr.splitlines()
    assert read_bank(path).labels == ("goes_down", "goes_left", "goes_right", "goes_up")
    _, stderr = run("enroll", scene / "support", "-o", path, code=1)
    assert f"--out {path}: exists already" in stderr
    run("enroll", scene / "support", "-o", path, "-y")


def test_enroll_json(scene: Path, tmp_path: Path) -> None:
    path = tmp_path / "b.safetensors"
    stdout, _ = run("enroll", scene / "support", "-o", path, "--json")
    (line,) = stdout.splitlines()
    said = json.loads(line)
    assert said["schema"] == 1
    assert said["bank"] == str(path)
    assert said["accuracy"] == 1.0
    assert len(said["clips"]) == 12


def test_a_mislabelled_clip_stands_out_in_the_report(scene: Path, tmp_path: Path) -> None:
    support = tmp_path / "support"
    shutil.copytree(scene / "support", support)
    wrong = support / "goes_left" / "wrong.mp4"
    shutil.copy(scene / "queries" / "goes_up.mp4", wrong)
    report = tmp_path / "q.html"
    run("enroll", support, "-o", tmp_path / "b.safetensors", "--report", report, "--no-images")
    page = report.read_text(encoding="utf-8")
    card = page[page.index(f">{wrong}<") :]
    assert "taken for goes_up" in card[: card.index("</div></div>")]
    assert page.count("data:image/jpeg;base64,") == 13
    assert "<script" not in page
    assert read_bank(tmp_path / "b.safetensors").images is None


def test_adding_in_place_and_elsewhere(scene: Path, tmp_path: Path) -> None:
    half, rest = tmp_path / "half", tmp_path / "rest"
    for label in ("goes_up", "goes_down"):
        shutil.copytree(scene / "support" / label, half / label)
    for label in ("goes_left", "goes_right"):
        shutil.copytree(scene / "support" / label, rest / label)
    path, other = tmp_path / "b.safetensors", tmp_path / "all.safetensors"
    run("enroll", half, "-o", path, "--text", "off")
    run("enroll", rest, "--add", path, "-o", other)
    assert len(read_bank(path).classes) == 2
    assert len(read_bank(other).classes) == 4
    run("enroll", rest, "--add", path)
    assert len(read_bank(path).clips) == 12
    _, stderr = run("enroll", rest, "--add", path, "--text", "on", code=1)
    assert "--text off" in stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["-o", "b.bank"], "name it b.safetensors"),
        (["-o", "b.safetensors", "--none", "x"], "--none x: no such file or folder"),
        (
            ["-o", "b.safetensors", "--none", "rtsp://127.0.0.1:1/1"],
            "error: rtsp://127.0.0.1:1/1: cannot be opened",
        ),
        (["-o", "b.safetensors", "--roi", "1,2"], "--roi 1,2"),
    ],
)
def test_enroll_refuses(scene: Path, words: list[str], says: str) -> None:
    _, stderr = run("enroll", scene / "support", *words, code=1)
    assert stderr.splitlines()[-1].startswith("error: ")
    assert says in stderr


def test_enroll_without_a_place_is_wrong_usage(scene: Path) -> None:
    _, stderr = run("enroll", scene / "support", code=2)
    assert stderr == "error: enroll: no place for the bank; add -o BANK.safetensors\n"


def test_geometry_is_kept_in_the_bank(scene: Path, tmp_path: Path) -> None:
    path = tmp_path / "b.safetensors"
    picture = ["--roi", "0,0,1,0.5", "--fit", "pad", "--rotate", "90", "--hflip"]
    run("enroll", scene / "support", "-o", path, *picture)
    kept = read_bank(path).geometry
    assert (kept.roi, kept.fit, kept.rotate, kept.hflip) == ((0, 0, 1, 0.5), "pad", 90, True)
    query = scene / "queries" / "goes_up.mp4"
    run("match", path, query)
    run("match", path, query, *picture)
    _, stderr = run("match", path, query, "--rotate", "180", code=1)
    assert "enrolled with" in stderr


def test_bank_list(bank: Path) -> None:
    stdout, _ = run("bank", "list", bank)
    assert f"{bank}: 4 classes, 12 clips, made by tiny, text off" in stdout
    stdout, _ = run("bank", "list", bank, "--class", "goes_up,goes_left", "--json")
    said = json.loads(stdout)
    assert [item["label"] for item in said["classes"]] == ["goes_left", "goes_up"]
    assert len(said["clips"]) == 6
    stdout, _ = run("bank", "list", bank, "--clip", "1.mp4", "--json")
    assert len(json.loads(stdout)["clips"]) == 4
    _, stderr = run("bank", "list", bank, "--class", "waves", code=1)
    assert "--class waves: not in" in stderr


def test_bank_remove(bank: Path, tmp_path: Path) -> None:
    smaller = tmp_path / "s.safetensors"
    run("bank", "remove", bank, "--class", "goes_up", "-o", smaller)
    assert len(read_bank(bank).classes) == 4
    assert read_bank(smaller).labels == ("goes_down", "goes_left", "goes_right")
    run("bank", "remove", bank, "--clip", "0.mp4")
    assert len(read_bank(bank).clips) == 8
    _, stderr = run("bank", "remove", bank, "--class", "goes_upp", code=1)
    assert "goes_up" in stderr
    _, stderr = run("bank", "remove", bank, code=2)
    assert "add --class C or --clip P" in stderr


def test_bank_merge(bank: Path, tmp_path: Path) -> None:
    left, right, both = (tmp_path / f"{name}.safetensors" for name in ("l", "r", "both"))
    run("bank", "remove", bank, "--class", "goes_up,goes_down", "-o", left)
    run("bank", "remove", bank, "--class", "goes_left,goes_right", "-o", right)
    run("bank", "merge", left, right, "-o", both)
    merged, whole = read_bank(both), read_bank(bank)
    assert merged.labels == whole.labels
    assert (merged.query == whole.query).all()
    _, stderr = run("bank", "merge", left, right, "-o", both, code=1)
    assert "exists already" in stderr
    run("bank", "merge", left, right, "-o", both, "-y", "--class", "goes_up,goes_left")
    assert read_bank(both).labels == ("goes_left", "goes_up")
    _, stderr = run("bank", "merge", left, "-o", tmp_path / "x.safetensors", code=2)
    assert "name two or more" in stderr
    _, stderr = run("bank", "merge", left, right, code=2)
    assert stderr == "error: bank merge: no place for the merged bank; add -o BANK.safetensors\n"


def test_a_part_of_a_merged_bank_has_the_segments_that_were_chosen(
    bank: Path, scene: Path, tmp_path: Path
) -> None:
    """One video holds clips of two classes: they have one path."""
    video = next((scene / "support").rglob("*.mp4"))
    table = tmp_path / "table.csv"
    table.write_text(f"path,label,start,end\n{video},wave,0,0.4\n{video},jump,0.4,0.8\n")
    both, out = tmp_path / "both.safetensors", tmp_path / "out.safetensors"
    run("enroll", table, "-o", both)
    run("bank", "merge", both, bank, "-o", out, "--class", "wave")
    assert [(clip.label, clip.start) for clip in read_bank(out).clips] == [("wave", 0.0)]


def test_labels_with_brackets_and_other_scripts_are_shown_as_they_are(
    scene: Path, tmp_path: Path
) -> None:
    labels = {"Putting [something] into [red]": "goes_up", "手を振る": "goes_down"}
    support = tmp_path / "support"
    for label, source in labels.items():
        shutil.copytree(scene / "support" / source, support / label)
    bank, report = tmp_path / "b.safetensors", tmp_path / "q.html"
    outputs = [
        run("enroll", support, "-o", bank, "--report", report)[0],
        run("bank", "list", bank)[0],
        run("match", bank, scene / "queries" / "goes_up.mp4", "--plot", tmp_path)[0],
        run("eval", "--data", support, "--way", 2, "--episodes", 5)[0],
        run("info", bank)[0],
        report.read_text(encoding="utf-8"),
    ]
    for shown in outputs:
        for label in labels:
            assert label in shown
    assert (tmp_path / "goes_up.png").is_file()
