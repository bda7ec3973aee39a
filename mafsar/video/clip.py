"""A clip: T frames of a video file, a frame folder or a picture, ready for an encoder."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mafsar.choices import is_finite
from mafsar.errors import InputError, VideoError
from mafsar.video.container import open_video
from mafsar.video.crop import crop_of
from mafsar.video.decode import decode_moments
from mafsar.video.decode_plan import Strategy
from mafsar.video.deep import describe_span, frames_span
from mafsar.video.geometry import Geometry
from mafsar.video.guard import clip_errors
from mafsar.video.large import LargeFrames, is_large
from mafsar.video.picture import Picture, picture_of
from mafsar.video.pictures import check_part, is_picture_clip, open_pictures
from mafsar.video.preprocess import arrange, fitted, resize, short_side_size, to_square
from mafsar.video.sampling import segment_times
from mafsar.video.scan import read_timeline
from mafsar.video.source import refuse_irregular
from mafsar.video.timeline import Timeline

READING_RULES = 2
"""Version of the rules by which a clip becomes frames: which are taken, and their pixels. A change of
either raises it, so that features that were made by older rules are not used."""

_END_SLACK_SECONDS = 1.0
_WHOLE = Geometry()


@dataclass(frozen=True, repr=False)
class Clip:
    """T frames as a model takes them."""

    pixels: np.ndarray
    """uint8 RGB, (T, S, S, 3)."""
    times_seconds: np.ndarray
    """float64, (T,): timestamps of the frames taken, from the file's first timestamp."""
    duration_seconds: float
    """Length of the clip, or of the part between ``start`` and ``end``."""
    fps: float | None
    """Average frame rate; None for clips without a clock."""
    decode_seconds: float
    preprocess_seconds: float
    repairs: tuple[str, ...] = ()
    """What was repaired in reading the file and why, plain sentences."""

    def __repr__(self) -> str:
        return _describe("Clip", self.pixels, self.duration_seconds, self.fps)


@dataclass(frozen=True, repr=False)
class RawClip:
    """T frames as a player shows them, at their own size."""

    frames: np.ndarray
    """uint8 RGB, (T, H, W, 3): upright, square pixels."""
    times_seconds: np.ndarray
    """float64, (T,): timestamps of the frames taken, from the file's first timestamp."""
    duration_seconds: float
    fps: float | None
    decode_seconds: float
    repairs: tuple[str, ...] = ()
    """What was repaired in reading the file and why, plain sentences."""

    def __repr__(self) -> str:
        return _describe("RawClip", self.frames, self.duration_seconds, self.fps)


@dataclass(frozen=True)
class Taken:
    """The frames taken from a source, before conversion."""

    items: Sequence[Any]
    convert: Callable[[Any, int | None], Picture]
    """Takes an item, and the short side in pixels to which it may be reduced first."""
    times_seconds: np.ndarray
    duration_seconds: float
    fps: float | None
    repairs: tuple[str, ...] = ()
    """What was repaired, skipped or changed, one sentence each."""
    may_change_size: bool = False
    """Whether pictures of several sizes are one clip, as in a stream that changes its resolution."""
    read_seconds: Callable[[], float] = float
    """How long `convert` spent on reading: pictures are decoded only when they are converted."""


