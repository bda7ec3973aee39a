"""Finds all clips below a folder, and the clip that a line of a list refers to.

Folders on disk differ from the lists in suffix, in underscores for spaces, in folders above the
classes and, for Kinetics, in the seconds that some copies append to a video's id. These are tried
in turn. A clip in another class's folder is never used.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mafsar.data.labels import class_key, nfc
from mafsar.errors import InputError, MissingError, option
from mafsar.video.source import VIDEO_SUFFIXES, is_image, is_system_file, is_video, natural_key

_SECONDS = re.compile(r"_\d{6}_\d{6}$")  # Kinetics: <YouTube id>_<start>_<end>


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
        self._walk(root, (), (), set())
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

    def _walk(
        self,
        folder: Path,
        names: tuple[str, ...],
        keys: tuple[str, ...],
        above: set[tuple[int, int]],
    ) -> None:
        try:
            stat = folder.stat()
            with os.scandir(folder) as listing:
                entries = [(entry.name, entry.is_dir()) for entry in listing]
        except OSError as error:
            raise InputError(
                f"{folder}: cannot be listed ({error.strerror}); make it readable for this user"
            ) from None
        here = (stat.st_dev, stat.st_ino)
        if here in above:
            return  # a link to a folder above
        paths = [(Path(name), is_folder) for name, is_folder in entries]
        kept = [(path, is_folder) for path, is_folder in paths if not is_system_file(path)]
        videos = [path for path, is_folder in kept if not is_folder and is_video(path)]
        folders = {path for path, is_folder in kept if is_folder}
        if names and not videos and not folders and any(is_image(path) for path, _ in kept):
            self.clips.append(FoundClip(folder, "/".join(names), keys[:-1]))
            return
        for path in sorted([*videos, *folders], key=natural_key):
            name = path.name
            if path in folders:
                inner = (*keys, class_key(name))
                self._walk(folder / name, (*names, name), inner, above | {here})
            else:
                self.clips.append(FoundClip(folder / name, "/".join((*names, name)), keys))


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
