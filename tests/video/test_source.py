"""What counts as a clip on disk, and the hashes of content."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mafsar.errors import MissingError, VideoError
from mafsar.video import (
    content_sha256,
    find_clips,
    is_frame_folder,
    is_image,
    is_system_file,
    is_video,
    natural_key,
)
from mafsar.video.frame_folder import read_frame_folder


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def picture(path: Path, level: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 4, 3), level, np.uint8)).save(path)


@pytest.mark.parametrize("name", ["a.mp4", "A.MOV", "b.WebM", "c.gif", "d.MKV", "e.avi", "f.m4v"])
def test_videos_by_ending_in_any_case(name: str) -> None:
    assert is_video(name)
    assert not is_image(name)


@pytest.mark.parametrize(
    "name", ["._a.mp4", ".DS_Store", "Thumbs.db", "THUMBS.DB", "a.txt", "a", "x.csv"]
)
def test_names_that_are_not_videos(name: str) -> None:
    assert not is_video(name)


def test_files_of_the_system() -> None:
    names = [".DS_Store", "._clip.mp4", "Thumbs.db", "desktop.ini", "__MACOSX"]
    assert all(is_system_file(Path(name)) for name in names)
    assert not is_system_file(Path("clip.mp4"))


def test_natural_order() -> None:
    names = ["img_10.jpg", "img_2.jpg", "IMG_1.jpg", "img_02b.jpg", "a.jpg"]
    assert sorted(names, key=natural_key) == [
        "a.jpg", "IMG_1.jpg", "img_2.jpg", "img_02b.jpg", "img_10.jpg",
    ]  # fmt: skip


def test_digits_of_other_scripts_do_not_break_the_order() -> None:
    assert len(sorted(["²a", "٣b", "3c", "a²"], key=natural_key)) == 4


def test_clips_below_a_folder(tmp_path: Path) -> None:
    touch(tmp_path, "10.mp4", "9.MP4", ".DS_Store", "._9.mp4", "Thumbs.db", "notes.txt")
    touch(tmp_path, "sub/a.webm", "sub/.hidden/b.mp4", "empty.d/readme.md")
    for number in (1, 2):
        picture(tmp_path / "frames" / f"img_{number}.JPG")
    found = [str(path.relative_to(tmp_path)) for path in find_clips(tmp_path)]
    assert found == ["9.MP4", "10.mp4", "frames", "sub/a.webm"]
    assert find_clips(tmp_path / "frames") == [tmp_path / "frames"]
    assert find_clips(tmp_path / "10.mp4") == [tmp_path / "10.mp4"]


def test_a_folder_with_videos_is_not_a_frame_folder(tmp_path: Path) -> None:
    picture(tmp_path / "poster.jpg")
    assert is_frame_folder(tmp_path)
    touch(tmp_path, "a.mp4")
    assert not is_frame_folder(tmp_path)
    assert [path.name for path in find_clips(tmp_path)] == ["a.mp4"]
    assert [path.name for path in find_clips(tmp_path, images=True)] == ["a.mp4", "poster.jpg"]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"nowhere: no such file or folder"):
        find_clips(tmp_path / "nowhere")
    with pytest.raises(MissingError, match=r"nowhere: no such folder"):
        read_frame_folder(tmp_path / "nowhere")


def test_folders_without_pictures_say_so(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="is an empty folder"):
        read_frame_folder(tmp_path)
    touch(tmp_path, "notes.txt")
    with pytest.raises(VideoError, match="contains no pictures"):
        read_frame_folder(tmp_path)


def test_content_of_a_file_is_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"abc" * 700_000)
    (tmp_path / "b.mov").write_bytes(b"abc" * 700_000)
    expected = hashlib.sha256(b"abc" * 700_000).hexdigest()
    assert content_sha256(tmp_path / "a.mp4") == content_sha256(tmp_path / "b.mov") == expected


def test_content_of_a_frame_folder(tmp_path: Path) -> None:
    for folder in ("one", "two", "renamed", "changed"):
        for number, level in ((1, 10), (2, 20)):
            picture(tmp_path / folder / f"{number}.png", level)
    (tmp_path / "renamed" / "2.png").rename(tmp_path / "renamed" / "0.png")
    picture(tmp_path / "changed" / "2.png", 21)
    touch(tmp_path / "two", ".DS_Store")
    digests = {
        name: content_sha256(tmp_path / name) for name in ("one", "two", "renamed", "changed")
    }
    assert digests["one"] == digests["two"]
    assert len(set(digests.values())) == 3


def test_importing_the_package_loads_no_decoder() -> None:
    code = (
        "import sys, mafsar.video;"
        "print([name for name in ('av', 'PIL', 'torch') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_content_of_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no such file"):
        content_sha256(tmp_path / "no.mp4")
