"""The part of the coded picture that a Matroska or WebM file shows (RFC 9559, PixelCrop*).

Neither FFmpeg's decoders nor PyAV apply it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from mafsar.video import ebml

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

_SIDES = {0x54CC: "left", 0x54BB: "top", 0x54DD: "right", 0x54AA: "bottom"}
_MAX_TRACKS_BYTES = 1 << 20


@dataclass(frozen=True)
class Crop:
    """Pixels to remove at each side of the coded picture."""

    left: int = 0
    top: int = 0
    right: int = 0
    bottom: int = 0

    def apply(self, pixels: np.ndarray, width: int, height: int) -> np.ndarray:
        """Cuts a picture that was made from a coded one of ``width`` x ``height``, (H, W, 3)."""
        x, y = pixels.shape[1] / width, pixels.shape[0] / height
        rows = slice(round(self.top * y), round((height - self.bottom) * y))
        columns = slice(round(self.left * x), round((width - self.right) * x))
        return np.ascontiguousarray(pixels[rows, columns])

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Returns width and height of what is left."""
        return width - self.left - self.right, height - self.top - self.bottom


def crop_of(path: Path | str, container: InputContainer, stream: VideoStream) -> Crop | None:
    """Returns the crop of a stream; None where the file has none, or one that leaves nothing."""
    if not container.format.name.startswith("matroska"):
        return None
    with Path(path).open("rb") as file:
        crops = _crops(file)
    crop = crops[stream.index] if stream.index < len(crops) else Crop()
    width, height = crop.size(stream.width, stream.height)
    return crop if crop != Crop() and width > 0 and height > 0 else None


def _crops(file: BinaryIO) -> list[Crop]:
    """The crop of each track, in the order of the file."""
    size = file.seek(0, 2)
    for name, begin, end in ebml.elements(file, 0, size):
        if name != ebml.SEGMENT:
            continue
        for inner, start, stop in ebml.elements(file, begin, end):
            if inner == ebml.CLUSTER:
                return []
            if inner == ebml.TRACKS and stop - start <= _MAX_TRACKS_BYTES:
                return [
                    _track(file, first, last)
                    for kind, first, last in ebml.elements(file, start, stop)
                    if kind == ebml.TRACK
                ]
    return []


def _track(file: BinaryIO, begin: int, end: int) -> Crop:
    sides: dict[str, int] = {}
    for name, start, stop in ebml.elements(file, begin, end):
        if name != ebml.VIDEO:
            continue
        for side, first, last in ebml.elements(file, start, stop):
            if side in _SIDES and last - first <= 8:
                sides[_SIDES[side]] = ebml.number(file, first, last)
    return Crop(**sides)
