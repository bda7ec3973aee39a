"""A support folder that a page changes: the folder is the only state, so nothing is lost by a restart."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mafsar.data.class_folders import ClassFolder, read_class_folders
from mafsar.data.labelled import LabelledClip
from mafsar.data.labels import NONE_FOLDER, TEXT_TABLE, label_words, nfc
from mafsar.data.support import SupportClass, SupportSet
from mafsar.data.tables import read_texts
from mafsar.errors import InputError, MissingError
from mafsar.files import is_folder
from mafsar.video import content_sha256, load_clip
from mafsar.video.frame_folder import with_pattern
from mafsar.video.live.signs import is_lit
from mafsar.video.motion import is_still, motion_levels
from mafsar.video.sniff import clip_kind

PRIVATE = ".studio"
"""Folder inside the support for what comes in and what was removed; enrolling passes it over."""
_LONGEST = 120  # bytes of a folder's or a file's name
_KEPT = 50  # removed clips that can be brought back
_NAME = re.compile(r"(\d+)\.\w+")
_LOOKED_AT, _SIDE = 8, 224  # frames of a clip that comes in, and their side in pixels


@dataclass(frozen=True)
class FolderClip:
    """A clip of the folder.

    Attributes:
        id: Short name of its path, for addresses.
        label: Its class.
        path: Where it is.
    """

    id: str
    label: str
    path: Path


class SupportFolder:
    """Lists, adds and removes clips of a folder of class folders.

    Args:
        root: The folder; it is created with the first clip.
        frames_pattern: Which pictures are frames in folders that hold several kinds.

    Raises:
        InputError: The path is a file.
    """

    def __init__(self, root: Path, frames_pattern: str | None = None) -> None:
        if root.exists() and not is_folder(root):
            raise InputError(f"{root}: is a file; name a folder of class folders, as support/")
        self.root, self._pattern = root, frames_pattern

    def source(self, clip: Path) -> Path:
        """A clip as it is enrolled: with the pattern of names where it chooses among its pictures."""
        return with_pattern(clip, self._pattern)

    def classes(self) -> tuple[ClassFolder, ...]:
        """The class folders, with `_none`, also those without a clip.

        Raises:
            InputError: The folder holds the parts of a data set instead of classes.
        """
        if not self.root.is_dir():
            return ()
        return read_class_folders(self.root, argument="support").folders

    def clips(self) -> list[FolderClip]:
        """All clips, class by class."""
        return [
            FolderClip(_id_of(path, self.root), folder.path.name, path)
            for folder in self.classes()
            for path in folder.clips
        ]

    def clip(self, key: str) -> FolderClip:
        """The clip with an id.

        Raises:
            MissingError: There is none.
        """
        for clip in self.clips():
            if clip.id == key:
                return clip
        raise MissingError(f"no clip {key!r}; it was removed, or the page is out of date")

    def support(self) -> SupportSet | None:
        """What can be enrolled: the classes that have a clip; None where there is none.

        Raises:
            InputError: `labels.csv` cannot be read, or names a folder that is not there.
        """
        folders = [folder for folder in self.classes() if folder.clips]
        named = [folder for folder in folders if folder.path.name != NONE_FOLDER]
        if not named:
            return None
        labels = {nfc(folder.path.name): folder.path.name for folder in named}
        texts = read_texts(named[0].path.parent / TEXT_TABLE, labels)
        classes = tuple(
            SupportClass(labels[key], texts.get(key, label_words(labels[key])))
            for key in sorted(labels)
        )
        clips = [
            LabelledClip(self.source(path), labels.get(nfc(folder.path.name), NONE_FOLDER))
            for folder in folders
            for path in folder.clips
        ]
        return SupportSet(
            self.root,
            classes,
            tuple(clip for clip in clips if not clip.is_background),
            tuple(clip for clip in clips if clip.is_background),
        )

    @contextlib.contextmanager
    def incoming(self, name: str) -> Iterator[Path]:
        """A path for a file that comes in; it is removed at the end unless it was moved away.

        Args:
            name: What the user calls it; only its ending counts.
        """
        suffix = Path(name).suffix.lower()
        suffix = suffix if re.fullmatch(r"\.[a-z0-9]{1,5}", suffix) else ""
        folder = self.root / PRIVATE
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"in-{os.urandom(8).hex()}{suffix}"
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def add(self, file: Path, label: str, name: str) -> Path:
        """Moves a file into a class, under its own name or, of a recording, under a number.

        Args:
            file: The file, in this folder's file system.
            label: The class; it is created if need be.
            name: What the user calls the file; empty for a recording.

        Returns:
            Where it is now.

        Raises:
            InputError: The label is no folder's name, the file is no video or shows nothing, or the
                class has it already.
        """
        folder = self._class_folder(label)
        check_clip(file, name or "the recording", still=folder.name == NONE_FOLDER)
        self._refuse_twice(file, folder)
        folder.mkdir(parents=True, exist_ok=True)
        target = _free_path(folder, name, file.suffix)
        file.replace(target)
        return target

    def remove(self, key: str) -> str:
        """Puts a clip aside.

        Returns:
            What `restore` brings it back by.
        """
        clip = self.clip(key)
        aside = self._aside(clip)
        clip.path.replace(aside)
        self._drop_empty(clip.label)
        return aside.parent.parent.name

    def restore(self, key: str) -> None:
        """Brings a removed clip back.

        Raises:
            MissingError: It is not there any more.
        """
        folder = self.root / PRIVATE / "removed" / key
        found = list(folder.glob("*/*")) if re.fullmatch(r"[0-9a-f]{16}", key) else []
        if not found:
            raise MissingError("the clip that was removed is not there any more")
        home = self._class_folder(found[0].parent.name)
        home.mkdir(parents=True, exist_ok=True)
        found[0].replace(_free_path(home, found[0].name, found[0].suffix))
        shutil.rmtree(folder, ignore_errors=True)

    def move(self, key: str, label: str) -> None:
        """Moves a clip to another class."""
        clip = self.clip(key)
        folder = self._class_folder(label)
        if folder == clip.path.parent:
            return
        folder.mkdir(parents=True, exist_ok=True)
        clip.path.replace(_free_path(folder, clip.path.name, clip.path.suffix))
        self._drop_empty(clip.label)

    def _class_folder(self, label: str) -> Path:
        """The folder of a class: the one that is there under an equal label, else a new one."""
        label = check_label(label)
        folders = self.classes()
        for folder in folders:
            if nfc(folder.path.name) == label:
                return folder.path
        return (folders[0].path.parent if folders else self.root) / label

    def _aside(self, clip: FolderClip) -> Path:
        """Where a removed clip goes; the oldest ones are dropped for good."""
        removed = self.root / PRIVATE / "removed"
        home = removed / os.urandom(8).hex() / clip.label
        home.mkdir(parents=True)
        kept = sorted(removed.iterdir(), key=lambda path: path.stat().st_mtime)
        for old in kept[:-_KEPT]:
            shutil.rmtree(old, ignore_errors=True)
        return home / clip.path.name

    def _drop_empty(self, label: str) -> None:
        for folder in self.classes():
            if folder.path.name == label and not folder.clips:
                with contextlib.suppress(OSError):
                    folder.path.rmdir()

    def _refuse_twice(self, file: Path, folder: Path) -> None:
        size, content = file.stat().st_size, None
        for other in folder.iterdir() if folder.is_dir() else ():
            if other.is_file() and other.stat().st_size == size:
                content = content or content_sha256(file)
                if content_sha256(other) == content:
                    raise InputError(f"{folder.name} has this clip already, as {other.name}")


def check_label(label: str) -> str:
    """A label as the name of a folder, in NFC.

    Raises:
        InputError: It is empty, too long, or holds what a folder's name cannot.
    """
    label = nfc(label)
    shown = repr(label[:40])
    if not label:
        raise InputError("the class has no name; type one")
    if len(label.encode("utf-8", "replace")) > _LONGEST:
        raise InputError(f"class {shown}: the name is longer than {_LONGEST} bytes")
    if label == NONE_FOLDER:
        return label
    if label.startswith((".", "_")):
        raise InputError(f"class {shown}: a name cannot begin with . or _")
    if any(c in "/\\" or not (c.isprintable() or c in "\u200c\u200d\u200e\u200f") for c in label):
        raise InputError(f"class {shown}: a name cannot hold /, \\ or control characters")
    return label


def check_clip(path: Path, name: str, *, still: bool = False) -> None:
    """Refuses a file that is no video, or shows nothing.

    Args:
        path: The file.
        name: What messages call it.
        still: Whether nothing need move in it.

    Raises:
        InputError: It cannot be decoded, is dark, or its frames do not differ.
    """
    if clip_kind(path) != "video":
        raise InputError(f"{name}: is not a video")
    try:
        frames = load_clip(path, frames=_LOOKED_AT, size=_SIDE).pixels
    except InputError as error:
        raise InputError(f"{name}: {str(error).partition(': ')[2] or error}") from None
    if not any(is_lit(frame[::4, ::4]) for frame in frames):
        raise InputError(f"{name}: is dark; open the camera's cover, or turn on the light")
    if not still and is_still(motion_levels(frames)):
        raise InputError(f"{name}: nothing moves in it; a clip shows an action from start to end")


def _free_path(folder: Path, name: str, suffix: str) -> Path:
    """A path that is free, under the user's name for the file or the next number."""
    stem = re.sub(r"[\x00-\x1f/\\]", " ", Path(name.replace("\\", "/")).stem).strip(" ._-")
    while len(stem.encode("utf-8", "replace")) > _LONGEST:
        stem = stem[:-1]
    stem = stem.encode("utf-8", "ignore").decode()
    if not stem:
        taken = folder.iterdir() if folder.is_dir() else ()
        numbers = [int(found[1]) for path in taken if (found := _NAME.fullmatch(path.name))]
        return folder / f"{max(numbers, default=0) + 1:03d}{suffix}"
    path, number = folder / f"{stem}{suffix}", 1
    while path.exists():
        number += 1
        path = folder / f"{stem}-{number}{suffix}"
    return path


def _id_of(path: Path, root: Path) -> str:
    name = os.fsencode(path.relative_to(root))
    return hashlib.sha256(name).hexdigest()[:16]
