"""Class folders as people have them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from mafsar.data.folders import read_own
from mafsar.data.support import read_support
from mafsar.errors import InputError

Touch = Callable[[Path], Path]


def test_parts_of_a_data_set_are_not_classes(tmp_path: Path, touch: Touch) -> None:
    for part in ("train", "val", "Test"):
        for label in ("golf", "run"):
            touch(tmp_path / part / label / "a.mp4")
    said = (
        r"its folders Test and train and val are parts of a data set, not classes; pass one of them"
    )
    with pytest.raises(InputError, match=said + r": support='.*/Test'"):
        read_support(tmp_path)
    with pytest.raises(InputError, match=said + r": data='.*/Test'"):
        read_own(tmp_path)
    assert read_support(tmp_path / "train").labels == ("golf", "run")


@pytest.mark.parametrize(
    "parts", [("train_set", "test_set"), ("fold_1", "fold_2"), ("split1", "split2")]
)
@pytest.mark.parametrize("clip", ["a.mp4", "1.jpg"])
def test_other_names_of_parts(
    tmp_path: Path, touch: Touch, parts: tuple[str, str], clip: str
) -> None:
    """Also where the pictures of each class are one clip."""
    for part in parts:
        for label in ("golf", "run"):
            touch(tmp_path / part / label / clip)
    with pytest.raises(InputError, match="are parts of a data set, not classes"):
        read_support(tmp_path)


def test_flow_beside_the_classes(tmp_path: Path, touch: Touch) -> None:
    for kind in ("rgb", "flow"):
        for label in ("golf", "run"):
            touch(tmp_path / kind / label / "clip1" / "1.jpg")
            touch(tmp_path / kind / label / "clip2" / "1.jpg")
    support = read_support(tmp_path)
    assert support.labels == ("golf", "run")
    assert all("rgb" in str(clip.path) for clip in support.clips)
    assert f"{tmp_path}: skipped flow beside rgb; its folders are the classes" in support.notes


def test_classes_may_be_called_train(tmp_path: Path, touch: Touch) -> None:
    for label in ("train", "test"):
        touch(tmp_path / label / "a.mp4")
    assert read_support(tmp_path).labels == ("test", "train")


def test_one_folder_too_many(tmp_path: Path, touch: Touch) -> None:
    for label in ("golf", "run"):
        touch(tmp_path / "videos" / "mine" / label / "a.mp4")
    touch(tmp_path / "annotations" / "all.json")
    support = read_support(tmp_path)
    assert support.labels == ("golf", "run")
    assert support.notes == (
        f"{tmp_path}: only videos contains clips; its folders are the classes",
        f"{tmp_path / 'videos'}: only mine contains clips; its folders are the classes",
    )
    data = read_own(tmp_path)
    assert [clip.name for clip in data.clips] == ["videos/mine/golf/a.mp4", "videos/mine/run/a.mp4"]


def test_one_class_with_subfolders_stays_one(tmp_path: Path, touch: Touch) -> None:
    touch(tmp_path / "golf" / "monday" / "a.mp4")
    assert read_support(tmp_path).labels == ("golf",)
    touch(tmp_path / "frames" / "golf" / "clip1" / "1.jpg")
    touch(tmp_path / "frames" / "golf" / "clip2" / "1.jpg")
    assert read_support(tmp_path / "frames").labels == ("golf",)


def test_frames_beside_flow_are_one_clip(tmp_path: Path, touch: Touch) -> None:
    for label in ("golf", "run"):
        for folder in ("img", "flow_x", "flow_y"):
            touch(tmp_path / label / "clip" / folder / "1.jpg")
    support = read_support(tmp_path)
    assert [(clip.label, clip.path) for clip in support.clips] == [
        ("golf", tmp_path / "golf" / "clip" / "img"), ("run", tmp_path / "run" / "clip" / "img"),
    ]  # fmt: skip
    assert "skipped 4 files or folders" in support.notes[0]


def test_what_is_skipped_is_counted_and_named(tmp_path: Path, touch: Touch) -> None:
    for name in ("a.mp4", "a.srt", "b.npy", "notes.txt", "._a.mp4", "poster.jpg"):
        touch(tmp_path / "golf" / name)
    for notes in (read_support(tmp_path).notes, read_own(tmp_path).notes):
        kinds = "1 .srt, 1 .npy, 1 .txt, 1 .jpg"
        names = "golf/a.srt, golf/b.npy, golf/notes.txt, …"
        what = "files or folders that are no clips"
        assert notes == (f"{tmp_path}: skipped 4 {what} ({kinds}: {names})",)


def test_loose_pictures_in_a_class_folder_are_said(tmp_path: Path, touch: Touch) -> None:
    for name in ("1.jpg", "2.jpg"):
        touch(tmp_path / "golf" / name)
    touch(tmp_path / "run" / "a.mp4")
    for notes in (read_support(tmp_path).notes, read_own(tmp_path).notes):
        assert len(notes) == 1
        assert "1 class folder with pictures directly inside (golf)" in notes[0]
        assert "CLASS/clip.mp4 or CLASS/clip/*.jpg" in notes[0]


def test_a_pattern_chooses_frames(tmp_path: Path) -> None:
    for name in ("cam0_1", "cam0_2", "cam1_1", "cam1_2"):
        folder = tmp_path / "golf" / "clip"
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("L", (9, 9)).save(folder / f"{name}.png")
    (tmp_path / "golf" / "a.mp4").touch()
    pattern = "cam1_{}.png"
    support = read_support(tmp_path, frames_pattern=pattern)
    assert [clip.path.name for clip in support.clips] == ["a.mp4", pattern]
    data = read_own(tmp_path, frames_pattern=pattern)
    assert [(clip.name, clip.path.name) for clip in data.clips] == [
        ("golf/a.mp4", "a.mp4"), ("golf/clip", pattern),
    ]  # fmt: skip
    (tmp_path / "l.csv").write_text(f"golf/clip,golf\ngolf/clip/{pattern},golf\n")
    listed = read_support(tmp_path / "l.csv", frames_pattern=pattern)
    assert {clip.path.name for clip in listed.clips} == {pattern}
    with pytest.raises(InputError, match=r"frames_pattern='x_\{\}.png': no frame folder of .* has"):
        read_support(tmp_path, frames_pattern="x_{}.png")
    with pytest.raises(InputError, match="number is missing"):
        read_own(tmp_path, frames_pattern="img.jpg")
