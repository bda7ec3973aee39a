"""One clip and the class that it shows, wherever it comes from."""

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
    """One clip with its class: of a support, of a data set, or of a packed data set.

    Attributes:
        path: Video file, image or frame folder; None where a data set lists a clip that is
            missing, and for frames in memory.
        label: Its class; `_none` for a background clip.
        start: First second taken, or None for the beginning.
        end: Last second taken, or None for the end.
        name: What messages and reports call it. Of a data set, its path relative to the data,
            posix, unique within its class. Default: the path and, where given, the seconds taken.
        part: Part of the data set that its class belongs to; None outside a data set.
        array: The frames, where they are in memory.
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
        """Whether it shows none of the classes."""
        return nfc(self.label) == NONE_FOLDER

    @property
    def source(self) -> Path | MemoryClip:
        """What the video room loads: a path, or frames in memory."""
        if self.array is not None:
            return self.array
        assert self.path is not None, f"{self.name} is missing; only clips that are there are read"
        return self.path


def seconds_taken(start: float | None, end: float | None) -> str:
    """The seconds taken of a clip as part of its name, as ``[1.5–3 s]``; empty for all of it."""
    if start is None and end is None:
        return ""
    first = "" if start is None else f"{start:g}"
    last = "" if end is None else f"{end:g}"
    return f"[{first}–{last} s]"
