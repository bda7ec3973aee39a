"""A clip and its class, whatever the source."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mafsar.data.labels import NONE_FOLDER, nfc

if TYPE_CHECKING:
    from mafsar.data.splits import Part
    from mafsar.video import MemoryClip


@dataclass(frozen=True)
class LabelledClip:
    """One clip with its class, from a support, a data set or a packed data set.

    Attributes:
        path: Video file, image or frame folder; None for a listed clip that is missing, and for
            frames in memory.
        label: Its class; `_none` for a background clip.
        start: First second taken, or None for the beginning.
        end: Last second taken, or None for the end.
        name: Name in messages and reports. In a data set: its path relative to the data, posix,
            unique within its class. Default: the path and, if given, the seconds taken.
        part: Part of the data set that its class belongs to; None outside a data set.
        array: The frames, if they are in memory.
    """

    path: Path | None
    label: str
    start: float | None = None
    end: float | None = None
    name: str = ""
    part: Part | None = None
    array: MemoryClip | None = None

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", f"{self.path}{seconds_taken(self.start, self.end)}")

    @property
    def is_background(self) -> bool:
        """Whether it is a background clip, which belongs to no class."""
        return nfc(self.label) == NONE_FOLDER

    @property
    def source(self) -> Path | MemoryClip:
        """The path, or the frames in memory."""
        if self.array is not None:
            return self.array
        assert self.path is not None, (
            f"{self.name} is missing; only clips that were found can be read"
        )
        return self.path


def seconds_taken(start: float | None, end: float | None) -> str:
    """The seconds taken of a clip as part of its name, as ``[1.5–3 s]``; empty for all of it."""
    if start is None and end is None:
        return ""
    first = "" if start is None else f"{start:g}"
    last = "" if end is None else f"{end:g}"
    return f"[{first}–{last} s]"
