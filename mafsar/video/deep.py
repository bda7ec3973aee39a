"""Grey pictures of more than 8 bits (depth, thermal, scientific), shown by their clip's own range."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

Span = tuple[float, float]
"""The lowest and highest value of a clip's deep pictures, which become black and white."""

FULL = 65535
"""The highest value of 16 bits."""
_LIMITED = 1


def value_span(values: np.ndarray) -> Span | None:
    """The lowest and highest value of a deep picture; None where it has none.

    Values that are not finite, and a whole number of 16 ones where all others are low, mark places
    without a measurement.
    """
    if values.dtype.kind == "f":
        values = values[np.isfinite(values)]
        return (float(values.min()), float(values.max())) if values.size else None
    low, high = float(values.min()), float(values.max())
    if high == FULL:
        measured = values[values != FULL]
        if measured.size and measured.max() <= FULL // 2:
            high = float(measured.max())
    return low, high


def span_of(values: Sequence[Span], *, full: float | None = FULL) -> Span | None:
    """The span that a clip's deep pictures are shown with; None to show them as they are.

    Pictures that use half of their scale or more are shown as they are.

    Args:
        values: Lowest and highest value of each picture looked at.
        full: The highest value of their scale; None for float, which has none.
    """
    if not values:
        return None
    low, high = min(low for low, _ in values), max(high for _, high in values)
    fills = full is not None and low >= 0 and high <= full and high - low >= (full + 1) / 2
    return None if high <= low or fills else (low, high)


def describe_span(span: Span) -> str:
    """What is said of a clip that is shown by its own range."""
    return f"its deep grey values from {span[0]:g} to {span[1]:g} become 0 to 255"


def to_grey(values: np.ndarray, span: Span | None, *, full: float = FULL) -> np.ndarray:
    """8-bit grey of deep values, (H, W)."""
    if span is None and values.dtype.kind == "f":
        return np.asarray(np.nan_to_num(values, nan=0.0).clip(0, 255), np.uint8)
    if span is None and full == FULL:
        return np.asarray((values.astype(np.int64) >> 8).clip(0, 255), np.uint8)
    low, high = span or (0.0, full)
    scaled = (values.astype(np.float32) - np.float32(low)) * np.float32(255 / (high - low))
    scaled = np.nan_to_num(scaled, nan=0.0, posinf=255.0, neginf=0.0)
    return np.asarray(np.rint(scaled.clip(0, 255)), np.uint8)


def frame_values(frame: VideoFrame) -> tuple[np.ndarray, float | None] | None:
    """The values of a deep grey frame, (H, W), and the highest of their scale (None for float).

    Returns:
        None for every other frame.
    """
    found = re.fullmatch(r"gray(9|10|12|14|16|32|f32)(le|be)", frame.format.name)
    if found is None or found[1] == "32":
        return None
    order = "<" if found[2] == "le" else ">"
    kind = np.dtype(order + ("f4" if found[1] == "f32" else "u2"))
    plane = frame.planes[0]
    rows = np.frombuffer(memoryview(plane), kind).reshape(-1, plane.line_size // kind.itemsize)
    values = rows[: frame.height, : frame.width]
    if found[1] == "f32":
        return values, None
    bits = int(found[1])
    if frame.color_range == _LIMITED:
        least = 16 << (bits - 8)
        span = 219 << (bits - 8)
        values = ((values.astype(np.int64) - least).clip(0, span) * ((1 << bits) - 1)) // span
    return values, float((1 << bits) - 1)


def frames_span(frames: Sequence[VideoFrame]) -> Span | None:
    """The span that a clip's frames are shown with; None where they are not deep grey."""
    if not frames or frame_values(frames[0]) is None:
        return None
    found = [item for item in map(frame_values, frames) if item is not None]
    spans = [span for span in (value_span(values) for values, _ in found) if span is not None]
    return span_of(spans, full=found[0][1])
