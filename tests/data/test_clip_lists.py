"""Lists of clips as users and the field write them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mafsar.data.folders import read_own
from mafsar.data.support import read_support
from mafsar.errors import InputError, MafsarError, MissingError

Touch = Callable[[Path], Path]
CLIPS = {"golf/a.avi": "golf", "golf/b b.avi": "golf", "run/c.avi": "run"}


@pytest.fixture(name="tree")
def _tree(tmp_path: Path, touch: Touch) -> Path:
    for name in CLIPS:
        touch(tmp_path / name)
    return tmp_path


def read(path: Path, text: str) -> dict[str, str]:
    """The classes of a list's clips, by their path relative to it; both readers must agree."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    support = read_support(path)
    data = read_own(path)
    assert {c.path: c.label for c in data.clips} == {c.path: c.label for c in support.clips}
    return {str(clip.path): clip.label for clip in support.clips}


def here(tree: Path) -> dict[str, str]:
    return {str(tree / name): label for name, label in CLIPS.items()}


ROWS = "golf/a.avi,golf\ngolf/b b.avi,golf\nrun/c.avi,run\n"


@pytest.mark.parametrize(
    "text",
    [
        "# my clips\n\n  \npath,label\n" + ROWS,
        "\n# no header\n" + ROWS,
        "file_name,label\n" + ROWS,
        "Video,Class\n" + ROWS,
        "video path,class-name\n" + ROWS,
        "path,label,,\n" + ROWS,
        "id,clip_name,activity_label\n" + "".join(f"7,{p},{label}\n" for p, label in CLIPS.items()),
        "video_id,label_id,action\n" + "".join(f"{p},3,{label}\n" for p, label in CLIPS.items()),
        "label,file,split\n" + "".join(f"{label},{p},train\n" for p, label in CLIPS.items()),
        ROWS.replace(",", ";"),
        "path\tlabel\n" + ROWS.replace(",", "\t"),
        ROWS.replace(",", " "),
        ROWS.replace("/", "\\"),
        "golf/a.avi\ngolf/b b.avi\nrun/c.avi\n",
        "golf/a.avi 1\ngolf/b b.avi 1\nrun/c.avi 2\n",
        "golf/a.avi 30 0\ngolf/b b.avi 22 0\nrun/c.avi 28 5\n",
        "/data/me/ucf/" + ROWS.replace("\n", "\n/data/me/ucf/", 2),
        "videos/" + ROWS.replace("\n", "\nvideos/", 2),
    ],
)  # fmt: skip
def test_formats_of_the_field(tree: Path, text: str) -> None:
    assert read(tree / "list.csv", text) == here(tree)


def test_lists_beside_the_videos(tree: Path) -> None:
    assert read(tree / "lists" / "train.txt", ROWS) == {
        str(tree.absolute() / name): label for name, label in CLIPS.items()
    }


def test_labels_of_several_words_without_a_delimiter(tree: Path) -> None:
    found = read(
        tree / "list.txt", "golf/a.avi golf swing\ngolf/b b.avi golf swing\nrun/c.avi run\n"
    )
    assert sorted(found.values()) == ["golf swing", "golf swing", "run"]


def test_numbers_are_named_by_a_file(tree: Path) -> None:
    for name, text in (
        ("classInd.txt", "1 Golf\n2 Run\n"), ("classes.txt", "Golf\nRun\n"),
        ("label_map.txt", "Zero\nGolf\nRun\nFour\n"),
    ):  # fmt: skip
        (tree / name).write_text(text)
        found = read(tree / "l.txt", "golf/a.avi 1\ngolf/b b.avi 1\nrun/c.avi 2\n")
        assert sorted(found.values()) == ["Golf", "Golf", "Run"]
        (tree / name).unlink()


def test_numbers_without_names_are_said(tmp_path: Path, touch: Touch) -> None:
    touch(tmp_path / "a.mp4")
    touch(tmp_path / "b.mp4")
    (tmp_path / "l.txt").write_text("a.mp4 0\nb.mp4 1\n")
    support = read_support(tmp_path / "l.txt")
    assert support.labels == ("0", "1")
    assert "classes have only numbers" in support.notes[0]


def test_frames_and_endings_that_lists_leave_out(tmp_path: Path, touch: Touch) -> None:
    touch(tmp_path / "frames" / "v1" / "1.jpg")
    touch(tmp_path / "v2.mp4")
    found = read(tmp_path / "l.csv", "frames/v1.avi,golf\nv2,run\n")
    assert found == {str(tmp_path / "frames" / "v1"): "golf", str(tmp_path / "v2.mp4"): "run"}


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_a_hugging_face_video_folder(tree: Path, name: str) -> None:
    if name == "metadata.csv":
        text = "file_name,label\n" + ROWS
    else:
        rows = [{"file_name": path, "label": label} for path, label in CLIPS.items()]
        text = "".join(json.dumps(row) + "\n" for row in rows)
    (tree / name).write_text(text)
    assert {str(clip.path): clip.label for clip in read_support(tree).clips} == here(tree)
    assert len(read_own(tree).clips) == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file_name,caption\na.mp4,golf\n",
         "line 1: none of the columns file_name,caption is the label; name it label"),
        ("label,youtube_id,time_start\ngolf,xyz,3\n",
         "line 1: none of the columns label,youtube_id,time_start is the path; name it path"),
        ("file,video,label\na.mp4,a.mp4,golf\n",
         "line 1: the columns file and video could both be the path"),
        ("path,label,start\na.mp4,golf,soon\n", "line 2: start must be seconds ≥ 0, got 'soon'"),
        ("# x\npath,label\na.mp4,\n", r"line 3: expected path,label.*\(column label is empty\)"),
        ("path,label\n,golf\n", r"line 2: expected .*\(column path is empty\)"),
        ("path,label\nhttps://x.org/a.mp4,golf\n", "line 2, column path: .*download it"),
        ("a.mp4\n", "line 1: 'a.mp4' names no class"),
        ("golf\n", "line 1: 'golf' names no clip and is not a known header"),
    ],
)  # fmt: skip
def test_lines_that_cannot_be_read(tmp_path: Path, touch: Touch, text: str, said: str) -> None:
    touch(tmp_path / "a.mp4")
    (tmp_path / "s.csv").write_text(text, encoding="utf-8")
    for reader in (read_support, read_own):
        with pytest.raises(MafsarError, match=said) as error:
            reader(tmp_path / "s.csv")
        assert "\n" not in str(error.value)
        assert "s.csv" in str(error.value)


def test_json_lines_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "s.jsonl").write_text('{"file_name": "a.mp4"}\n')
    with pytest.raises(InputError, match="line 1: no key is the label"):
        read_support(tmp_path / "s.jsonl")
    (tmp_path / "s.jsonl").write_text("[1]\n")
    with pytest.raises(InputError, match="line 1: is not a JSON object"):
        read_support(tmp_path / "s.jsonl")


def test_another_clip_of_the_same_name_is_not_taken(tmp_path: Path, touch: Touch) -> None:
    touch(tmp_path / "a.avi")
    (tmp_path / "l.csv").write_text("golf/a.avi,golf\nrun/a.avi,run\n")
    with pytest.raises(MissingError, match="line 1: no such clip"):
        read_support(tmp_path / "l.csv")
