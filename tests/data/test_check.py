"""Checking a data set: missing, unreadable and short clips."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mafsar.data.check import COLUMNS, check_clips, count_parts, write_header, write_report
from mafsar.data.folders import read_own
from mafsar.data.pack import pack
from mafsar.data.standard import read_standard
from mafsar.data.store import Store, StoreSettings
from mafsar.errors import InputError, MissingError

Write = Callable[..., Path]


def statuses(root: Path) -> dict[str, tuple[str, int | None]]:
    return {
        report.clip.name: (report.status, report.frames) for report in check_clips(read_own(root))
    }


def test_each_kind_of_clip(tmp_path: Path, write_numbered: Write) -> None:
    write_numbered(tmp_path / "clap" / "good.mp4", 24)
    write_numbered(tmp_path / "clap" / "eight.mp4", 8)
    write_numbered(tmp_path / "clap" / "seven.mp4", 7)
    whole = write_numbered(tmp_path / "clap" / "x.mp4", 24).read_bytes()
    (tmp_path / "clap" / "x.mp4").unlink()
    (tmp_path / "clap" / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "clap" / "empty.avi").touch()
    (tmp_path / "clap" / "text.webm").write_text("no video")
    for frame in range(9):
        folder = tmp_path / "clap" / "frames"
        folder.mkdir(exist_ok=True)
        Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(folder / f"{frame}.jpg")
    assert statuses(tmp_path) == {
        "clap/good.mp4": ("ok", 24),
        "clap/eight.mp4": ("ok", 8),
        "clap/seven.mp4": ("short", 7),
        "clap/cut.mp4": ("unreadable", None),
        "clap/empty.avi": ("unreadable", None),
        "clap/text.webm": ("unreadable", None),
        "clap/frames": ("ok", 9),
    }


def test_a_table_with_seconds_and_a_missing_clip(tmp_path: Path, write_numbered: Write) -> None:
    write_numbered(tmp_path / "a.mp4", 24)  # 2.4 s
    table = tmp_path / "clips.csv"
    table.write_text("path,label,start,end\na.mp4,clap,0,1.2\na.mp4,clap,2,2.4\nb.mp4,clap,,\n")
    reports = list(check_clips(read_own(table)))
    assert [(report.clip.name, report.status) for report in reports] == [
        ("b.mp4", "missing"),
        ("a.mp4[0–1.2 s]", "ok"),
        ("a.mp4[2–2.4 s]", "short"),
    ]
    assert [report.frames for report in reports[1:]] == [12, 4]


def test_counts_against_the_protocol(tmp_path: Path, touch: Callable[[Path], Path]) -> None:
    for label, count in {"golf": 105, "cartwheel": 107, "run": 3}.items():
        for number in range(count):
            touch(tmp_path / label / f"{number}.avi")
    counts = {item.part: item for item in count_parts(read_standard("hmdb51", tmp_path))}
    assert (counts["val"].videos, counts["val"].videos_expected) == (212, 1194)
    assert (counts["val"].classes, counts["val"].classes_expected) == (2, 10)
    assert counts["val"].short_of == 1194 - 212 + 8
    assert (counts["train"].videos, counts["train"].videos_expected) == (0, 4280)


def test_a_split_that_names_absent_classes(tmp_path: Path, write_numbered: Write) -> None:
    write_numbered(tmp_path / "data" / "clap" / "0.mp4")
    write_numbered(tmp_path / "data" / "spare" / "0.mp4")
    split = tmp_path / "split.json"
    split.write_text('{"train": ["clap", "wave"], "test": ["run"]}')
    found = read_own(tmp_path / "data", split)
    assert found.absent == (("train", "wave"), ("test", "run"))
    assert any("spare" in note for note in found.notes)
    assert [(item.part, item.short_of) for item in count_parts(found)] == [
        ("train", 1),
        ("test", 1),
    ]


def test_a_store_is_checked_without_its_clips(tmp_path: Path, write_numbered: Write) -> None:
    write_numbered(tmp_path / "data" / "clap" / "long.mp4", 24)
    write_numbered(tmp_path / "data" / "clap" / "short.mp4", 5)
    pack(read_own(tmp_path / "data"), tmp_path / "s.sqlite", StoreSettings(24, 48))
    reports = list(check_clips(Store(tmp_path / "s.sqlite").catalogue()))
    assert [(report.clip.name, report.status) for report in reports] == [
        ("clap/long.mp4", "ok"),
        ("clap/short.mp4", "short"),
    ]


def test_csv_lines(tmp_path: Path, write_numbered: Write) -> None:
    path = write_numbered(tmp_path / "clap" / "a, b.mp4", 24)
    stream = io.StringIO()
    write_header(stream)
    for report in check_clips(read_own(tmp_path)):
        write_report(stream, report)
    rows = list(csv.DictReader(io.StringIO(stream.getvalue())))
    assert tuple(rows[0]) == COLUMNS
    assert rows[0]["clip"] == "clap/a, b.mp4"
    assert rows[0]["path"] == str(path)
    assert (rows[0]["frames"], rows[0]["width"], rows[0]["height"]) == ("24", "64", "48")
    assert float(rows[0]["duration_seconds"]) == pytest.approx(2.4)


def test_own_data_without_a_clip(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no such folder or file"):
        read_own(tmp_path / "none")
    with pytest.raises(InputError, match="no class folder contains a clip"):
        read_own(tmp_path)
    (tmp_path / "x.csv").write_text("path,label\na.mp4\n")
    with pytest.raises(InputError, match=r"x\.csv line 2: expected path,label\[,start\]\[,end\]"):
        read_own(tmp_path / "x.csv")
