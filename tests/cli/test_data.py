"""``mafsar data check`` and ``mafsar data pack`` as a user types them."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mafsar.cli.app import build_app

app = build_app()
runner = CliRunner()


def run(*words: str | Path, code: int = 0) -> str:
    result = runner.invoke(app, ["data", *map(str, words)])
    assert result.exit_code == code, result.output
    return result.stdout


def test_check_says_complete(scene: Path, tmp_path: Path) -> None:
    text = run("check", "--data", scene / "support", "--out", tmp_path / "all.csv")
    assert "test    4 of 4   12 of 12   complete" in text
    assert "12 of 12 clips fine" in text
    with (tmp_path / "all.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    assert {row["status"] for row in rows} == {"ok"}
    result = runner.invoke(
        app, ["data", "check", "--data", str(scene), "--out", str(tmp_path / "all.csv")]
    )
    assert result.exit_code == 1
    assert "--overwrite" in result.stderr


def test_check_of_a_standard_set_that_lacks_clips(tmp_path: Path, scene: Path) -> None:
    lists = tmp_path / "lists"
    lists.mkdir()
    data = tmp_path / "data"
    data.mkdir()
    clips = sorted((scene / "support").rglob("*.mp4"))
    for number, part in enumerate(("train", "val", "test")):
        (lists / f"{part}_few_shot.txt").write_text(f"{part}0/{number}\n{part}1/{number + 10}\n")
        (data / f"{number}.webm").write_bytes(clips[number].read_bytes())
    (data / "10.webm").write_bytes(b"broken")
    words = ("check", "--dataset", "ssv2_small", "--root", data, "--lists", lists)
    result = runner.invoke(app, ["data", *map(str, words)])
    assert result.exit_code == 1
    assert "train   2 of 64   2 of 6,400   incomplete" in result.stdout
    assert "unreadable   train   10.webm" in result.stdout
    assert "missing" in result.stdout
    lines = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    assert "1 clip cannot be read" in lines[0]
    result = runner.invoke(app, ["data", *map(str, words), "--json"])
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert all(answer["schema"] == 1 for answer in answers)
    assert [(a["clip"], a["status"]) for a in answers[:-1]] == [
        ("11", "missing"),
        ("12", "missing"),
        ("10.webm", "unreadable"),
    ]
    assert answers[-1]["parts"]["val"] == {
        "classes": 1, "classes_expected": 12, "videos": 1, "videos_expected": 1200,
    }  # fmt: skip


def test_pack_then_check_the_store(scene: Path, tmp_path: Path) -> None:
    store = tmp_path / "s.sqlite"
    answer = json.loads(
        run("pack", "--data", scene / "support", "-o", store, "--short-side", 64, "--json")
    )
    assert (answer["clips"], answer["packed"], answer["kept"]) == (12, 12, 0)
    assert answer["size_bytes"] == store.stat().st_size
    text = run("pack", "--data", scene / "support", "-o", store, "--short-side", 64)
    assert "packed 0 in" in text
    assert "12 were there" in text
    assert "12 of 12 clips fine" in run("check", "--data", store)
    result = runner.invoke(
        app, ["data", "pack", "--data", str(scene / "support"), "-o", str(store)]
    )
    assert result.exit_code == 1
    assert "was packed with --frames 24 --short-side 64" in result.stderr
    run("pack", "--data", scene / "support", "-o", store, "--short-side", 32, "-y")
    result = runner.invoke(app, ["data", "pack", "--data", str(store), "-o", str(store)])
    assert "is packed already" in result.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("check",), "either --dataset NAME --root DIR"),
        (("check", "--dataset", "hmdb51"), "add --root DIR"),
        (("check", "--dataset", "hmdb"), "did you mean hmdb51"),
        (("check", "--dataset", "kinetics100", "--root", "."), "add --lists DIR with train*.txt"),
        (("check", "--data", ".", "--root", "."), "belongs to --dataset"),
        (("check", "--data", "nowhere"), "no such folder"),
    ],
)
def test_what_is_refused(words: tuple[str, ...], message: str) -> None:
    result = runner.invoke(app, ["data", *words])
    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_pack_without_a_place_is_wrong_usage() -> None:
    result = runner.invoke(app, ["data", "pack", "--data", "."])
    assert result.exit_code == 2
    assert "--out F.sqlite" in result.stderr


def test_an_interrupted_pack_ends_with_130_and_goes_on(scene: Path, tmp_path: Path) -> None:
    clip = next((scene / "support").rglob("*.mp4")).read_bytes()
    for number in range(120):
        path = tmp_path / "data" / f"class{number % 4}" / f"{number}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(clip)
    store = tmp_path / "s.sqlite"
    words = ["data", "pack", "--data", str(tmp_path / "data"), "-o", str(store), "--workers", "1"]
    words += ["--short-side", "64"]
    process = subprocess.Popen(
        [sys.executable, "-m", "mafsar", *words], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not store.exists() or store.stat().st_size < 60_000:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGINT)
    assert "error: interrupted" in process.communicate()[1]
    assert process.returncode == 130
    answer = json.loads(run(*words[1:], "--json"))
    assert answer["kept"] > 0
    assert answer["packed"] + answer["kept"] == 120
