"""Split lists, with lines as the published files have them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mafsar.data.lists import (
    ListedClip,
    find_lists,
    read_class_names,
    read_list,
    read_video_names,
)
from mafsar.errors import InputError, MissingError


def write(path: Path, *lines: str, newline: str = "\n") -> Path:
    path.write_bytes((newline.join(lines) + newline).encode())
    return path


@pytest.mark.parametrize(
    ("line", "path", "class_id", "folder"),
    [
        ("train8/78687", "78687", 8, None),
        (
            "train0//videos/brush_hair/#20_Rhythm_clap_u_nm_np1_fr_goo_0.avi",
            "videos/brush_hair/#20_Rhythm_clap_u_nm_np1_fr_goo_0.avi",
            0,
            "brush_hair",
        ),
        (
            "train12//train_256/baking_cookies/-W53pl92itE_000242_000252.mp4",
            "train_256/baking_cookies/-W53pl92itE_000242_000252.mp4",
            12,
            "baking_cookies",
        ),
        (
            "baking cookies/-514AQUrSow_000058_000068",
            "baking cookies/-514AQUrSow_000058_000068",
            None,
            "baking cookies",
        ),
        (
            "Putting something, something and something on the table/177616",
            "Putting something, something and something on the table/177616",
            None,
            "Putting something, something and something on the table",
        ),
        ("train/78687", "train/78687", None, "train"),  # a class of that name
    ],
)
def test_a_line_of_either_format(
    tmp_path: Path, line: str, path: str, class_id: int | None, folder: str | None
) -> None:
    listed = read_list(write(tmp_path / "train_few_shot.txt", line), "train")
    assert listed == [ListedClip(path, class_id, folder, 1)]


def test_windows_lines_byte_order_marks_and_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "val.txt"
    path.write_bytes("\ufeffval0/46768\r\n\r\nval11/178451\r\n".encode())
    assert [(clip.class_id, clip.path, clip.line) for clip in read_list(path, "val")] == [
        (0, "46768", 1),
        (11, "178451", 3),
    ]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ((), "contains no video"),
        (("test0/1",), "is of part test, but the file name says train"),
        (("train0/1", "clap/2"), "line 2: 'clap/2' is in another format"),
        (("78687",), "names no class"),
        (("clap/../../etc/passwd",), "leads out of the data folder"),
    ],
)
def test_what_is_refused(tmp_path: Path, lines: tuple[str, ...], message: str) -> None:
    path = write(tmp_path / "train.txt", *lines)
    with pytest.raises(InputError, match=message) as caught:
        read_list(path, "train")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "names",
    [
        ("train_few_shot.txt", "val_few_shot.txt", "test_few_shot.txt"),
        ("trainlist07.txt", "vallist07.txt", "testlist07.txt"),
        ("train.list", "val.list", "test.list"),
    ],
)
def test_published_names_are_found(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in (*names, "train_classes.txt", "notes.md"):
        (tmp_path / name).touch()
    found = find_lists(tmp_path, needed_by="SSv2-Small")
    assert tuple(path.name for path in found.values()) == names


def test_missing_and_doubtful_lists(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"no such folder; SSv2-Small needs train\*\.txt"):
        find_lists(tmp_path / "none", needed_by="SSv2-Small")
    (tmp_path / "train.txt").touch()
    with pytest.raises(MissingError, match=r"no val list .* lines train8/78687"):
        find_lists(tmp_path, needed_by="SSv2-Small")
    (tmp_path / "trainlist07.txt").touch()
    with pytest.raises(InputError, match=r"train\.txt and trainlist07\.txt both look"):
        find_lists(tmp_path, needed_by="SSv2-Small")


def test_names_of_class_numbers(tmp_path: Path) -> None:
    assert read_class_names(tmp_path, "val") is None
    write(tmp_path / "val_classes.txt", "Opening something", "Closing something")
    assert read_class_names(tmp_path, "val") == ("Opening something", "Closing something")


def test_annotations_of_something_something(tmp_path: Path) -> None:
    annotations = tmp_path / "something-something-v2-train.json"
    item = {"id": "78687", "label": "opening a box", "template": "Opening [something]"}
    annotations.write_text(json.dumps([item | {"placeholders": ["a box"]}]))
    labels = {"Opening something": "0"}
    (tmp_path / "something-something-v2-labels.json").write_text(json.dumps(labels))
    assert read_video_names(tmp_path) == {"78687": "Opening [something]"}
    annotations.write_text('{"a": 1}')
    with pytest.raises(InputError, match="not Something-Something's annotations"):
        read_video_names(tmp_path)
