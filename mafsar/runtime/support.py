"""Reading a support: class folders, frame folders or a CSV → labelled clips.

Labels are Unicode, compared in NFC and printed as given.
"""

from __future__ import annotations

import csv
import difflib
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mafsar.errors import InputError, MissingError
from mafsar.video.source import find_clips, is_system_file, is_video, natural_key

NONE_FOLDER = "_none"
TEXT_TABLE = "labels.csv"
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
    """

    path: Path
    classes: tuple[SupportClass, ...]
    clips: tuple[SupportClip, ...]
    none_clips: tuple[SupportClip, ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes' labels, in order."""
        return tuple(item.label for item in self.classes)

    def __repr__(self) -> str:
        return (
            f"SupportSet({str(self.path)!r}, {len(self.classes)} classes, {len(self.clips)} clips)"
        )


def nfc(label: str) -> str:
    """The form in which labels are compared."""
    return unicodedata.normalize("NFC", label.strip())


def label_words(label: str) -> str:
    """The text of a label: underscores and CamelCase become words.

    >>> label_words("PlayingTVGames"), label_words("brush_hair")
    ('Playing TV Games', 'brush hair')
    """
    label = nfc(label).replace("_", " ")
    pieces: list[str] = []
    for i, letter in enumerate(label):
        before = label[i - 1] if i else " "
        after = label[i + 1] if i + 1 < len(label) else " "
        starts_word = letter.isupper() and (
            before.islower() or before.isdigit() or (before.isupper() and after.islower())
        )
        pieces.append(f" {letter}" if starts_word else letter)
    return " ".join("".join(pieces).split())


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
    for line, row in _rows(path, ("path", "label", "start", "end"), required=2):
        where = f"{path} line {line}"
        clip_path = path.parent / row["path"]
        if not clip_path.exists():
            raise MissingError(f"{where}: no such clip: {clip_path}; paths are relative to the CSV")
        start, end = (_seconds(row[name], name, where) for name in ("start", "end"))
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


def _seconds(value: str, name: str, where: str) -> float | None:
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0.0 <= seconds < float("inf"):
        raise InputError(f"{where}: {name} must be seconds ≥ 0, got {value!r}")
    return seconds


def _rows(
    path: Path, columns: Sequence[str], *, required: int
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields (line number, row by column); a first line that names the columns orders them."""
    expected = ",".join(columns[:required]) + "".join(f"[,{name}]" for name in columns[required:])
    order = list(columns)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            for first, cells in enumerate(reader):
                cells = [cell.strip() for cell in cells]
                if not any(cells) or cells[0].startswith("#"):
                    continue
                if first == 0 and {cell.lower() for cell in cells} >= set(columns[:required]):
                    order = [cell.lower() for cell in cells]
                    continue
                row = dict.fromkeys(columns, "") | dict(zip(order, cells, strict=False))
                if len(cells) > len(order) or not all(row[name] for name in columns[:required]):
                    raise InputError(
                        f"{path} line {reader.line_num}: expected {expected}, got {','.join(cells)}"
                    )
                yield reader.line_num, row
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from error
    except csv.Error as error:
        raise InputError(f"{path} line {reader.line_num}: {error}; expected {expected}") from error


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
    texts = _read_texts(table, labels)
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


def _read_texts(table: Path, labels: dict[str, str]) -> dict[str, str]:
    """The table `folder,text`, by NFC label."""
    if not table.is_file():
        return {}
    texts: dict[str, str] = {}
    for line, row in _rows(table, ("folder", "text"), required=2):
        key = nfc(row["folder"])
        if key not in labels:
            near = difflib.get_close_matches(key, labels, 1)
            hint = f"did you mean {labels[near[0]]!r}?" if near else "remove the line"
            raise InputError(f"{table} line {line}: no class {row['folder']!r}; {hint}")
        texts[key] = row["text"]
    return texts


def _order(clip: SupportClip) -> tuple[str, list[tuple[int, int, str]], float]:
    return nfc(clip.label or ""), natural_key(str(clip.path)), clip.start or 0.0
