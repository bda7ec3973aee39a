"""Frame folders: which pictures of a folder are the clip's frames, in which order, and their clock.

A clip's path may end in a pattern of names instead of a file's name: ``clip/img_{:05d}.jpg`` are the
frames of the folder ``clip`` that it fits. ``?start=5&fps=25`` after it takes the frames from
number 5 on, and says how many there are in a second.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl

import numpy as np

from mafsar.errors import InputError, MissingError, VideoError, option
from mafsar.files import exists, is_folder
from mafsar.video.animated import is_moving_picture
from mafsar.video.frame_names import (
    Series,
    SeveralKindsError,
    match_pattern,
    order_frames,
    parse_pattern,
)
from mafsar.video.sniff import clip_kind
from mafsar.video.source import is_system_file

NOMINAL_FPS = 25.0
"""The clock assumed for frames without one; their clip has no ``fps``."""

_FIX_READING = "make it readable for this user"
_SHOWN = 4
_LOOKED_AT = 3


@dataclass(frozen=True)
class FramesPattern:
    """Which pictures of a folder are frames.

    Attributes:
        names: A pattern of names, for example ``img_{:05d}.jpg``.
        start: The first number taken, or None.
        fps: Frames a second: number n is shown n / fps seconds after number 0; None = no clock.
    """

    names: str
    start: float | None = None
    fps: float | None = None

    @staticmethod
    def parse(text: str) -> FramesPattern:
        """Reads ``img_{:05d}.jpg`` or ``img_{:05d}.jpg?start=5&fps=25``.

        Raises:
            InputError: It is none of these.
        """
        names, _, query = text.partition("?")
        expected = "expected a name with its number in braces, as 'img_{:05d}.jpg'"
        if "/" in names:
            raise InputError(option(frames_pattern=text), f": names no folder; {expected}")
        try:
            parse_pattern(names)
            values = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))
            start, fps = (
                float(values.pop(key)) if key in values else None for key in ("start", "fps")
            )
        except ValueError as error:
            raise InputError(
                option(frames_pattern=text),
                f": {error}; {expected}, optionally with ?start=5&fps=25",
            ) from None
        if values or not all(value is None or math.isfinite(value) for value in (start, fps)):
            raise InputError(option(frames_pattern=text), ": after ? stand only start=N and fps=N")
        if fps is not None and fps <= 0:
            raise InputError(option(frames_pattern=text), f": fps must be > 0, got {fps:g}")
        return FramesPattern(names, start, fps)


@dataclass(frozen=True)
class FrameFolder:
    """The frames of one folder.

    Attributes:
        paths: The pictures, in order.
        times_seconds: When each is first shown, from 0, (N,) float64.
        duration_seconds: To the end of the last frame.
        fps: Average frame rate; None where nothing gives a clock.
        notes: What was skipped, one sentence each.
    """

    paths: tuple[Path, ...]
    times_seconds: np.ndarray
    duration_seconds: float
    fps: float | None
    notes: tuple[str, ...] = ()


def split_pattern(path: Path | str) -> tuple[Path, FramesPattern] | None:
    """A clip's path that ends in a pattern of names, apart; None for any other path."""
    path = Path(path)
    if not re.search(r"\{[^{}]*\}|%\d*d", path.name) or exists(path) or not is_folder(path.parent):
        return None
    return path.parent, FramesPattern.parse(path.name)


def clip_exists(path: Path | str) -> bool:
    """Returns whether a clip is there: a file, a folder, or a folder with a pattern of names."""
    return exists(Path(path)) or split_pattern(path) is not None


def is_frame_folder(path: Path | str) -> bool:
    """Returns whether this is a folder of still pictures, without videos, animations or folders."""
    path = Path(path)
    if not is_folder(path):
        return split_pattern(path) is not None
    pictures: list[Path] = []
    for entry in path.iterdir():
        if is_system_file(entry):
            continue
        if entry.is_dir():
            return False
        kind = clip_kind(entry)
        if kind == "video":
            return False
        if kind == "image":
            pictures.append(entry)
    # A few tell: a folder holds frames or animated pictures, and may hold very many of either.
    few = [*pictures[:_LOOKED_AT], *pictures[-1:]]
    return bool(pictures) and not any(is_moving_picture(picture) for picture in few)


