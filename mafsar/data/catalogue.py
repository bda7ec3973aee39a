"""A labelled data set as found on disk: its classes, its clips, and the clips that are missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mafsar.data.labelled import LabelledClip
from mafsar.data.presets import Preset
from mafsar.data.splits import PARTS, Part
from mafsar.errors import InputError, option
from mafsar.video.source import natural_key


@dataclass(frozen=True)
class DataClass:
    """One class.

    Attributes:
        label: As the preset or the folder has it.
        text: What a text tower reads; None if the name is unknown (validation of `ssv2_full`).
        part: Train, val or test.
    """

    label: str
    text: str | None
    part: Part


@dataclass(frozen=True)
class PartData:
    """The classes and clips of one part, by index.

    Attributes:
        labels: The classes' labels.
        texts: The classes' texts.
        clips: The clips found.
        class_index: Class of each clip, (n,), int64.
    """

    labels: tuple[str, ...]
    texts: tuple[str | None, ...]
    clips: tuple[LabelledClip, ...]
    class_index: NDArray[np.int64]


@dataclass(frozen=True, repr=False)
class Catalogue:
    """A data set.

    Attributes:
        title: Name in messages.
        root: Folder or file that it was read from.
        classes: In order of part and label.
        clips: The clips found, in order of class and name.
        missing: Clips that a list or table names but that were not found.
        preset: The standard data set that it is, or None.
        absent: Classes that a split names but the data does not have, with their part.
        notes: What was skipped or unusual, one sentence each.
    """

    title: str
    root: Path
    classes: tuple[DataClass, ...]
    clips: tuple[LabelledClip, ...]
    missing: tuple[LabelledClip, ...] = ()
    preset: Preset | None = None
    absent: tuple[tuple[Part, str], ...] = ()
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return (
            f"Catalogue({self.title}, {len(self.classes)} classes, {len(self.clips)} clips, "
            f"{len(self.missing)} missing)"
        )

    def select(self, part: Part) -> PartData:
        """The classes and clips of a part.

        Raises:
            InputError: The part has no class.
        """
        classes = [item for item in self.classes if item.part == part]
        if not classes:
            raise InputError(
                f"{self.title}: part {part} has no class; name its classes with ", option("split")
            )
        index = {item.label: i for i, item in enumerate(classes)}
        clips = tuple(clip for clip in self.clips if clip.part == part)
        class_index = np.array([index[clip.label] for clip in clips], dtype=np.int64)
        labels = tuple(item.label for item in classes)
        return PartData(labels, tuple(item.text for item in classes), clips, class_index)


def assemble(
    title: str,
    root: Path,
    classes: Sequence[DataClass],
    clips: Sequence[LabelledClip],
    *,
    preset: Preset | None = None,
    absent: Sequence[tuple[Part, str]] = (),
    notes: Sequence[str] = (),
) -> Catalogue:
    """Sorts classes and clips, separates missing clips, and drops clips that are listed twice.

    Raises:
        InputError: A clip is in two classes.
    """
    classes = sorted(classes, key=lambda item: PARTS.index(item.part))
    order = {item.label: i for i, item in enumerate(classes)}
    unique: dict[tuple[str, str], LabelledClip] = {}
    label_of: dict[str, str] = {}
    for clip in clips:
        name = _printable(clip.name)
        unique.setdefault((clip.label, name), replace(clip, name=name))
        label = label_of.setdefault(name, clip.label)
        if label != clip.label and clip.path is not None:
            raise InputError(
                f"{title}: {name} is listed as {label!r} and as {clip.label!r}; a clip has one "
                "class; fix the lists"
            )
    kept = sorted(unique.values(), key=lambda clip: (order[clip.label], natural_key(clip.name)))
    again = len(clips) - len(unique)
    notes = list(notes)
    if again:
        notes.append(f"{again} clips are listed twice and used once")
    return Catalogue(
        title=title,
        root=root,
        classes=tuple(classes),
        clips=tuple(clip for clip in kept if clip.path is not None),
        missing=tuple(clip for clip in kept if clip.path is None),
        preset=preset,
        absent=tuple(absent),
        notes=tuple(notes),
    )


def _printable(name: str) -> str:
    """A file name as valid UTF-8: other bytes are written as ``\\xNN``."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
