"""RGB frames to an MP4 file that every player opens."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from mafsar.choices import is_finite
from mafsar.errors import InputError, VideoError
from mafsar.files import beside
from mafsar.video.container import quiet_av
from mafsar.video.picture import reformat

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.stream import VideoStream

# With mbtree, x264 writes different bytes for the same frames about once in a hundred times.
_ENCODERS: tuple[tuple[str, dict[str, str]], ...] = (
    ("libx264", {"crf": "20", "preset": "veryfast", "x264-params": "mbtree=0"}),
    ("mpeg4", {"q:v": "3"}),
)
_BT709 = 1
_LIMITED, _FULL = 1, 2


def write_video(path: Path | str, frames: Iterable[np.ndarray], fps: float | Fraction) -> Path:
    """Writes frames as MP4: H.264 (MPEG-4 part 2 where FFmpeg has no libx264), yuv420p, BT.709.

    yuv420p needs even sizes: the last row or column is repeated where a side is odd. The file
    appears under its name only when it is complete.

    Args:
        path: The file; its folder is created if needed, an existing file is replaced.
        frames: RGB, (H, W, 3), uint8, all of one size; read one at a time.
        fps: Frames a second, > 0.

    Returns:
        The path.

    Raises:
        InputError: ``fps`` is not > 0, there is no frame, or a frame has another dtype or shape.
        VideoError: The file cannot be written.
    """
    path = Path(path)
    if not (is_finite(fps) and fps > 0):
        raise InputError(f"fps must be > 0, got {fps}")
    temporary = beside(path, f".{os.getpid()}.part")
    av = quiet_av()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        options = {"movflags": "faststart"}
        with av.open(f"file:{temporary}", "w", format="mp4", options=options) as output:
            _write_frames(path, output, frames, Fraction(fps).limit_denominator(60_000))
        temporary.replace(path)
    except (av.error.FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise VideoError(
            f"{path}: cannot be written ({reason}); choose a folder that this user can write to, on "
            "a disk with free space"
        ) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    return path


def _write_frames(
    path: Path, output: OutputContainer, frames: Iterable[np.ndarray], rate: Fraction
) -> None:
    av = quiet_av()
    stream: VideoStream | None = None
    first_shape: tuple[int, ...] = ()
    for number, pixels in enumerate(frames):
        _check_frame(number, pixels)
        if stream is None:
            first_shape = pixels.shape
            stream = _add_stream(output, rate, even(pixels).shape)
        if pixels.shape != first_shape:
            raise InputError(
                f"frame {number} has shape {pixels.shape}, frame 0 has {first_shape}; "
                f"all frames of a video must have one size"
            )
        frame = reformat(
            av.VideoFrame.from_ndarray(even(pixels), format="rgb24"),
            format="yuv420p",
            src_colorspace=_BT709,
            dst_colorspace=_BT709,
            src_color_range=_FULL,
            dst_color_range=_LIMITED,
        )
        frame.pts = number
        frame.time_base = 1 / rate
        output.mux(stream.encode(frame))
    if stream is None:
        raise InputError(f"{path}: no frame to write; give at least one frame")
    output.mux(stream.encode(None))


def even(pixels: np.ndarray) -> np.ndarray:
    """Repeats the last row and column where a side is odd."""
    height, width = pixels.shape[:2]
    if height % 2 or width % 2:
        pixels = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return np.ascontiguousarray(pixels)


def _add_stream(output: OutputContainer, rate: Fraction, shape: tuple[int, ...]) -> VideoStream:
    av = quiet_av()
    name, options = next(
        (name, options) for name, options in _ENCODERS if name in av.codecs_available
    )
    stream = cast("VideoStream", output.add_stream(name, rate=rate, options=dict(options)))
    stream.height, stream.width = shape[:2]
    stream.pix_fmt = "yuv420p"
    context = stream.codec_context
    context.time_base = 1 / rate
    context.colorspace = context.color_primaries = context.color_trc = _BT709
    context.color_range = _LIMITED
    return stream


def _check_frame(number: int, pixels: np.ndarray) -> None:
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or 0 in pixels.shape:
        raise InputError(
            f"frame {number} must be uint8 RGB of shape (H, W, 3), "
            f"got {pixels.dtype} {pixels.shape}"
        )
