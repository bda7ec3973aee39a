"""Clips of pictures that are in memory already."""

from __future__ import annotations

import functools
import hashlib
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mafsar.errors import InputError
from mafsar.video.clip import NOMINAL_FPS, Clip, Taken, converted, still_picture
from mafsar.video.geometry import Geometry
from mafsar.video.preprocess import to_square
from mafsar.video.sampling import frames_shown, segment_times

_WHOLE = Geometry()


@dataclass(frozen=True, eq=False)
class ArrayClip:
    """Frames in memory, in place of a file.

    Attributes:
        pixels: RGB, (N, H, W, 3), uint8, N ≥ 1.
        fps: Frames in a second, or None.
        times: Instead of `fps`: when each frame is first shown, seconds, (N,), ascending.
    """

    pixels: np.ndarray
    fps: float | None = None
    times: tuple[float, ...] | None = None

    def __repr__(self) -> str:
        return f"ArrayClip({self.pixels.shape})"

    @classmethod
    def of(
        cls,
        source: Any,
        *,
        fps: float | None = None,
        times: Sequence[float] | np.ndarray | None = None,
    ) -> ArrayClip:
        """Reads an array (N, H, W, 3), a list of frames or a list of PIL images.

        Raises:
            InputError: It is none of these, frames differ in size, or `fps` and `times` do not fit.
        """
        pixels = source
        if not isinstance(source, np.ndarray):
            pixels = np.stack([np.asarray(frame) for frame in source])
        _array_clock(pixels, fps, times)
        return cls(pixels, fps, None if times is None else tuple(float(t) for t in times))

    def load(self, *, frames: int, size: int, geometry: Geometry = _WHOLE) -> Clip:
        """The clip as a model takes it."""
        return clip_from_array(
            self.pixels, fps=self.fps, times=self.times, frames=frames, size=size, geometry=geometry
        )

    @functools.cached_property
    def sha256(self) -> str:
        """Hash (hex) of shape, pixels and clock: equal for equal frames at equal times."""
        digest = hashlib.sha256(f"array {self.pixels.shape} {self.fps} {self.times}\n".encode())
        digest.update(np.ascontiguousarray(self.pixels).data)
        return digest.hexdigest()


def clip_from_array(
    array: np.ndarray,
    *,
    fps: float | None = None,
    times: Sequence[float] | np.ndarray | None = None,
    frames: int,
    size: int,
    geometry: Geometry = _WHOLE,
) -> Clip:
    """Takes T frames of pictures in memory, as `load_clip` does of a file.

    Args:
        array: RGB, (N, H, W, 3), uint8, N ≥ 1.
        fps: Frames in a second; frame k is shown from k / fps.
        times: Instead of ``fps``: when each frame is first shown, seconds, (N,), ascending.
        frames: T.
        size: S, the model's side in pixels.
        geometry: Which part of the picture the model sees.

    Raises:
        InputError: If the array is not uint8 (N, H, W, 3), or ``fps`` and ``times`` do not fit.
    """
    timestamps, duration = _array_clock(array, fps, times)
    began = time.perf_counter()
    indices = frames_shown(timestamps, segment_times(duration, frames))
    taken = Taken(
        items=[array[index] for index in indices],
        convert=still_picture,
        times_seconds=timestamps[indices],
        duration_seconds=duration,
        fps=len(timestamps) / duration if (fps or times is not None) and duration > 0 else None,
    )
    pixels = converted("array", taken, lambda shown: to_square(shown, size, geometry))
    return Clip(
        pixels=pixels,
        times_seconds=taken.times_seconds,
        duration_seconds=duration,
        fps=taken.fps,
        decode_seconds=0.0,
        preprocess_seconds=time.perf_counter() - began,
    )


def _array_clock(
    array: Any, fps: float | None, times: Sequence[float] | np.ndarray | None
) -> tuple[np.ndarray, float]:
    """Returns (timestamps from the first, duration) in seconds of an array of frames."""
    if not isinstance(array, np.ndarray) or array.dtype != np.uint8:
        kind = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
        raise InputError(f"array must be uint8 RGB of shape (N, H, W, 3), got {kind}")
    if array.ndim != 4 or array.shape[-1] != 3 or 0 in array.shape:
        raise InputError(f"array must be uint8 RGB of shape (N, H, W, 3), got {array.shape}")
    count = len(array)
    if times is None:
        if fps is not None and not (math.isfinite(fps) and fps > 0):
            raise InputError(f"fps must be > 0, got {fps}")
        rate = fps or NOMINAL_FPS
        return np.arange(count) / rate, count / rate
    if fps is not None:
        raise InputError("give fps or times, not both")
    clock = np.asarray(times, dtype=np.float64)
    if clock.shape != (count,) or not np.isfinite(clock).all() or (np.diff(clock) <= 0).any():
        raise InputError(
            f"times must be {count} ascending numbers of seconds, one a frame, "
            f"got shape {clock.shape}"
        )
    clock = clock - clock[0]
    last = float(np.median(np.diff(clock))) if count > 1 else 1 / NOMINAL_FPS
    return clock, float(clock[-1]) + last
