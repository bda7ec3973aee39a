"""Unusual videos whose frames show their own number, so that a test can tell which frame was taken
without the code under test.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

BITS = (3, 3)  # rows, columns of blocks; each is one bit of the frame's number
DARK, LIGHT = 40, 215


def numbered(number: int, width: int = 96, height: int = 96) -> np.ndarray:
    """A grey picture, (H, W, 3) uint8, whose blocks spell ``number`` in binary."""
    rows = np.arange(height) * BITS[0] // height
    columns = np.arange(width) * BITS[1] // width
    bit = rows[:, None] * BITS[1] + columns[None, :]
    grey = np.where((number >> bit) & 1, LIGHT, DARK).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


def number_of(picture: np.ndarray) -> int:
    """Reads the number back from a picture of any size, (H, W, 3)."""
    height, width = picture.shape[:2]
    number = 0
    for row in range(BITS[0]):
        for column in range(BITS[1]):
            y = slice(height * (3 * row + 1) // 9, max(height * (3 * row + 2) // 9, 1))
            x = slice(width * (3 * column + 1) // 9, max(width * (3 * column + 2) // 9, 1))
            number |= int(picture[y, x].mean() > 128) << (row * BITS[1] + column)
    return number


def expected_frames(
    pts: Sequence[int],
    last: int,
    frames: int,
    start: Fraction | None = None,
    end: Fraction | None = None,
    base: Fraction = Fraction(1),
) -> list[int]:
    """The frames that are to be taken, in exact fractions: at the middle of segment i of T,
    the last frame whose timestamp is no later. ``last`` is how long the last frame is shown.
    """
    first, stop = min(pts), max(pts) + last
    begin = first if start is None else first + start / base
    length = (stop if end is None else first + end / base) - begin
    order = sorted(range(len(pts)), key=lambda number: pts[number])
    taken = []
    for segment in range(frames):
        moment = begin + Fraction(length) * (2 * segment + 1) / (2 * frames)
        taken.append([number for number in order if pts[number] <= moment][-1])
    return taken


def write_numbered(
    path: Path,
    pts: Sequence[int] = tuple(range(30)),
    *,
    base: Fraction = Fraction(1, 25),
    codec: str = "libx264",
    layout: str = "yuv420p",
    size: tuple[int, int] = (96, 96),
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    container_format: str | None = None,
    picture: Callable[[int, int, int], np.ndarray] = numbered,
    frame_layout: str = "rgb24",
    adjust: Callable[[Any], None] | None = None,
    change: Callable[[Any, int], None] | None = None,
) -> Path:
    """Writes a video of numbered frames with the given timestamps.

    Args:
        adjust: Sets other properties of the stream (colour tags, aspect, rotation).
        change: Modifies each packet before it is written.
    """
    width, height = size
    chosen = {"crf": "12", "preset": "ultrafast"} if codec == "libx264" else {}
    with av.open(
        str(path), "w", format=container_format, options=container_options or {}
    ) as output:
        stream = output.add_stream(codec, rate=Fraction(1) / base, options=options or chosen)
        stream.width, stream.height, stream.pix_fmt = width, height, layout
        stream.codec_context.time_base = base
        if adjust is not None:
            adjust(stream)
        written = 0

        def mux(packets: Any) -> None:
            nonlocal written
            for packet in packets:
                if change is not None:
                    change(packet, written)
                written += 1
                output.mux(packet)

        for number, stamp in enumerate(pts):
            frame = frame_of(picture(number, width, height), frame_layout)
            if frame_layout != layout:
                frame = frame.reformat(format=layout)
            frame.pts, frame.time_base = stamp, base
            mux(stream.encode(frame))
        mux(stream.encode(None))
    return path


def frame_of(pixels: np.ndarray, layout: str) -> av.VideoFrame:
    """A frame of these pixels; planes of 4:4:4 are (3, H, W), 16 bits where the layout has more
    than 8, which PyAV does not take from an array.
    """
    if not layout.startswith("yuv444"):
        return av.VideoFrame.from_ndarray(pixels, layout)
    _, height, width = pixels.shape
    frame = av.VideoFrame(width, height, layout)
    for plane, values in zip(frame.planes, pixels, strict=True):
        line = plane.line_size // values.itemsize
        plane.update(np.pad(values, ((0, 0), (0, line - width))).tobytes())
    return frame


class Numbered:
    """The helpers above, as one fixture."""

    picture = staticmethod(numbered)
    number_of = staticmethod(number_of)
    expected = staticmethod(expected_frames)
    write = staticmethod(write_numbered)


@pytest.fixture(scope="session")
def make() -> type[Numbered]:
    """Writes numbered videos and reads the numbers back."""
    return Numbered
