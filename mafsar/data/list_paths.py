"""Where the clips of a list are: lists are often written on another machine or in another folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mafsar.files import is_file, is_folder
from mafsar.video.frame_folder import clip_exists
from mafsar.video.source import VIDEO_SUFFIXES

_TRIED = 50
"""Clips that are looked for to find out where a list's paths begin, and folders looked in."""


@dataclass(frozen=True)
class PathRule:
    """How the paths of one list become paths here.

    Attributes:
        base: Folder that they are relative to.
        dropped: How many of their first folders are left out; all paths share them.
        note: What was changed, one sentence; empty where nothing was.
    """

    base: Path
    dropped: int = 0
    note: str = ""

    def find(self, listed: str) -> tuple[Path, bool]:
        """Where a listed clip is or would be, and whether it is there."""
        path = self.base / Path(*PurePosixPath(listed).parts[self.dropped :])
        if clip_exists(path):
            return path, True
        bare = path.with_suffix("")
        if path.suffix.lower() in VIDEO_SUFFIXES and is_folder(bare):
            return bare, True  # frames of the video that is listed
        if path.suffix.lower() not in VIDEO_SUFFIXES and path.name:
            for ending in (".mp4", ".avi", ".webm", ".mkv", ".mov"):
                ended = path.with_name(path.name + ending)
                if is_file(ended):
                    return ended, True
        return path, False


def find_rule(folder: Path, listed: Sequence[str]) -> PathRule:
    """Finds out where a list's paths begin.

    Only folders that all paths share are left out, so that no clip is taken for another of the
    same name.

    Args:
        folder: Of the list.
        listed: The paths, with slashes.
    """
    plain = PathRule(folder)
    step = max(len(listed) // _TRIED, 1)
    sample = listed[::step][:_TRIED]
    if not sample or any(plain.find(path)[1] for path in sample):
        return plain
    shared = _shared_parts(listed)
    for base in _bases(folder):
        for dropped in range(len(shared) + 1):
            rule = PathRule(base, dropped)
            found = [rule.find(path)[1] for path in sample]
            # Elsewhere than in the list's own folder, files of these names may be others.
            if all(found) or (base == folder and any(found)):
                left_out = "/".join(shared[:dropped]).replace("//", "/")
                words = f" without {left_out!r}" if dropped else ""
                return PathRule(base, dropped, f"its paths are read{words} from {base}")
    return plain


def _bases(folder: Path) -> Iterator[Path]:
    """The list's folder, the folders beside and below it."""
    yield folder
    for parent in (folder, folder.absolute().parent):
        try:
            entries = sorted(entry for entry in parent.iterdir() if entry.is_dir())
        except OSError:
            continue
        if parent != folder:
            yield parent
        yield from entries[:_TRIED]


def _shared_parts(listed: Sequence[str]) -> list[str]:
    """The first folders that all paths have in common, without their last part."""
    parts = [PurePosixPath(path).parts[:-1] for path in listed]
    shared: list[str] = []
    for column in zip(*parts, strict=False):
        if len(set(column)) > 1:
            break
        shared.append(column[0])
    return shared
