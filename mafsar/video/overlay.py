"""Videos of clips with their answer written on them; what the model did not see is darkened."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from mafsar.video.clip import NOMINAL_FPS, load_raw_clip
from mafsar.video.fonts import draw_text, shortened, text_width
from mafsar.video.geometry import Geometry
from mafsar.video.picture import Picture
from mafsar.video.preprocess import arrange, resize
from mafsar.video.source import frame_paths, is_image
from mafsar.video.still import read_still
from mafsar.video.write import write_video

_ACCENT = (99, 102, 241)
_GROUND = (16, 18, 27, 205)
_CHUNK_SECONDS = 2.0  # decoded at a time, so that a long clip does not fill the memory
_MOST_FPS = 30.0


@dataclass(frozen=True)
class Banner:
    """The text written on a clip.

    Attributes:
        label: The answer; None is written as "none".
        score: Its score, 0–1.
        others: Other classes with their scores, best first.
    """

    label: str | None
    score: float
    others: tuple[tuple[str, float], ...] = ()


def write_overlay(source: Path, out: Path, banner: Banner, geometry: Geometry) -> Path:
    """Writes a clip as MP4 with the banner on every frame.

    Args:
        source: A video, a frame folder or a picture.
        out: The file to write.
        banner: The text to write.
        geometry: The clip is turned and mirrored as the model saw it, and everything outside the
            region and crop that the model saw is darkened.

    Returns:
        `out`.

    Raises:
        VideoError: The clip cannot be decoded or the file cannot be written.
    """
    frames, fps = _steady_frames(source, replace(geometry, roi=None))
    pictures = (draw_banner(frame, banner, seen_box(frame, geometry)) for frame in frames)
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


def _steady_frames(source: Path, geometry: Geometry) -> tuple[Iterator[np.ndarray], float]:
    """The frames of a clip at a constant rate, and that rate."""
    if source.is_dir() or is_image(source):
        paths = frame_paths(source) if source.is_dir() else [source]
        return (_still(path, geometry) for path in paths), NOMINAL_FPS
    first = load_raw_clip(source, frames=1, geometry=geometry)
    fps = min(first.fps or NOMINAL_FPS, _MOST_FPS)
    return _video_frames(source, geometry, first.duration_seconds, fps), fps


def _video_frames(
    source: Path, geometry: Geometry, duration: float, fps: float
) -> Iterator[np.ndarray]:
    total = max(round(duration * fps), 1)
    chunk = max(round(_CHUNK_SECONDS * fps), 1)
    for begin in range(0, total, chunk):
        count = min(chunk, total - begin)
        start, end = begin / fps, (begin + count) / fps
        if begin + count == total:
            raw = load_raw_clip(source, frames=count, geometry=geometry, start=start)
        else:
            raw = load_raw_clip(source, frames=count, geometry=geometry, start=start, end=end)
        yield from raw.frames


def _still(path: Path, geometry: Geometry) -> np.ndarray:
    picture = arrange(Picture.of(read_still(path)), geometry)
    return resize(picture, picture.width, picture.height)


def draw_banner(frame: np.ndarray, banner: Banner, seen: tuple[int, int, int, int]) -> np.ndarray:
    """Draws the banner at the bottom of one frame and darkens everything outside `seen`.

    Args:
        frame: (H, W, 3), uint8 RGB.
        banner: The text to write.
        seen: Left, top, right, bottom of what the model saw, pixels.

    Returns:
        (H, W, 3), uint8 RGB.
    """
    left, top, right, bottom = seen
    shaded = (frame.astype(np.uint16) * 3 // 5).astype(np.uint8)
    shaded[top:bottom, left:right] = frame[top:bottom, left:right]
    image = Image.fromarray(shaded)
    strip = banner_strip(image.width, image.height, banner)
    image.paste(strip, (0, image.height - strip.height), strip)
    return np.asarray(image)


@lru_cache(maxsize=8)
def banner_strip(width: int, height: int, banner: Banner) -> Image.Image:
    """The banner for frames of this size, RGBA, `width` wide."""
    size = int(np.clip(height * 0.06, 11, 42))
    pad = max(size // 2, 5)
    strip = Image.new("RGBA", (width, size + 2 * pad), _GROUND)
    draw = ImageDraw.Draw(strip)
    number = f"{banner.score:.2f}"
    bar = max(min(width // 6, size * 5), 12)
    room = width - 4 * pad - bar - text_width(number, size)
    title = shortened(banner.label if banner.label is not None else "none", size, max(room, size))
    middle = strip.height / 2
    draw_text(draw, (pad, middle), title, size, (255, 255, 255, 255), "lm")
    x = 2 * pad + text_width(title, size)
    y, thick = round(middle - size * 0.14), max(round(size * 0.28), 2)
    draw.rectangle((x, y, x + bar, y + thick), fill=(255, 255, 255, 60))
    filled = round(bar * min(max(banner.score, 0.0), 1.0))
    draw.rectangle((x, y, x + filled, y + thick), fill=(*_ACCENT, 255))
    x += bar + pad
    draw_text(draw, (x, middle), number, size, (255, 255, 255, 255), "lm")
    x += text_width(number, size) + 2 * pad
    small = max(size * 2 // 3, 9)
    for label, score in banner.others:
        text = f"{label} {score:.2f}"
        if x + text_width(text, small) > width - pad:
            break
        draw_text(draw, (x, middle), text, small, (205, 208, 222, 255), "lm")
        x += text_width(text, small) + pad
    return strip
