"""`mafsar index` and `mafsar search` from the shell, on the shipped model."""

from __future__ import annotations

import csv
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mafsar.cli.app import build_app
from mafsar.errors import InputError
from mafsar.files import locked
from mafsar.runtime.archive import search
from mafsar.runtime.archive.search import clock
from mafsar.synthetic.clips.render import render_video

runner = CliRunner()
app = build_app()
CLASSES = ("bend_forward", "wave_hand")


def run(*words: object, code: int = 0) -> tuple[str, str]:
    result = runner.invoke(app, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result.stdout, result.stderr


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`support/`, `bank.safetensors`, `films/` with a broken one, and `index` made of them."""
    folder = tmp_path_factory.mktemp("archive")
    for label in CLASSES:
        for seed, target in ((1, f"support/{label}/1.mp4"), (2, f"films/{label}.mp4")):
            path = folder / target
            path.parent.mkdir(parents=True, exist_ok=True)
            render_video(label, path, seed=seed, size=112)
    (folder / "films" / "broken.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(60))
    run("enroll", folder / "support", "-o", folder / "bank.safetensors", "--text", "off")
    out, err = run(
        "index", folder / "films", "-o", folder / "index", "--bank", folder / "bank.safetensors",
        "--json", code=1,
    )  # fmt: skip
    lines = [json.loads(line) for line in out.splitlines()]
    assert [Path(line["source"]).stem for line in lines] == ["bend_forward", "broken", "wave_hand"]
    assert [line["windows"] > 0 for line in lines] == [True, False, True]
    assert "broken.mp4" in lines[1]["error"]
    assert "1 file of 3 could not be read; the others are in" in err
    return folder


def test_a_search_prints_the_same_everywhere(place: Path, tmp_path: Path) -> None:
    bank, index = place / "bank.safetensors", place / "index"
    out, err = run(
        "search", bank, index, "--json", "--events", "--csv", tmp_path / "f.csv",
        "--report", tmp_path / "f.html",
    )  # fmt: skip
    lines = [json.loads(line) for line in out.splitlines()]
    assert list(lines[0]) == [
        "schema", "found", "bank", "label", "rank", "source", "t_start", "t_end", "score",
        "distance", "p_none", "none",
    ]  # fmt: skip
    firsts = {line["label"]: Path(line["source"]).stem for line in lines if line["rank"] == 1}
    assert firsts == {label: label for label in CLASSES}
    with (tmp_path / "f.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["source"] for row in rows] == [line["source"] for line in lines]
    assert [float(row["t_end"]) for row in rows] == [line["t_end"] for line in lines]
    page = (tmp_path / "f.html").read_text("utf-8")
    assert page.count("data:image/jpeg") == len(lines)
    assert "index: " in err
    table, _ = run("search", bank, bank, index, "--class", "wave_hand", "--topk", "1")
    assert table.count("moment 1") == 2
    assert "bend_forward " not in table.replace("bend_forward.mp4", "")


def test_files_that_are_gone_have_no_picture(place: Path, tmp_path: Path) -> None:
    moved = place / "films" / "wave_hand.mp4"
    moved.rename(tmp_path / "elsewhere.mp4")
    try:
        run("search", place / "bank.safetensors", place / "index", "--report", tmp_path / "f.html")
    finally:
        (tmp_path / "elsewhere.mp4").rename(moved)
    page = (tmp_path / "f.html").read_text("utf-8")
    assert "its file is not here" in page
    assert "data:image/jpeg" in page


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt, 130), (InputError, 1)])
def test_what_was_found_before_an_interrupt_is_kept(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type, code: int
) -> None:
    whole = search.search_index

    def ends_early(*words: Any, **options: Any) -> Iterator[search.Found]:
        yield next(whole(*words, **options))
        raise error("no more")

    monkeypatch.setattr(search, "search_index", ends_early)
    words = ("search", place / "bank.safetensors", place / "index", "--csv", tmp_path / "f.csv")
    out, err = run(*words, code=code)
    assert out.count("moment") == 1
    assert f"wrote {tmp_path / 'f.csv'}" in err
    with (tmp_path / "f.csv").open(newline="") as file:
        assert [row["rank"] for row in csv.DictReader(file)] == ["1"]


def test_index_says_that_it_waits(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held, free = threading.Event(), threading.Event()
    said: list[str] = []

    def note(text: object, _stream: object = None) -> None:
        said.append(str(text))
        if said[-1].startswith("waiting"):
            free.set()

    def hold() -> None:
        with locked((place / "index").resolve()):
            held.set()
            free.wait(60)

    monkeypatch.setattr("mafsar.cli.voice.note", note)
    other = threading.Thread(target=hold)
    other.start()
    assert held.wait(60)
    run("index", place / "films", "-o", place / "index", code=1)
    other.join()
    assert f"waiting for another process that changes {place / 'index'}" in said


def test_what_cannot_be_done_is_said(place: Path) -> None:
    bank, index, films = place / "bank.safetensors", place / "index", place / "films"
    _, err = run("search", bank, code=2)
    assert "missing argument" in err
    _, err = run("search", bank, place / "nowhere", code=1)
    assert "not an index; make it with mafsar index SOURCES -o" in err
    _, err = run("search", bank, index, "--class", "dance", code=1)
    assert "has no class 'dance'" in err
    _, err = run("index", films, "-o", index, "--bank", bank, code=1)
    assert "add files to it with --resume, or replace it with --overwrite" in err
    _, err = run("index", films, "-o", index, "--window", "1", "--resume", code=1)
    assert "made with lengths" in err
    _, err = run("index", films, films, "-o", index, code=1)
    assert "named twice" in err
    out, _ = run("index", films, "-o", index, "--bank", bank, "--resume", "--skip-bad")
    assert "1 new, 2 known" in out  # the broken file is tried again


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.04, "0:00.0"), (59.96, "1:00.0"), (3723.4, "1:02:03.4")]
)
def test_times_are_written_as_people_read_them(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown
