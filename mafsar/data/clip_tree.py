"""Finds all clips below a folder, and the clip that a line of a list refers to.

Folders on disk differ from the lists in suffix, in underscores for spaces, in folders above the
classes and, for Kinetics, in the seconds that some copies append to a video's id. These are tried
in turn. A clip in another class's folder is never used.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mafsar.data.labels import class_key, nfc
from mafsar.errors import InputError, MissingError, option
from mafsar.video.animated import is_moving_picture
from mafsar.video.find import camera_folders
from mafsar.video.frame_folder import is_frame_folder
from mafsar.video.sniff import clip_kind
from mafsar.video.source import VIDEO_SUFFIXES, is_system_file, natural_key
from mafsar.video.walking import Walk

_SECONDS = re.compile(r"_\d{6}_\d{6}$")  # Kinetics: <YouTube id>_<start>_<end>

_MOST_VISITS = 16  # of one folder, by links: lists may name its clips by each of them


@dataclass(frozen=True)
class FoundClip:
    """A clip on disk.

    Attributes:
        path: Video file or frame folder.
        name: Its path relative to the root, posix.
        folder_keys: `class_key` of the folders between the root and the clip, outermost first.
    """

    path: Path
    name: str
    folder_keys: tuple[str, ...]


class ClipTree:
    """All clips below a folder, listed once."""

    def __init__(self, root: Path) -> None:
        """Walks the folder.

        Raises:
            MissingError: The folder does not exist.
            InputError: A folder cannot be listed.
        """
        if not root.is_dir():
            raise MissingError(option(root=root), ": no such folder; name the folder of the videos")
        self.root = root
        self.clips: list[FoundClip] = []
        self.skipped: list[Path] = []
        self._walk(root)
        self._by_name = {_plain(clip.name): clip for clip in self.clips}
        self._by_stem = _group(self.clips, lambda name: name)
        self._by_folded = _group(self.clips, lambda name: nfc(name).casefold())
        self._by_id = _group(self.clips, lambda name: _SECONDS.sub("", name))

    def find(
        self, listed: str, class_name: str | None, classes: Collection[str]
    ) -> FoundClip | None:
        """Finds the clip that a line of a list refers to.

        Args:
            listed: Path in the list, with or without suffix.
            class_name: Its class, if known.
            classes: `class_key` of every class: a clip in another class's folder does not match.

        Returns:
            The clip, or None.
        """
        exact = self._by_name.get(_plain(listed))
        if exact is not None:
            return exact
        stem = _stem(PurePosixPath(listed).name)
        key = None if class_name is None else class_key(class_name)
        wanted = [class_key(folder) for folder in PurePosixPath(listed).parts[:-1]]
        for group, name in (
            (self._by_stem, stem),
            (self._by_folded, nfc(stem).casefold()),
            (self._by_id, _SECONDS.sub("", stem)),
        ):
            fitting = [clip for clip in group.get(name, ()) if _fits(clip, key, classes)]
            if fitting:
                # max() keeps the first of equals, and the clips are in natural order.
                return max(fitting, key=lambda clip: _agreement(clip.folder_keys, wanted))
        return None

    def class_of(self, clip: FoundClip, classes: Collection[str]) -> str | None:
        """The key of the innermost folder that is a class; None if there is none."""
        return next((key for key in reversed(clip.folder_keys) if key in classes), None)

    def _walk(self, root: Path) -> None:
        """Notes all clips, in natural order, without recursion: folders nest without end."""
        walk, visits = Walk(root), Counter[tuple[int, int]]()
        waiting = [_Place(root, (), (), frozenset())]
        while waiting:
            place = waiting.pop()
            if isinstance(place, FoundClip):
                self.clips.append(place)
                continue
            here, entries = _list(place.folder)
            walk.step(len(entries))
            visits[here] += 1
            # A link to a folder above leads in circles; links side by side multiply at each level.
            if here not in place.above and visits[here] <= _MOST_VISITS:
                waiting += self._look_into(place, place.above | {here}, entries)[::-1]

    def _look_into(
        self,
        place: _Place,
        above: frozenset[tuple[int, int]],
        entries: Sequence[tuple[str, bool]],
    ) -> list[_Place | FoundClip]:
        """The clips and folders of one folder, in natural order."""
        folder, names, keys = place.folder, place.names, place.keys
        paths = [(Path(name), is_folder) for name, is_folder in entries]
        kept = [(path, is_folder) for path, is_folder in paths if not is_system_file(path)]
        files = [path for path, is_folder in kept if not is_folder]
        kinds = {path: clip_kind(folder / path) for path in files}
        videos = [path for path in files if kinds[path] == "video"]
        below = sorted((path for path, is_folder in kept if is_folder), key=natural_key)
        folders, others = camera_folders(below)
        self.skipped += [folder / path for path in others]
        if names and not videos and not below and is_frame_folder(folder):
            return [FoundClip(folder, "/".join(names), keys[:-1])]
        for path in files:
            if kinds[path] == "image" and is_moving_picture(folder / path):
                videos.append(path)
            elif kinds[path] != "video":
                self.skipped.append(folder / path)
        found: list[_Place | FoundClip] = []
        for path in sorted([*videos, *folders], key=natural_key):
            name = path.name
            if path in folders:
                inner = (*keys, class_key(name))
                found.append(_Place(folder / name, (*names, name), inner, above))
            else:
                found.append(FoundClip(folder / name, "/".join((*names, name)), keys))
        return found


@dataclass(frozen=True)
class _Place:
    """A folder that is still to be looked into: its names and keys from the root, and those above."""

    folder: Path
    names: tuple[str, ...]
    keys: tuple[str, ...]
    above: frozenset[tuple[int, int]]


def _list(folder: Path) -> tuple[tuple[int, int], list[tuple[str, bool]]]:
    """A folder's device and inode, and the names in it, with whether each is a folder."""
    try:
        stat = folder.stat()
        with os.scandir(folder) as listing:
            entries = [(entry.name, entry.is_dir()) for entry in listing]
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be listed ({error.strerror}); make it readable for this user"
        ) from None
    return (stat.st_dev, stat.st_ino), entries


def _fits(clip: FoundClip, key: str | None, classes: Collection[str]) -> bool:
    """Whether a clip is in its class's folder, or outside all class folders."""
    if key is None or key in clip.folder_keys:
        return True
    return not any(folder in classes for folder in clip.folder_keys)


def _agreement(folders: Sequence[str], wanted: Sequence[str]) -> int:
    """How many folders agree with the list, counted from the innermost."""
    count = 0
    for folder, name in zip(reversed(folders), reversed(wanted), strict=False):
        if folder != name:
            break
        count += 1
    return count


def _group(clips: Sequence[FoundClip], key: Callable[[str], str]) -> dict[str, list[FoundClip]]:
    groups: dict[str, list[FoundClip]] = {}
    for clip in clips:
        groups.setdefault(key(_stem(PurePosixPath(clip.name).name)), []).append(clip)
    return groups


def _stem(name: str) -> str:
    """A file name without a video's ending; ids may contain dots."""
    head, dot, ending = name.rpartition(".")
    return head if dot and f".{ending.lower()}" in VIDEO_SUFFIXES else name


def _plain(name: str) -> str:
    path = PurePosixPath(name)
    return str(path.with_name(_stem(path.name)))
