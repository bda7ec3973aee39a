"""Reading a support: class folders, frame folders or a CSV → labelled clips.

Labels are Unicode, compared in NFC and printed as given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mafsar.data.labels import NONE_FOLDER, TEXT_TABLE, label_words, nfc
from mafsar.data.store import Store
from mafsar.data.tables import read_rows, read_seconds, read_texts, unknown_header
from mafsar.errors import InputError, MissingError
from mafsar.video.source import find_clips, is_system_file, is_video, natural_key

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
class SupportClip:
    """One clip of a support.

    Attributes:
        path: Video file, image or frame folder.
        label: Its class; None for a clip of nothing.
        start: First second taken, or None for the beginning.
        end: Last second taken, or None for the end.
    """

    path: Path
    label: str | None
    start: float | None = None
    end: float | None = None

    @property
    def name(self) -> str:
        """Path and, where given, the seconds taken, for messages and reports."""
        if self.start is None and self.end is None:
            return str(self.path)
        start = "" if self.start is None else f"{self.start:g}"
        end = "" if self.end is None else f"{self.end:g}"
        return f"{self.path}[{start}–{end} s]"


@dataclass(frozen=True)
class SupportSet:
    """The classes and clips that a user gave.

    Attributes:
        path: Folder or CSV it was read from.
        classes: In order of label.
        clips: Clips of the classes, in order of class and path.
        none_clips: Clips of nothing (`_none`).
        notes: What was passed over, one sentence each.
        store: The packed data set that holds their frames, each clip's path being its name there;
            None: the paths are files.
    """

    path: Path
    classes: tuple[SupportClass, ...]
    clips: tuple[SupportClip, ...]
    none_clips: tuple[SupportClip, ...] = ()
    notes: tuple[str, ...] = field(default=())
    store: Store | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes' labels, in order."""
        return tuple(item.label for item in self.classes)

    def __repr__(self) -> str:
        return (
            f"SupportSet({str(self.path)!r}, {len(self.classes)} classes, {len(self.clips)} clips)"
        )


def read_support(path: str | Path) -> SupportSet:
    """Reads a support folder or CSV.

    Args:
        path: A folder of class folders, or a CSV `path,label[,start,end]`.

    Raises:
        MissingError: Nothing is there, or a clip that the CSV names is not.
        InputError: It holds no class, a class has no clip, or a line cannot be read.
    """
    path = Path(path)
    if not path.exists():
        raise MissingError(f"{path}: no such support; {_LAYOUT}")
    if path.is_dir():
        return _read_folder(path)
    if path.suffix.lower() in {".csv", ".txt"}:
        return _read_csv(path)
    raise InputError(f"{path}: not a support; {_LAYOUT}, or a bank (.safetensors)")


def _read_folder(root: Path) -> SupportSet:
    entries = sorted(
        (entry for entry in root.iterdir() if not is_system_file(entry)),
        key=lambda entry: nfc(entry.name),
    )
    folders = [entry for entry in entries if entry.is_dir()]
    loose = [entry for entry in entries if is_video(entry)]
    if not any(folder.name != NONE_FOLDER for folder in folders):
        why = f"{len(loose)} clips but no class folder" if loose else "no class folder"
        raise InputError(f"{root}: {why}; {_LAYOUT}")
    clips: list[SupportClip] = []
    none_clips: list[SupportClip] = []
    for folder in folders:
        found = find_clips(folder)
        if not found:
            raise InputError(
                f"{folder}: a class folder without a clip; add a video or a frame folder, "
                "or remove the folder"
            )
        if folder.name == NONE_FOLDER:
            none_clips += [SupportClip(clip, None) for clip in found]
        else:
            clips += [SupportClip(clip, folder.name) for clip in found]
    notes: tuple[str, ...] = ()
    if loose:
        notes = (f"{root}: {len(loose)} clips beside the class folders were passed over",)
    return _assemble(root, clips, none_clips, root / TEXT_TABLE, notes)


def _read_csv(path: Path) -> SupportSet:
    clips: list[SupportClip] = []
    none_clips: list[SupportClip] = []
    for line, row in read_rows(path, ("path", "label", "start", "end"), required=2):
        where = f"{path} line {line}"
        clip_path = path.parent / row["path"]
        if not clip_path.exists() and line == 1 and not Path(row["path"]).suffix:
            raise unknown_header(path, row, "clip", "path,label[,start,end]")
        if not clip_path.exists():
            raise MissingError(f"{where}: no such clip: {clip_path}; paths are relative to the CSV")
        start, end = (read_seconds(row[name], name, where) for name in ("start", "end"))
        if end is not None and end <= (start or 0.0):
            raise InputError(f"{where}: end must be after start, got {start or 0:g} and {end:g}")
        if nfc(row["label"]) == NONE_FOLDER:
            none_clips.append(SupportClip(clip_path, None, start, end))
        else:
            clips.append(SupportClip(clip_path, row["label"], start, end))
    if not clips:
        raise InputError(f"{path}: no clip of any class; {_LAYOUT}")
    texts = path.parent / TEXT_TABLE
    return _assemble(path, clips, none_clips, texts, ())


def _assemble(
    path: Path,
    clips: Sequence[SupportClip],
    none_clips: Sequence[SupportClip],
    table: Path,
    notes: tuple[str, ...],
) -> SupportSet:
    """Joins spellings that NFC makes equal, sorts, and gives every class its text."""
    labels: dict[str, str] = {}
    for clip in clips:
        if clip.label is not None:
            labels.setdefault(nfc(clip.label), clip.label)
    texts = read_texts(table, labels)
    classes = tuple(
        SupportClass(labels[key], texts.get(key, label_words(labels[key])))
        for key in sorted(labels)
    )
    ordered = sorted(clips, key=_order)
    joined = [
        SupportClip(clip.path, labels[nfc(clip.label or "")], clip.start, clip.end)
        for clip in ordered
    ]
    return SupportSet(path, classes, tuple(joined), tuple(none_clips), notes)


def _order(clip: SupportClip) -> tuple[str, list[tuple[int, int, str]], float]:
    return nfc(clip.label or ""), natural_key(str(clip.path)), clip.start or 0.0
