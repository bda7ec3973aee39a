"""A clip with its answer written under it; what the model did not see is darkened."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from mafsar.video.clip import load_raw_clip
from mafsar.video.fonts import draw_text, shortened, text_width
from mafsar.video.frame_folder import NOMINAL_FPS
from mafsar.video.geometry import Geometry
from mafsar.video.picture import Picture
from mafsar.video.pictures import is_picture_clip, open_pictures
from mafsar.video.preprocess import arrange, fitted, resize
from mafsar.video.write import write_video

_ACCENT = (99, 102, 241)
_GROUND, _PALE, _WHITE = (16, 18, 27), (205, 208, 222), (255, 255, 255)
_DARKENED = (2, 5)  # light that is left of what the model did not see, of all

_CHUNK_SECONDS = 2.0  # decoded at once, so that a long clip does not fill the memory
_MOST_FPS = 30.0


@dataclass(frozen=True)
class Caption:
    """What is written under a clip.

    Attributes:
        label: The answer, or None for "none".
        score: Its share among the given classes, 0–1.
        others: Further classes with their shares, best first.
    """

    label: str | None
    score: float
    others: tuple[tuple[str, float], ...] = ()


def write_overlay(
    source: Path,
    out: Path,
    caption: Caption,
    geometry: Geometry,
    *,
    ignore_clock: float | None = None,
) -> Path:
    """Writes a clip as MP4 with the caption under every frame.

    Args:
        source: A video, a frame folder or a picture.
        out: The file to write.
        caption: What is written under it.
        geometry: Region, crop and turns: the clip is turned and mirrored as the model saw it, and what
            lies outside its region and crop is darkened.
        ignore_clock: As for `load_raw_clip`.

    Returns:
        `out`.

    Raises:
        VideoError: The clip cannot be decoded or the file cannot be written.
    """
    frames, fps = _steady_frames(source, replace(geometry, roi=None), ignore_clock)
    pictures = (draw_caption(frame, caption, seen_box(frame, geometry)) for frame in frames)
    return write_video(out, pictures, fps)


def seen_box(frame: np.ndarray, geometry: Geometry) -> tuple[int, int, int, int]:
    """The part that the model saw of a turned and mirrored frame (H, W, 3): left, top, right,
    bottom, pixels.
    """
    height, width = frame.shape[:2]
    left, top, right, bottom = geometry.roi_box(width, height)
    if geometry.fit == "pad":
        return left, top, right, bottom
    side = min(right - left, bottom - top)
    left += (right - left - side) // 2
    top += (bottom - top - side) // 2
    return left, top, left + side, top + side


def _steady_frames(
    source: Path, geometry: Geometry, ignore_clock: float | None
) -> tuple[Iterator[np.ndarray], float]:
    """The frames of a clip at a constant rate, and that rate."""
    if is_picture_clip(source):
        clip = open_pictures(source)
        fps = min(clip.fps or NOMINAL_FPS, _MOST_FPS)
        moments = np.arange(max(round(clip.duration_seconds * fps), 1)) / fps
        items = [clip.items[index] for index in clip.shown(moments).tolist()]
        return (_still(clip.convert(item, None), geometry) for item in items), fps
    first = load_raw_clip(source, frames=1, geometry=geometry, ignore_clock=ignore_clock)
    fps = min(first.fps or NOMINAL_FPS, _MOST_FPS)
    height, width = first.frames.shape[1:3]
    frames = _video_frames(source, geometry, first.duration_seconds, fps, ignore_clock)
    # A stream may change its size; the written video has one.
    return (fitted(frame, width, height) for frame in frames), fps


def _video_frames(
    source: Path, geometry: Geometry, duration: float, fps: float, ignore_clock: float | None
) -> Iterator[np.ndarray]:
    total = max(round(duration * fps), 1)
    chunk = max(round(_CHUNK_SECONDS * fps), 1)
    for begin in range(0, total, chunk):
        count = min(chunk, total - begin)
        start, end = begin / fps, (begin + count) / fps
        raw = load_raw_clip(
            source,
            frames=count,
            geometry=geometry,
            start=start,
            end=None if begin + count == total else end,
            ignore_clock=ignore_clock,
        )
        yield from raw.frames


def _still(picture: Picture, geometry: Geometry) -> np.ndarray:
    picture = arrange(picture, geometry)
    return resize(picture, picture.width, picture.height)


def draw_caption(
    frame: np.ndarray, caption: Caption, seen: tuple[int, int, int, int]
) -> np.ndarray:
    """One frame above its caption; what lies outside `seen` is darkened, which a legend says.

    Args:
        frame: (H, W, 3), uint8 RGB.
        caption: What is written.
        seen: Left, top, right, bottom of what the model saw, pixels.

    Returns:
        (H + h, W, 3), uint8 RGB, with h the height of `caption_strip`.
    """
    left, top, right, bottom = seen
    height, width = frame.shape[:2]
    whole = (left, top, right, bottom) == (0, 0, width, height)
    strip = caption_strip(width, height, caption, legend=not whole)
    shown = np.empty((height + strip.height, width, 3), np.uint8)
    shown[:height] = frame.astype(np.uint16) * _DARKENED[0] // _DARKENED[1]
    shown[top:bottom, left:right] = frame[top:bottom, left:right]
    shown[height:] = np.asarray(strip)
    return shown


@lru_cache(maxsize=8)
def caption_strip(width: int, height: int, caption: Caption, *, legend: bool) -> Image.Image:
    """The caption of frames of `width` × `height` pixels, RGB, `width` wide, of even height."""
    size = int(np.clip(min(height * 0.06, width * 0.06), 11, 42))
    small = max(size * 3 // 4, 10)
    pad = max(size // 2, 5)
    lines = [size] + [small] * (bool(caption.others) + legend)
    tall = sum(lines) + pad * (len(lines) + 1)
    strip = Image.new("RGB", (width, tall + tall % 2), _GROUND)
    middle = pad + size / 2
    _answer_line(strip, caption, size, pad, middle)
    middle += size / 2 + pad + small / 2
    if caption.others:
        others = "then " + ", ".join(f"{label} {score:.2f}" for label, score in caption.others)
        others = shortened(others, small, width - 2 * pad)
        draw_text(strip, (pad, middle), others, small, _PALE, "lm")
        middle += small + pad
    if legend:
        side = small - 2
        box = (pad, round(middle - side / 2), pad + side, round(middle + side / 2))
        ImageDraw.Draw(strip).rectangle(box, fill=(74, 77, 90), outline=_PALE)
        words = shortened("dark: not seen by the model", small, width - 3 * pad - side)
        draw_text(strip, (2 * pad + side, middle), words, small, _PALE, "lm")
    return strip


def _answer_line(strip: Image.Image, caption: Caption, size: int, pad: int, middle: float) -> None:
    """The answer, a bar as long as its share, and the share; the bar goes first where it is tight."""
    name = caption.label if caption.label is not None else "none"
    number = f"{caption.score:.2f}"
    wide = text_width(number, size)
    bar = max(min(strip.width // 5, size * 6), 12)
    room = strip.width - 3 * pad - wide
    if text_width(name, size) > room - bar - pad:
        bar = 0
    else:
        room -= bar + pad
    title = shortened(name, size, max(room, size))
    draw_text(strip, (pad, middle), title, size, _WHITE, "lm")
    x = 2 * pad + text_width(title, size)
    if bar:
        draw = ImageDraw.Draw(strip)
        y, thick = round(middle - size * 0.14), max(round(size * 0.28), 2)
        draw.rectangle((x, y, x + bar, y + thick), fill=(64, 66, 78))
        filled = round(bar * min(max(caption.score, 0.0), 1.0))
        draw.rectangle((x, y, x + filled, y + thick), fill=_ACCENT)
        x += bar + pad
    draw_text(strip, (x, middle), number, size, _WHITE, "lm")
