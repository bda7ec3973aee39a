"""Searches through folders: what they say while they go on, and what ends them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from mafsar.data.clip_tree import ClipTree
from mafsar.errors import InputError
from mafsar.video import walking
from mafsar.video.find import find_clips, search_clips


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "clip.mp4").write_bytes(b"x")
    return tmp_path


def test_a_long_search_says_how_far_it_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    find_clips(folder)
    assert caplog.messages == []
    monkeypatch.setattr(walking, "FIRST_SECONDS", 0.0)
    assert len(find_clips(folder)) == 3
    (said,) = caplog.messages
    assert said.startswith(f"{folder}: still looking for clips after 0 s, 1 files")


def test_a_folder_that_cannot_be_listed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A disk's `lost+found` ends no search for queries; of a support nothing is left out."""
    iterdir = Path.iterdir

    def refuse(path: Path) -> Iterator[Path]:
        if path.name == "b":
            raise PermissionError(13, "Permission denied")
        return iterdir(path)

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(InputError, match=r"b: cannot be listed \(Permission denied\)"):
        find_clips(folder)
    with caplog.at_level(logging.WARNING):
        found = search_clips(folder, leave_out_unlisted=True)
    assert [path.parent.name for path in found.clips] == ["a", "c"]
    assert caplog.messages == [
        f"{folder}: left out 1 folder that cannot be listed ({folder / 'b'})"
    ]
    with pytest.raises(InputError, match="cannot be listed"):
        search_clips(folder / "b", leave_out_unlisted=True)


def test_links_side_by_side_do_not_multiply(tmp_path: Path) -> None:
    """Thirty levels with two links each are a thousand million ways to one clip."""
    for level in range(30):
        folder = tmp_path / f"level{level}"
        folder.mkdir()
        for name in ("one", "two"):
            (folder / name).symlink_to(tmp_path / f"level{level + 1}")
    (tmp_path / "level30").mkdir()
    (tmp_path / "level30" / "clip.mp4").write_bytes(b"x")
    assert 1 <= len(ClipTree(tmp_path / "level0").clips) <= 16
    assert len(find_clips(tmp_path / "level0")) == 1


def test_folders_nest_deeper_than_python_recurses(tmp_path: Path) -> None:
    folders = [tmp_path]
    for _ in range(1500):
        folders.append(folders[-1] / "d")
        folders[-1].mkdir()
    (folders[-1] / "clip.mp4").write_bytes(b"x")
    try:
        assert len(ClipTree(tmp_path).clips) == len(find_clips(tmp_path)) == 1
    finally:  # what removes the folders of tests recurses
        (folders[-1] / "clip.mp4").unlink()
        for folder in folders[:0:-1]:
            folder.rmdir()