def read_frame_folder(path: Path | str) -> FrameFolder:
    """Finds the frames of a folder, or of a folder and a pattern of names.

    Names are ordered by their numbers (decimal, hexadecimal or negative). Names that are decimals
    are taken as seconds and give the clock; so do names that end in a unit (``40ms.png``).

    Raises:
        MissingError: If the folder does not exist.
        VideoError: If it cannot be listed, contains no such picture, or several kinds of frames.
    """
    folder, pattern = split_pattern(path) or (Path(path), None)
    names = _picture_names(folder)
    if pattern is not None:
        return _by_pattern(folder, pattern, names)
    try:
        order = order_frames(names)
    except SeveralKindsError as error:
        raise VideoError(*_several(folder, error.series)) from None
    notes: tuple[str, ...] = ()
    if order.skipped:
        few = ", ".join(order.skipped[:3]) + (", …" if len(order.skipped) > 3 else "")
        of = f"; its frames are {order.pattern}" if order.pattern else ""
        notes = (f"{_count(order.skipped)} skipped ({few}){of}",)
    times, duration, fps = _clock(len(order.names), order.seconds)
    return FrameFolder(tuple(folder / name for name in order.names), times, duration, fps, notes)


def with_pattern(path: Path, pattern: str | None) -> Path:
    """A frame folder's path with a pattern of names, where the folder holds such names."""
    if pattern is None or not is_folder(path):
        return path
    parsed = FramesPattern.parse(pattern)
    return path / pattern if match_pattern(parsed.names, _picture_names(path)).names else path


def _picture_names(folder: Path) -> list[str]:
    """The names of a folder's pictures."""
    try:
        entries = list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        raise MissingError(f"{folder}: no such folder; check the path") from None
    except OSError as error:
        raise VideoError(f"{folder}: cannot be listed ({error.strerror}); {_FIX_READING}") from None
    names = [entry.name for entry in entries if clip_kind(entry) == "image"]
    if not names:
        what = "contains no pictures" if entries else "is an empty folder"
        raise VideoError(f"{folder}: {what}; give a video file or a folder of .jpg or .png frames")
    return names


def _by_pattern(folder: Path, pattern: FramesPattern, names: Sequence[str]) -> FrameFolder:
    series = match_pattern(pattern.names, names)
    first = -math.inf if pattern.start is None else pattern.start
    kept = [i for i, number in enumerate(series.numbers) if number[0] >= first]
    if not kept:
        raise VideoError(
            f"{folder}: no picture is named {pattern.names}"
            + (f" from number {pattern.start:g} on" if series.names else "")
            + f"; it holds {', '.join(sorted(names)[:3])}"
        )
    seconds = None if series.seconds is None else [series.seconds[i] for i in kept]
    if pattern.fps is not None:
        seconds = [series.numbers[i][0] / pattern.fps for i in kept]
    times, duration, fps = _clock(len(kept), seconds)
    return FrameFolder(tuple(folder / series.names[i] for i in kept), times, duration, fps)


def _clock(count: int, seconds: Sequence[float] | None) -> tuple[np.ndarray, float, float | None]:
    """Times from 0, duration and average rate; equal steps where no name gives a time."""
    if seconds is not None and count > 1:
        times = np.asarray(seconds, dtype=np.float64)
        times = times - times[0]
        gaps = np.diff(times)
        if (gaps > 0).all():
            # The last frame is taken to be shown as long as the median frame.
            duration = float(times[-1] + np.median(gaps))
            return times, duration, count / duration
    return np.arange(count) / NOMINAL_FPS, count / NOMINAL_FPS, None


def _several(folder: Path, series: Sequence[Series]) -> list[object]:
    """The message for a folder with several kinds of frames."""
    shown = [f"{item.pattern} ({len(item.names)})" for item in series[:_SHOWN]]
    more = f" and {len(series) - _SHOWN} more" if len(series) > _SHOWN else ""
    return [
        f"{folder}: holds several kinds of frames: {', '.join(shown)}{more}; choose one by ",
        option(frames_pattern=series[0].pattern),
        " (?start=N&fps=N after it sets the first number and the clock)",
    ]


def _count(names: Sequence[str]) -> str:
    return f"{len(names)} picture{'' if len(names) == 1 else 's'}"
