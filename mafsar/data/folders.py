"""The user's own data → catalogue: class folders, frame folders or a CSV, and a split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from mafsar.data.catalogue import Catalogue, DataClass, assemble
from mafsar.data.class_folders import read_class_folders
from mafsar.data.clip_lists import metadata_of, read_clip_list
from mafsar.data.labelled import LabelledClip, seconds_taken
from mafsar.data.labels import NONE_FOLDER, TEXT_TABLE, label_words, nfc
from mafsar.data.splits import PARTS, Part, Split, read_split
from mafsar.data.tables import read_texts
from mafsar.errors import InputError, MissingError, option
from mafsar.files import exists, is_folder
from mafsar.video.find import check_chosen, choose_frames

_LAYOUT = "expected DIR/CLASS/clip.mp4, DIR/CLASS/clip/*.jpg or a CSV path,label[,start,end]"


def read_own(
    data: Path, split: Split | Path | None = None, *, frames_pattern: str | None = None
) -> Catalogue:
    """Finds the clips of class folders or a CSV.

    Args:
        data: A folder of class folders, or a CSV `path,label[,start,end]`.
        split: Which classes are for training, validation and testing; None = every class is a
            test class.
        frames_pattern: Which pictures are frames in folders that hold several kinds.

    Raises:
        MissingError: The folder or file does not exist.
        InputError: It contains no class, or a line cannot be read.
    """
    if not exists(data):
        raise MissingError(option(data=data), f": no such folder or file; {_LAYOUT}")
    metadata = metadata_of(data) if is_folder(data) else data
    if metadata is None:
        clips, notes = _folder_clips(data, frames_pattern)
    else:
        clips, notes = _listed_clips(metadata, frames_pattern)
    check_chosen([clip.path for clip in clips], frames_pattern, data)
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


def _folder_clips(root: Path, pattern: str | None) -> tuple[list[LabelledClip], list[str]]:
    found = read_class_folders(root, argument="data")
    clips: list[LabelledClip] = []
    notes = list(found.notes)
    for folder in found.folders:
        if folder.path.name == NONE_FOLDER:
            notes.append(f"{folder.path}: background clips have no class and were skipped")
            continue
        if not folder.clips:
            notes.append(f"{folder.path}: a class folder without a clip")
        for clip, path in zip(folder.clips, choose_frames(folder.clips, pattern), strict=True):
            name = clip.relative_to(root).as_posix()
            clips.append(LabelledClip(path, folder.path.name, name=name, part="test"))
    if not clips:
        raise InputError(option(data=root), f": no class folder contains a clip; {_LAYOUT}")
    return clips, notes


def _listed_clips(table: Path, pattern: str | None) -> tuple[list[LabelledClip], list[str]]:
    clips: list[LabelledClip] = []
    found = read_clip_list(table)
    notes = list(found.notes)
    background = 0
    for row in found.rows:
        if nfc(row.label) == NONE_FOLDER:
            background += 1
            continue
        name = Path(row.listed).as_posix() + seconds_taken(row.start, row.end)
        there = choose_frames([row.path], pattern)[0] if row.exists else None
        clips.append(LabelledClip(there, row.label, row.start, row.end, name, "test"))
    if background:
        notes.append(f"{background} background clips ({NONE_FOLDER}) have no class; skipped")
    if not clips:
        raise InputError(option(data=table), f": no clip of any class; {_LAYOUT}")
    return clips, notes
