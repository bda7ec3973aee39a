"""Folders of class folders, as people have them: parts of a data set, one folder too many, leftovers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mafsar.data.labels import NONE_FOLDER, nfc
from mafsar.errors import InputError, option
from mafsar.video.find import camera_folders, search_clips, skipped_note
from mafsar.video.frame_folder import is_frame_folder
from mafsar.video.sniff import clip_kind
from mafsar.video.source import is_system_file

_PARTS = re.compile(
    r"(dev|eval|test|testing|train|training|trainval|val|valid|validation)"
    r"([ _-]?(clips|data|frames|images|list|lists|set|split|videos|\d+))?"
    r"|(fold|split)[ _-]?\d+",
    re.IGNORECASE,
)
_CAMERA_NAMES = frozenset(["color", "colour", "frames", "images", "img", "image", "rgb"])


@dataclass(frozen=True)
class ClassFolder:
    """One class.

    Attributes:
        path: The folder.
        clips: What lies in it, in natural order; it may be empty.
    """

    path: Path
    clips: tuple[Path, ...]


@dataclass(frozen=True)
class ClassFolders:
    """The class folders of a folder.

    Attributes:
        root: The folder that holds them: the one that was named, or the only one in it.
        folders: In order of name, with `_none`.
        loose: Clips beside the class folders, which are not read.
        notes: What was skipped or may not be meant, one sentence each.
    """

    root: Path
    folders: tuple[ClassFolder, ...]
    loose: tuple[Path, ...]
    notes: tuple[str, ...]


def read_class_folders(root: Path, *, argument: str) -> ClassFolders:
    """Finds the classes of a folder.

    Args:
        root: The folder.
        argument: The public argument that names it, for messages.

    Raises:
        InputError: It holds the parts of a data set (train, val, test) instead of classes.
    """
    notes: list[str] = []
    inner = _inner_level(root, argument)
    while inner is not None:
        _, others = camera_folders([entry for entry in _entries(root) if entry.is_dir()])
        beside = ", ".join(other.name for other in others)
        where = (
            f"skipped {beside} beside {inner.name}"
            if others
            else f"only {inner.name} contains clips"
        )
        notes.append(f"{root}: {where}; its folders are the classes")
        root, inner = inner, _inner_level(inner, argument)
    entries = _entries(root)
    folders = []
    skipped: list[Path] = []
    for entry in entries:
        if entry.is_dir():
            found = search_clips(entry)
            folders.append(ClassFolder(entry, tuple(found.clips)))
            skipped += found.skipped
    flat = [folder.path.name for folder in folders if folder.clips == (folder.path,)]
    if flat:
        names = ", ".join(flat[:3]) + (", …" if len(flat) > 3 else "")
        notes.append(
            f"{root}: {len(flat)} class folder{'' if len(flat) == 1 else 's'} with pictures directly "
            f"inside ({names}): the pictures of each are read as the frames of one clip; for several "
            "clips use CLASS/clip.mp4 or CLASS/clip/*.jpg"
        )
    note = skipped_note(root, skipped)
    if note:
        notes.append(note)
    loose = tuple(entry for entry in entries if not entry.is_dir() and clip_kind(entry) == "video")
    return ClassFolders(root, tuple(folders), loose, tuple(notes))


def _inner_level(root: Path, argument: str) -> Path | None:
    """The one folder that holds the class folders, where ``root`` is a level above them."""
    levels = []
    folders = [entry for entry in _entries(root) if entry.is_dir() and entry.name != NONE_FOLDER]
    # Classes of frame folders look like clips of frame folders: here the names decide.
    are_parts = len(folders) > 1 and all(_PARTS.fullmatch(folder.name) for folder in folders)
    shown, others = camera_folders(folders)
    for folder in shown if others and _is_level(shown[0]) else folders:
        if _is_level(folder) or (are_parts and _has_folders(folder)):
            levels.append(folder)
        elif search_clips(folder).clips:
            return None  # a class
    names = [folder.name for folder in levels]
    if len(levels) > 1 and all(_PARTS.fullmatch(name) for name in names):
        raise InputError(
            f"{root}: its folders {' and '.join(names)} are parts of a data set, not classes; pass "
            "one of them: ",
            option(**{argument: str(levels[0])}),
        )
    if len(levels) != 1:
        return None
    # One folder inside is a class with its clips in folders, unless it is itself a level.
    below = _classes_in(levels[0]) > 1 or _inner_level(levels[0], argument) is not None
    return levels[0] if below else None


def _has_folders(folder: Path) -> bool:
    entries = _entries(folder)
    return any(entry.is_dir() for entry in entries) and not any(
        clip_kind(entry) == "video" for entry in entries if entry.is_file()
    )


def _is_level(folder: Path) -> bool:
    """Whether a folder holds class folders, rather than clips."""
    if is_frame_folder(folder):
        return False
    entries = _entries(folder)
    folders = [entry for entry in entries if entry.is_dir()]
    if not folders or any(clip_kind(entry) == "video" for entry in entries if entry.is_file()):
        return False
    return not any(_is_clip_folder(entry) for entry in folders) and _classes_in(folder) > 0


def _is_clip_folder(folder: Path) -> bool:
    """Whether a folder is one clip: frames, or ``img`` beside ``flow_x``."""
    if is_frame_folder(folder):
        return True
    folders = [entry for entry in _entries(folder) if entry.is_dir()]
    alone = len(folders) == 1 and folders[0].name.lower() in _CAMERA_NAMES
    return bool(camera_folders(folders)[1]) or (alone and is_frame_folder(folders[0]))


def _classes_in(folder: Path) -> int:
    folders: Sequence[Path] = [entry for entry in _entries(folder) if entry.is_dir()]
    return sum(bool(search_clips(entry).clips) for entry in folders)


def _entries(folder: Path) -> list[Path]:
    try:
        entries = [entry for entry in folder.iterdir() if not is_system_file(entry)]
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be listed ({error.strerror}); make it readable for this user"
        ) from None
    return sorted(entries, key=lambda entry: nfc(entry.name))
