"""Frames of clips that are pictures: a frame folder, a still or an animated picture.

Pictures are decoded one at a time, when they are converted, so that a clip needs the memory of one.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mafsar.errors import VideoError
from mafsar.files import is_folder
from mafsar.video.animated import Animation, read_animation
from mafsar.video.deep import Span, describe_span, span_of
from mafsar.video.frame_folder import NOMINAL_FPS, read_frame_folder, split_pattern
from mafsar.video.heif import read_heif
from mafsar.video.picture import Picture
from mafsar.video.sampling import frames_shown
from mafsar.video.sniff import clip_kind, is_heif
from mafsar.video.source import refuse_irregular
from mafsar.video.still import deep_values, is_deep, opened, read_still

_LOOKED_AT = 8
"""How many pictures of a clip tell the range of its deep values."""

Item = tuple[Path, int]
"""A picture file, and which of its images."""


@dataclass
class PictureClip:
    """The frames of a clip of pictures, read when `convert` is called.

    Attributes:
        items: Every frame.
        times_seconds: When each is first shown, from 0, (N,) float64.
        duration_seconds: To the end of the last frame.
        fps: Average frame rate; None without a clock.
        notes: What was skipped or changed, one sentence each.
        read_seconds: Spent on reading so far.
    """

    items: Sequence[Item]
    times_seconds: np.ndarray
    duration_seconds: float
    fps: float | None
    notes: tuple[str, ...] = ()
    read_seconds: float = 0.0
    _span: Span | None = field(default=None, repr=False)

    def shown(self, moments: np.ndarray) -> np.ndarray:
        """The index of the frame that is shown at each moment, seconds."""
        return frames_shown(self.times_seconds, moments)

    def convert(self, item: Any, short_side: int | None) -> Picture:
        """Reads a frame; a large one may be reduced to no less than a short side in pixels."""
        began = time.perf_counter()
        path, page = item
        if is_heif(path):
            picture = read_heif(path, short_side)
        else:
            pixels = read_still(path, page=page, short_side=short_side, span=self._span)
            picture = Picture.of(pixels)
        self.read_seconds += time.perf_counter() - began
        return picture

    def scale_depth(self) -> None:
        """Sets the span of values by some frames at equal steps, where they have over 8 bits."""
        steps = np.linspace(0, len(self.items) - 1, min(_LOOKED_AT, len(self.items)))
        values: list[Span] = []
        floats = False
        for index in np.rint(steps).astype(int).tolist():
            path, page = self.items[index]
            if is_heif(path):
                return
            with opened(path) as image:
                if page:
                    image.seek(page)
                if not is_deep(image):
                    return
                floats = image.mode == "F"
                found = deep_values(image)
            if found is not None:
                values.append(found)
        self._span = span_of(values) if not floats else span_of(values, full=None)
        if self._span is not None:
            self.notes += (describe_span(self._span),)


def is_picture_clip(path: Path) -> bool:
    """Returns whether a clip is made of pictures; FFmpeg reads the others."""
    if is_folder(path) or split_pattern(path) is not None:
        return True
    if clip_kind(path) != "image":
        return False
    if is_heif(path):
        return False
    # FFmpeg reads AVIF where this Pillow does not.
    return path.suffix.lower() not in (".avif", ".avifs") or _pillow_reads_avif()


@functools.cache
def _pillow_reads_avif() -> bool:
    from PIL import Image

    Image.init()
    return ".avif" in Image.registered_extensions()


def open_pictures(path: Path) -> PictureClip:
    """Finds the frames of a clip of pictures.

    Raises:
        MissingError: The path does not exist.
        VideoError: It holds no picture, several kinds of frames, or one that cannot be read.
    """
    if is_folder(path) or split_pattern(path) is not None:
        folder = read_frame_folder(path)
        items = [(picture, 0) for picture in folder.paths]
        clip = PictureClip(
            items, folder.times_seconds, folder.duration_seconds, folder.fps, folder.notes
        )
    else:
        refuse_irregular(path)
        animation = read_animation(path)
        clip = _still(path) if animation is None else _animated(path, animation)
    clip.scale_depth()
    return clip


def check_part(path: Path, clip: PictureClip, start: float | None, end: float | None) -> None:
    """Raises an error for a part in seconds of pictures without a clock."""
    if clip.fps is None and (start is not None or end is not None):
        raise VideoError(f"{path}: start and end are for video files only; pictures have no clock")


def picture_size(item: Item) -> tuple[int, int]:
    """Width and height at which a frame is shown, from its header."""
    path, page = item
    if is_heif(path):
        picture = read_heif(path)
        return picture.width, picture.height
    with opened(path) as image:
        if page:
            image.seek(page)
        turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
        return (image.height, image.width) if turned else (image.width, image.height)


def _still(path: Path) -> PictureClip:
    return PictureClip([(path, 0)], np.zeros(1), 0.0, None)


def _animated(path: Path, animation: Animation) -> PictureClip:
    count = len(animation.pages)
    items = [(path, page) for page in animation.pages]
    durations = animation.durations_seconds
    if durations is None:
        return PictureClip(items, np.arange(count) / NOMINAL_FPS, count / NOMINAL_FPS, None)
    ends = np.cumsum(durations)
    total = float(ends[-1])
    return PictureClip(items, np.concatenate([[0.0], ends[:-1]]), total, count / total)