def load_clip(
    path: Path | str,
    *,
    frames: int,
    size: int,
    geometry: Geometry = _WHOLE,
    start: float | None = None,
    end: float | None = None,
    rng: np.random.Generator | None = None,
    threads: int | None = None,
    strategy: Strategy = "auto",
    ignore_clock: float | None = None,
) -> Clip:
    """Reads T frames of a clip, resized and cropped for an encoder.

    Args:
        path: A video file, a folder of frames or a single picture.
        frames: T ≥ 1. A clip with fewer repeats frames.
        size: S, the model's side in pixels.
        geometry: Which part of the picture the model sees.
        start: Seconds from the first timestamp; None is the beginning. Videos only.
        end: Seconds from the first timestamp; None is the end. Videos only.
        rng: Takes a random moment in each of the T segments (training) instead of its middle.
        threads: Of the decoder; None chooses the number.
        strategy: How the decoder reaches the frames; see `decode_moments`.
        ignore_clock: Sets the timestamps of a video aside: its frames are equally spaced, this many
            a second.

    Raises:
        InputError: ``frames`` < 1.
        MissingError: The path does not exist.
        VideoError: The clip cannot be decoded, or ``start``, ``end`` or the region of interest is
            outside it; the message starts with the path.
    """
    began = time.perf_counter()
    with clip_errors(path):
        taken = _take(Path(path), frames, start, end, rng, threads, strategy, ignore_clock)
        decoded = time.perf_counter()
        enough = 2 * size if geometry.roi is None else None
        pixels = converted(path, taken, lambda shown: to_square(shown, size, geometry), enough)
    reading = taken.read_seconds()
    return Clip(
        pixels=pixels,
        times_seconds=taken.times_seconds,
        duration_seconds=taken.duration_seconds,
        fps=taken.fps,
        decode_seconds=decoded - began + reading,
        preprocess_seconds=time.perf_counter() - decoded - reading,
        repairs=taken.repairs,
    )


def load_raw_clip(
    path: Path | str,
    *,
    frames: int,
    geometry: Geometry = _WHOLE,
    short_side: int | None = None,
    start: float | None = None,
    end: float | None = None,
    rng: np.random.Generator | None = None,
    threads: int | None = None,
    ignore_clock: float | None = None,
) -> RawClip:
    """Reads T frames of a clip as a player shows them, for overlays, plots and training crops.

    Args:
        path: As for `load_clip`.
        frames: T ≥ 1.
        geometry: Its rotation, mirror and region are applied; its fit is not.
        short_side: Resizes the short side to this many pixels (bicubic); None keeps the size.
        start: As for `load_clip`.
        end: As for `load_clip`.
        rng: As for `load_clip`.
        threads: As for `load_clip`.
        ignore_clock: As for `load_clip`.

    Raises:
        InputError, MissingError, VideoError: As for `load_clip`.
    """
    began = time.perf_counter()

    def shown(picture: Picture) -> np.ndarray:
        picture = arrange(picture, geometry)
        width, height = picture.width, picture.height
        if short_side is not None:
            width, height = short_side_size(width, height, short_side)
        return resize(picture, width, height)

    enough = 2 * short_side if short_side is not None and geometry.roi is None else None
    with clip_errors(path):
        taken = _take(Path(path), frames, start, end, rng, threads, "auto", ignore_clock)
        pixels = converted(path, taken, shown, enough, one_size=taken.may_change_size)
    return RawClip(
        frames=pixels,
        times_seconds=taken.times_seconds,
        duration_seconds=taken.duration_seconds,
        fps=taken.fps,
        decode_seconds=time.perf_counter() - began,
        repairs=taken.repairs,
    )


def _take(
    path: Path,
    frames: int,
    start: float | None,
    end: float | None,
    rng: np.random.Generator | None,
    threads: int | None,
    strategy: Strategy,
    ignore_clock: float | None,
) -> Taken:
    """Chooses and decodes the frames of any kind of clip."""
    if frames < 1:
        raise InputError(f"frames must be at least 1, got {frames}")
    refuse_irregular(path)  # before anything looks into it
    if not is_picture_clip(path):
        return _take_video(path, frames, start, end, rng, threads, strategy, ignore_clock)
    clip = open_pictures(path)
    check_part(path, clip, start, end)
    begin, length = _part(path, clip.duration_seconds, start, end)
    indices = clip.shown(begin + segment_times(length, frames, rng))
    return Taken(
        items=[clip.items[index] for index in indices.tolist()],
        convert=clip.convert,
        times_seconds=clip.times_seconds[indices],
        duration_seconds=length,
        fps=clip.fps,
        repairs=clip.notes,
        read_seconds=lambda: clip.read_seconds,
    )


