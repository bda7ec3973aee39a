"""Clips in memory: an array of frames, a list of frames or a list of Pillow images."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mafsar.errors import InputError
from mafsar.video.clip import Clip, Taken, converted, still_picture
from mafsar.video.content import frames_sha256
from mafsar.video.deep import Span, describe_span, span_of
from mafsar.video.frame_folder import NOMINAL_FPS
from mafsar.video.geometry import Geometry
from mafsar.video.preprocess import to_square
from mafsar.video.rates import HIGHEST_FPS, LOWEST_FPS
from mafsar.video.sampling import frames_shown, segment_times
from mafsar.video.still import deep_values, image_pixels, is_deep, is_pil_image

_WHOLE = Geometry()
_FRAME = "a uint8 RGB array of shape (H, W, 3)"
_CLIP = "a uint8 RGB array of shape (T, H, W, 3)"

_LATEST_SECONDS = 1e12  # microseconds are told apart up to here in float64

Times = Sequence[float] | np.ndarray


@dataclass(frozen=True, repr=False, eq=False)
class MemoryClip:
    """A clip whose frames are in memory, with its clock. `clip_source` makes one.

    Frames are kept by reference: do not change their pixels while the clip is in use.
    """

    frames: tuple[np.ndarray, ...]
    """N ≥ 1 frames, each RGB, (H, W, 3), uint8, all of one size."""
    times_seconds: np.ndarray
    """float64, (N,): when each frame is first shown, rising from 0."""
    duration_seconds: float
    """To the end of the last frame."""
    fps: float | None
    """Average frame rate; None without ``fps`` and ``times``."""
    name: str = "array"
    """What messages call the clip."""
    repairs: tuple[str, ...] = ()
    """What was changed in converting the frames, plain sentences."""

    def __repr__(self) -> str:
        height, width = self.frames[0].shape[:2]
        rate = "no clock" if self.fps is None else f"{self.fps:.2f} fps"
        return f"MemoryClip({len(self.frames)} frames of {width}x{height}, {rate})"

    @cached_property
    def content_sha256(self) -> str:
        """Hash of shape, pixels and times: equal for equal clips, whatever they were made from."""
        return frames_sha256(self.frames, self.times_seconds)


def is_clip_source(value: object) -> bool:
    """Returns whether this is one clip: a path, an array, or a list of frames or Pillow images.

    A list of paths or of clips, and an empty list, is not.
    """
    if isinstance(value, (str, Path, np.ndarray, MemoryClip)):
        return True
    if not isinstance(value, (list, tuple)) or not value:
        return False
    first = value[0]
    # An array with four dimensions is a clip, so the list is one of clips.
    return is_pil_image(first) or (isinstance(first, np.ndarray) and first.ndim < 4)


def clip_source(
    source: Any, *, fps: float | None = None, times: Times | None = None, name: str = "array"
) -> Path | MemoryClip:
    """Turns what a user gives as a clip into what `ClipRequest` and `load_clips` take.

    Args:
        source: A path; an RGB array, (T, H, W, 3), uint8; a list of RGB arrays, (H, W, 3), uint8;
            or a list of Pillow images of any mode. The frames of a list have one size.
        fps: Frames a second: frame k is first shown at k / fps seconds.
        times: Instead of ``fps``: when each frame is first shown, seconds, (T,), rising. Without
            either the frames are equally spaced and the clip has no clock.
        name: What messages call a clip in memory.

    Returns:
        The path, or the clip in memory.

    Raises:
        InputError: Another kind of source, frames of another dtype, shape or size, or ``fps`` and
            ``times`` that do not fit.
    """
    if isinstance(source, (str, Path, MemoryClip)):
        if fps is not None or times is not None:
            raise InputError(
                "fps and times are for arrays and lists of frames; a video file has its own clock"
            )
        return source if isinstance(source, MemoryClip) else Path(source)
    frames, span = _checked_frames(source, name)
    clock, duration = _clock(len(frames), fps, times, name)
    has_clock = fps is not None or times is not None
    return MemoryClip(
        frames=frames,
        times_seconds=clock,
        duration_seconds=duration,
        fps=len(frames) / duration if has_clock else None,
        name=name,
        repairs=() if span is None else (describe_span(span),),
    )


def load_memory_clip(
    clip: MemoryClip, *, frames: int, size: int, geometry: Geometry = _WHOLE
) -> Clip:
    """Takes T frames of a clip in memory, as `load_clip` does of a file.

    Args:
        clip: From `clip_source`.
        frames: T. A clip with fewer repeats frames.
        size: S, the model's side in pixels.
        geometry: Which part of the picture the model sees.

    Raises:
        InputError: ``frames`` < 1.
        VideoError: The region of interest reaches outside the picture.
    """
    began = time.perf_counter()
    indices = frames_shown(clip.times_seconds, segment_times(clip.duration_seconds, frames))
    taken = Taken(
        items=[clip.frames[index] for index in indices],
        convert=still_picture,
        times_seconds=clip.times_seconds[indices],
        duration_seconds=clip.duration_seconds,
        fps=clip.fps,
        repairs=clip.repairs,
    )
    pixels = converted(clip.name, taken, lambda shown: to_square(shown, size, geometry))
    return Clip(
        pixels=pixels,
        times_seconds=taken.times_seconds,
        duration_seconds=taken.duration_seconds,
        fps=taken.fps,
        decode_seconds=0.0,
        preprocess_seconds=time.perf_counter() - began,
        repairs=taken.repairs,
    )


def clip_from_array(
    array: Any,
    *,
    fps: float | None = None,
    times: Times | None = None,
    frames: int,
    size: int,
    geometry: Geometry = _WHOLE,
) -> Clip:
    """Takes T frames of an array or a list of frames: `clip_source`, then `load_memory_clip`.

    Raises:
        InputError: As for the two.
    """
    clip = clip_source(array, fps=fps, times=times)
    if isinstance(clip, Path):
        raise InputError(f"{clip}: is a path; use load_clip for files")
    return load_memory_clip(clip, frames=frames, size=size, geometry=geometry)


def _checked_frames(source: Any, name: str) -> tuple[tuple[np.ndarray, ...], Span | None]:
    """The frames of an array or a list, each (H, W, 3) uint8 and all of one size; and the span of
    the values that deep grey images are shown with.
    """
    if isinstance(source, np.ndarray):
        if (
            source.dtype != np.uint8
            or source.ndim != 4
            or source.shape[-1] != 3
            or 0 in source.shape
        ):
            raise InputError(f"{name}: must be {_CLIP}, got {source.dtype} {source.shape}")
        return tuple(source), None
    if not isinstance(source, (list, tuple)):
        raise InputError(
            f"{name}: a clip is a path, {_CLIP}, a list of frames or a list of PIL images, "
            f"got {type(source).__name__}"
        )
    if not source:
        raise InputError(f"{name}: the list of frames is empty; give at least one frame")
    span = _deep_span(source)
    frames = tuple(_checked_frame(item, index, name, span) for index, item in enumerate(source))
    first = frames[0].shape
    for index, frame in enumerate(frames):
        if frame.shape != first:
            raise InputError(
                f"{name}: frame {index} is {frame.shape[1]}x{frame.shape[0]} pixels and frame 0 is "
                f"{first[1]}x{first[0]}; all frames must have one size"
            )
    return frames, span


def _deep_span(source: Sequence[Any]) -> Span | None:
    """The span of values of a list of deep grey images; None for every other list."""
    images = [item for item in source if is_pil_image(item) and 0 not in item.size]
    if len(images) < len(source) or not all(is_deep(item) for item in images):
        return None
    try:
        found = [deep_values(item) for item in images]
    except (OSError, ValueError, SyntaxError):
        return None  # converting it names the image
    spans = [span for span in found if span is not None]
    return span_of(spans, full=None) if images[0].mode == "F" else span_of(spans)


def _checked_frame(item: Any, index: int, name: str, span: Span | None) -> np.ndarray:
    if is_pil_image(item):
        try:
            return image_pixels(item, span)
        except InputError as error:
            raise InputError(f"{name}: frame {index} ", error) from None
    if not isinstance(item, np.ndarray):
        raise InputError(
            f"{name}: frame {index} must be {_FRAME} or a PIL image, got {type(item).__name__}"
        )
    if item.dtype != np.uint8 or item.ndim != 3 or item.shape[-1] != 3 or 0 in item.shape:
        raise InputError(f"{name}: frame {index} must be {_FRAME}, got {item.dtype} {item.shape}")
    return item


def _clock(
    count: int, fps: float | None, times: Times | None, name: str
) -> tuple[np.ndarray, float]:
    """When each of ``count`` frames is first shown, from 0, and the duration, in seconds."""
    if fps is not None and times is not None:
        raise InputError(f"{name}: give fps or times, not both")
    if times is None:
        rate = NOMINAL_FPS if fps is None else _rate(fps, name)
        return np.arange(count) / rate, count / rate
    try:
        clock = np.asarray(times, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{name}: times must be numbers of seconds, one for each frame") from None
    if clock.shape != (count,):
        got = str(len(clock)) if clock.ndim == 1 else f"shape {clock.shape}"
        raise InputError(f"{name}: times must be {count} numbers, one for each frame, got {got}")
    if not (np.abs(clock) <= _LATEST_SECONDS).all() and np.isfinite(clock).all():
        index = int(np.argmax(np.abs(clock)))
        raise InputError(
            f"{name}: times must be at most {_LATEST_SECONDS:g} s, got {clock[index]:g} for frame "
            f"{index}"
        )
    if not np.isfinite(clock).all():
        index = int(np.flatnonzero(~np.isfinite(clock))[0])
        raise InputError(f"{name}: times must be finite, got {clock[index]:g} for frame {index}")
    falls = np.flatnonzero(np.diff(clock) <= 0)
    if len(falls):
        index = int(falls[0])
        raise InputError(
            f"{name}: times must rise from frame to frame, got {clock[index]:g} for frame {index} "
            f"and {clock[index + 1]:g} for frame {index + 1}"
        )
    clock = clock - clock[0]
    # The last frame is taken to be shown as long as the median frame.
    last = float(np.median(np.diff(clock))) if count > 1 else 1 / NOMINAL_FPS
    return clock, float(clock[-1]) + last


def _rate(fps: Any, name: str) -> float:
    try:
        rate = float(fps)
    except OverflowError:
        rate = math.inf
    except (TypeError, ValueError):
        raise InputError(f"{name}: fps must be a number, got {type(fps).__name__}") from None
    if not (math.isfinite(rate) and rate > 0):
        raise InputError(f"{name}: fps must be finite and > 0, got {rate:g}")
    if not LOWEST_FPS <= rate <= HIGHEST_FPS:
        raise InputError(
            f"{name}: fps must be from {LOWEST_FPS:g} to {HIGHEST_FPS:g}, got {rate:g}"
        )
    return rate
