"""Reads a support: class folders, a CSV, or clips by label.

Labels are Unicode, compared in NFC and printed as given.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mafsar.choices import OnError
from mafsar.data.labelled import LabelledClip
from mafsar.data.labels import NONE_FOLDER, TEXT_TABLE, label_words, nfc
from mafsar.data.tables import read_texts
from mafsar.errors import ArgumentTypeError, InputError, MafsarError, MissingError, option
from mafsar.files import exists, is_folder
from mafsar.video.array import MemoryClip, clip_source
from mafsar.video.find import check_chosen, choose_frames
from mafsar.video.frame_folder import clip_exists
from mafsar.video.source import natural_key

if TYPE_CHECKING:
    from mafsar.data.catalogue import Catalogue
    from mafsar.data.splits import Part
    from mafsar.data.store import Store

_LAYOUT = (
    "expected SUPPORT/CLASS/clip.mp4, SUPPORT/CLASS/clip/*.jpg or a CSV path,label[,start,end]"
)


@dataclass(frozen=True)
class SupportClass:
    """One action.

    Attributes:
        label: The name, as the user wrote it.
        text: What the model's text tower reads.
    """

    label: str
    text: str


@dataclass(frozen=True)
class SupportSet:
    """The classes and clips that a user gave.

    Attributes:
        path: Folder or CSV that it was read from; `support` for clips by label.
        classes: In order of label.
        clips: Clips of the classes, in order of class and path.
        none_clips: Background clips (`_none`).
        notes: What was skipped, one sentence each.
        missing: The errors of listed clips that do not exist, where these are left out.
        store: The packed data set that holds their frames; None = the paths are files.
    """

    path: Path
    classes: tuple[SupportClass, ...]
    clips: tuple[LabelledClip, ...]
    none_clips: tuple[LabelledClip, ...] = ()
    notes: tuple[str, ...] = field(default=())
    missing: tuple[MafsarError, ...] = ()
    store: Store | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes' labels, in order."""
        return tuple(item.label for item in self.classes)

    def __repr__(self) -> str:
        return (
            f"SupportSet({str(self.path)!r}, {len(self.classes)} classes, {len(self.clips)} clips)"
        )


def read_support(
    support: SupportSet | str | Path | Mapping[str, Iterable[Any]],
    *,
    fps: float | None = None,
    times: Sequence[float] | None = None,
    frames_pattern: str | None = None,
    on_error: OnError = "raise",
) -> SupportSet:
    """Reads a support.

    Args:
        support: A folder of class folders, a CSV `path,label[,start,end]`, or clips by label:
            `{"wave": [path, array, list of frames, list of PIL images, …]}`.
        fps: Frames per second of the clips in memory.
        times: Instead of `fps`: when each frame of a clip in memory is first shown, seconds.
        frames_pattern: Which pictures are frames in folders that hold several kinds, for example
            `img_{:05d}.jpg`, or `img_{:05d}.jpg?start=5&fps=25`.
        on_error: "skip" leaves out listed clips that do not exist; their errors are in `missing`.

    Raises:
        MissingError: The support does not exist, or a clip that it names does not.
        InputError: It contains no class, a class has no clip, a clip is of another type, or a line
            of the CSV cannot be read.
        ArgumentTypeError: `support` is neither a path nor a mapping.
    """
    if isinstance(support, Mapping):
        return _read_mapping(support, fps, times, on_error)
    if fps is not None or times is not None:
        raise _clock_of_files()
    if isinstance(support, SupportSet):
        return support
    if not isinstance(support, (str, os.PathLike)):
        raise ArgumentTypeError(
            option("support"),
            ": must be a path, or a dict that gives each label a list of clips, got "
            f"{type(support).__name__}",
        )
    from mafsar.data.clip_lists import LIST_ENDINGS

    path = Path(support)
    if not exists(path):
        raise MissingError(f"{path}: no such support; {_LAYOUT}")
    if is_folder(path):
        return _read_folder(path, frames_pattern, on_error)
    if path.suffix.lower() in LIST_ENDINGS:
        return _read_list(path, frames_pattern, on_error)
    raise InputError(f"{path}: not a support; {_LAYOUT}, or a bank (.safetensors)")


def _read_folder(root: Path, pattern: str | None, on_error: OnError) -> SupportSet:
    from mafsar.data.class_folders import read_class_folders
    from mafsar.data.clip_lists import metadata_of

    metadata = metadata_of(root)
    if metadata is not None:
        return _read_list(metadata, pattern, on_error)
    found = read_class_folders(root, argument="support")
    loose = found.loose
    if not any(folder.path.name != NONE_FOLDER for folder in found.folders):
        why = f"{len(loose)} clips but no class folder" if loose else "no class folder"
        raise InputError(f"{root}: {why}; {_LAYOUT}")
    clips: list[LabelledClip] = []
    none_clips: list[LabelledClip] = []
    for folder in found.folders:
        if not folder.clips:
            raise InputError(
                f"{folder.path}: a class folder without a clip; add a video or a frame folder, "
                "or remove the folder"
            )
        paths = choose_frames(folder.clips, pattern)
        if folder.path.name == NONE_FOLDER:
            none_clips += [LabelledClip(clip, NONE_FOLDER) for clip in paths]
        else:
            clips += [LabelledClip(clip, folder.path.name) for clip in paths]
    notes = found.notes
    if loose:
        notes += (f"{root}: {len(loose)} clips beside the class folders were skipped",)
    check_chosen([clip.path for clip in clips], pattern, root)
    return _assemble(root, clips, none_clips, found.root / TEXT_TABLE, notes)


