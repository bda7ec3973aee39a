"""The clips of a bank, and what makes two of them the same."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mafsar.data.labelled import LabelledClip


@dataclass(frozen=True)
class EnrolledClip(LabelledClip):
    """One clip of a bank; `path` is where it was when it was enrolled.

    Attributes:
        content_sha256: Hash of the bytes of the file, of the frame folder or of the frames.
        size_bytes: Size of the file; 0 for a frame folder and for frames in memory.
        duration_seconds: Length of the part that was enrolled.
        ignore_clock: Frames per second that replaced the file's timestamps, or None.
    """

    content_sha256: str = ""
    size_bytes: int = 0
    duration_seconds: float = 0.0
    ignore_clock: float | None = None

    @property
    def location(self) -> str:
        """The path as text, or the name of frames that were in memory."""
        return self.name if self.path is None else str(self.path)

    @property
    def identity(self) -> tuple[str, float, float]:
        """Content and seconds taken: equal if the clips are the same."""
        return clip_identity(self.content_sha256, self.start, self.end)


def clip_identity(
    content_sha256: str, start: float | None, end: float | None
) -> tuple[str, float, float]:
    """Content and seconds taken, as a key that can be sorted."""
    return (content_sha256, start or 0.0, float("inf") if end is None else end)


def clip_size(path: Path | None) -> int:
    """Size of a clip's file in bytes; 0 for a frame folder and for frames in memory."""
    return path.stat().st_size if path is not None and path.is_file() else 0