def _take_video(
    path: Path,
    frames: int,
    start: float | None,
    end: float | None,
    rng: np.random.Generator | None,
    threads: int | None,
    strategy: Strategy,
    ignore_clock: float | None,
) -> Taken:
    def moments(timeline: Timeline) -> np.ndarray:
        begin, length = _part(path, timeline.duration_seconds, start, end)
        return begin + segment_times(length, frames, rng)

    with open_video(path) as (container, stream):
        timeline = read_timeline(path, container, stream, frames, ignore_clock)
        crop = crop_of(path, container, stream)
        transfer = getattr(stream.codec_context, "color_trc", None)
        if is_large(path, stream.width, stream.height):
            large = LargeFrames(
                path, timeline, moments(timeline), strategy=strategy, transfer=transfer, crop=crop
            )
            return Taken(
                items=range(frames),
                convert=large.convert,
                times_seconds=large.times_seconds,
                duration_seconds=_part(path, timeline.duration_seconds, start, end)[1],
                fps=timeline.fps,
                repairs=timeline.repairs,
                may_change_size=True,
                read_seconds=lambda: large.read_seconds,
            )
        decoded = decode_moments(
            path, container, stream, timeline, moments, strategy=strategy, threads=threads
        )
    span = frames_span(decoded.frames)
    timeline = decoded.timeline.with_repairs(None if span is None else describe_span(span))
    return Taken(
        items=decoded.shown,
        convert=lambda shown, enough: picture_of(
            shown.frame,
            aspect=shown.aspect,
            transfer=transfer,
            short_side=enough,
            crop=crop,
            span=span,
        ),
        times_seconds=decoded.times_seconds,
        duration_seconds=_part(path, timeline.duration_seconds, start, end)[1],
        fps=timeline.fps,
        repairs=timeline.repairs,
        may_change_size=True,
    )


def _part(
    path: Path, duration: float, start: float | None, end: float | None
) -> tuple[float, float]:
    """Returns (begin, length) of the part to use, in seconds."""
    for name, value in (("start", start), ("end", end)):
        if value is not None and not (is_finite(value) and value >= 0):
            raise VideoError(f"{path}: {name} must be a number of seconds ≥ 0, got {value}")
    begin = start or 0.0
    if begin > 0 and begin >= duration:
        raise VideoError(
            f"{path}: start {begin:g} s is after the clip's end ({duration:.2f} s); choose an earlier "
            "start"
        )
    stop = duration if end is None else end
    if stop > duration + _END_SLACK_SECONDS:
        raise VideoError(
            f"{path}: end {stop:g} s is after the clip's end ({duration:.2f} s); choose an earlier end"
        )
    if end is not None and stop <= begin:
        raise VideoError(f"{path}: end {stop:g} s must be after start {begin:g} s")
    return begin, min(stop, duration) - begin


def converted(
    path: Path | str,
    taken: Taken,
    finish: Callable[[Picture], np.ndarray],
    short_side: int | None = None,
    *,
    one_size: bool = False,
) -> np.ndarray:
    """Converts and finishes each frame once, however often it repeats.

    Args:
        path: Named in errors.
        taken: The frames.
        finish: Makes the pixels of a picture, (H, W, 3) uint8.
        short_side: As for `picture_of`.
        one_size: Fits pictures of other sizes into the largest, on black.

    Returns:
        (T, H, W, 3) uint8.

    Raises:
        VideoError: A picture cannot be finished, or sizes differ.
    """
    results: list[np.ndarray] = []
    for number, item in enumerate(taken.items):
        if number and item is taken.items[number - 1]:
            results.append(results[-1])
            continue
        try:
            results.append(finish(taken.convert(item, short_side)))
        except VideoError:
            raise
        except InputError as error:
            raise VideoError(f"{path}: ", error) from None
    if one_size:
        height, width, _ = max((result.shape for result in results), key=lambda s: s[0] * s[1])
        results = [fitted(result, width, height) for result in results]
    if len({result.shape for result in results}) > 1:
        sizes = sorted({f"{result.shape[1]}x{result.shape[0]}" for result in results})
        raise VideoError(
            f"{path}: its pictures differ in size ({', '.join(sizes)}); resize them to one size"
        )
    return np.stack(results)


def still_picture(pixels: np.ndarray, _: int | None) -> Picture:
    """The `Taken.convert` of pixels that are RGB already."""
    return Picture.of(pixels)


def _describe(name: str, pixels: np.ndarray, duration: float, fps: float | None) -> str:
    rate = "no clock" if fps is None else f"{fps:.2f} fps"
    return f"{name}({pixels.dtype} {pixels.shape}, {duration:.2f} s, {rate})"