def _read_list(path: Path, pattern: str | None, on_error: OnError) -> SupportSet:
    from mafsar.data.clip_lists import read_clip_list

    clips: list[LabelledClip] = []
    none_clips: list[LabelledClip] = []
    missing: list[MafsarError] = []
    found = read_clip_list(path)
    for row in found.rows:
        if not row.exists:
            error = MissingError(
                f"{path} line {row.line}: no such clip: {row.path}; paths are relative to the CSV"
            )
            if on_error == "raise":
                raise error
            missing.append(error)
            continue
        (clip_path,) = choose_frames([row.path], pattern)
        if nfc(row.label) == NONE_FOLDER:
            none_clips.append(LabelledClip(clip_path, NONE_FOLDER, row.start, row.end))
        else:
            clips.append(LabelledClip(clip_path, row.label, row.start, row.end))
    if not clips and missing:
        raise missing[0]
    if not clips:
        raise InputError(f"{path}: no clip of any class; {_LAYOUT}")
    check_chosen([clip.path for clip in clips], pattern, path)
    read = _assemble(path, clips, none_clips, path.parent / TEXT_TABLE, found.notes)
    return replace(read, missing=tuple(missing))


def _read_mapping(
    support: Mapping[Any, Any],
    fps: float | None,
    times: Sequence[float] | None,
    on_error: OnError,
) -> SupportSet:
    clips: list[LabelledClip] = []
    missing: list[MafsarError] = []
    for label, sources in support.items():
        if not isinstance(label, str) or not label.strip():
            raise InputError(f"a label must be a non-empty string, got {label!r}")
        if _is_one_clip(sources) or not isinstance(sources, Iterable):
            got = repr(str(sources)) if isinstance(sources, (str, Path)) else _kind(sources)
            raise InputError(f"class {label!r}: must be a list of clips, got {got}")
        before = len(clips) + len(missing)
        for number, source in enumerate(sources, start=1):
            name = f"{label}, clip {number}"
            if isinstance(source, (str, Path)):
                path = Path(source)
                if not clip_exists(path):
                    error = MissingError(f"{name}: no such clip: {path}; check the path")
                    if on_error == "raise":
                        raise error
                    missing.append(error)
                    continue
                clips.append(LabelledClip(path, label))
                continue
            array = clip_source(source, fps=fps, times=times, name=name)
            assert isinstance(array, MemoryClip)  # paths were taken above
            clips.append(LabelledClip(None, label, name=name, array=array))
        if len(clips) + len(missing) == before:
            raise InputError(f"class {label!r} has no clip; add one or remove the class")
    shown = [clip for clip in clips if not clip.is_background]
    if not shown and missing:
        raise missing[0]
    if not shown:
        raise InputError("the support has no class; give {'wave': [clip, …], …}")
    background = [clip for clip in clips if clip.is_background]
    if (fps is not None or times is not None) and all(clip.array is None for clip in clips):
        raise _clock_of_files()
    read = _assemble(Path("support"), shown, background, Path(TEXT_TABLE), (), texts={})
    return replace(read, missing=tuple(missing))


def _is_one_clip(value: object) -> bool:
    return isinstance(value, (str, Path)) or (isinstance(value, np.ndarray) and value.ndim == 4)


def _kind(value: object) -> str:
    return f"an array {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__


def _clock_of_files() -> InputError:
    return InputError(
        option("fps"), " and ", option("times"), " are for frames in memory; files have their own "
        "clock"
    )  # fmt: skip


def _assemble(
    path: Path,
    clips: Sequence[LabelledClip],
    none_clips: Sequence[LabelledClip],
    table: Path,
    notes: tuple[str, ...],
    texts: Mapping[str, str] | None = None,
) -> SupportSet:
    """Unites labels that are equal in NFC, sorts, and gives every class its text."""
    labels: dict[str, str] = {}
    for clip in clips:
        labels.setdefault(nfc(clip.label), clip.label)
    texts = read_texts(table, labels) if texts is None else texts
    classes = tuple(
        SupportClass(labels[key], texts.get(key, label_words(labels[key])))
        for key in sorted(labels)
    )
    ordered = sorted(clips, key=_order)
    joined = [replace(clip, label=labels[nfc(clip.label)]) for clip in ordered]
    return SupportSet(path, classes, tuple(joined), tuple(none_clips), notes)


def _order(clip: LabelledClip) -> tuple[str, list[tuple[int, int, str]], float]:
    return nfc(clip.label), natural_key(str(clip.path or clip.name)), clip.start or 0.0


def part_clips(catalogue: Catalogue, part: Part) -> tuple[SupportSet, bool]:
    """The clips of one part of a data set, for evaluation.

    Args:
        catalogue: The data set; the frames of a packed one are taken from its store.
        part: Train, val or test.

    Returns:
        The clips, and whether every class has a name that a text tower can read; some classes have
        only a number.

    Raises:
        InputError: The part has no class, or a class has no clip.
    """
    from mafsar.data.store import Store, is_store

    data = catalogue.select(part)
    empty = set(data.labels) - {clip.label for clip in data.clips}
    if empty:
        raise InputError(
            f"{catalogue.title}: no clip of {', '.join(sorted(empty)[:5])} is in "
            f"{catalogue.root}; mafsar data check lists all missing clips"
        )
    classes = tuple(
        SupportClass(label, text or label)
        for label, text in zip(data.labels, data.texts, strict=True)
    )
    store = Store(catalogue.root) if is_store(catalogue.root) else None
    return SupportSet(
        catalogue.root, classes, data.clips, notes=catalogue.notes, store=store
    ), None not in data.texts
