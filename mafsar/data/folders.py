"""The user's own data → catalogue: class folders, frame folders or a CSV, and a split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from mafsar.data.catalogue import Catalogue, DataClass, assemble
from mafsar.data.labelled import LabelledClip, seconds_taken
from mafsar.data.labels import NONE_FOLDER, TEXT_TABLE, label_words, nfc
from mafsar.data.splits import PARTS, Part, Split, read_split
from mafsar.data.tables import read_rows, read_seconds, read_texts, unknown_header
from mafsar.errors import InputError, MissingError, option
from mafsar.files import exists, is_folder
from mafsar.video.source import find_clips, is_system_file

_LAYOUT = "expected DIR/CLASS/clip.mp4, DIR/CLASS/clip/*.jpg or a CSV path,label[,start,end]"


def read_own(data: Path, split: Split | Path | None = None) -> Catalogue:
    """Finds the clips of class folders or a CSV.

    Args:
        data: A folder of class folders, or a CSV `path,label[,start,end]`.
        split: Which classes are for training, validation and testing; None = every class is a
            test class.

    Raises:
        MissingError: The folder or file does not exist.
        InputError: It contains no class, or a line cannot be read.
    """
    if not exists(data):
        raise MissingError(option(data=data), f": no such folder or file; {_LAYOUT}")
    if is_folder(data):
        clips, notes = _folder_clips(data)
    else:
        clips, notes = _table_clips(data)
    labels: dict[str, str] = {}
    for clip in clips:
        labels.setdefault(nfc(clip.label), clip.label)
    texts = read_texts((data if is_folder(data) else data.parent) / TEXT_TABLE, labels)
    split = read_split(split) if isinstance(split, Path) else split
    parts, absent = _parts(labels, split)
    unused = [label for key, label in labels.items() if key not in parts]
    if unused:
        notes.append(
            f"{len(unused)} classes are in no part of the split and were skipped "
            f"({', '.join(unused[:3])}{', …' if len(unused) > 3 else ''})"
        )
    classes = [
        DataClass(labels[key], texts.get(key, label_words(labels[key])), part)
        for key, part in sorted(parts.items())
    ]
    kept = [
        replace(clip, label=labels[nfc(clip.label)], part=parts[nfc(clip.label)])
        for clip in clips
        if nfc(clip.label) in parts
    ]
    return assemble(str(data), data, classes, kept, absent=absent, notes=notes)


def _parts(
    labels: Mapping[str, str], split: Split | None
) -> tuple[dict[str, Part], list[tuple[Part, str]]]:
    """The part of each class found, and the classes that only the split names."""
    if split is None:
        return dict.fromkeys(labels, "test"), []
    parts: dict[str, Part] = {}
    absent: list[tuple[Part, str]] = []
    for part in PARTS:
        for label in split.classes(part):
            if nfc(label) in labels:
                parts[nfc(label)] = part
            else:
                absent.append((part, label))
    return parts, absent


def _folder_clips(root: Path) -> tuple[list[LabelledClip], list[str]]:
    folders = sorted(
        (entry for entry in root.iterdir() if entry.is_dir() and not is_system_file(entry)),
        key=lambda entry: nfc(entry.name),
    )
    clips: list[LabelledClip] = []
    notes: list[str] = []
    for folder in folders:
        if folder.name == NONE_FOLDER:
            notes.append(f"{folder}: background clips have no class and were skipped")
            continue
        found = find_clips(folder)
        if not found:
            notes.append(f"{folder}: a class folder without a clip")
        clips += [
            LabelledClip(path, folder.name, name=path.relative_to(root).as_posix(), part="test")
            for path in found
        ]
    if not clips:
        raise InputError(option(data=root), f": no class folder contains a clip; {_LAYOUT}")
    return clips, notes


def _table_clips(table: Path) -> tuple[list[LabelledClip], list[str]]:
    clips: list[LabelledClip] = []
    notes: list[str] = []
    background = 0
    for line, row in read_rows(table, ("path", "label", "start", "end"), required=2):
        where = f"{table} line {line}"
        path = table.parent / row["path"]
        if line == 1 and not path.suffix and not exists(path):
            raise unknown_header(table, row, "clip", "path,label[,start,end]")
        start, end = (read_seconds(row[name], name, where) for name in ("start", "end"))
        if end is not None and end <= (start or 0.0):
            raise InputError(f"{where}: end must be after start, got {start or 0:g} and {end:g}")
        if nfc(row["label"]) == NONE_FOLDER:
            background += 1
            continue
        name = Path(row["path"]).as_posix() + seconds_taken(start, end)
        there = path if exists(path) else None
        clips.append(LabelledClip(there, row["label"], start, end, name, "test"))
    if background:
        notes.append(f"{background} background clips ({NONE_FOLDER}) have no class; skipped")
    if not clips:
        raise InputError(option(data=table), f": no clip of any class; {_LAYOUT}")
    return clips, notes
