"""A clip with its answer written on it: a banner over every frame, outside it a frame's edge.

What the model did not see (beyond its centre crop or its region) is darkened.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from mafsar.video.fonts import draw_text, shortened, text_width

_ACCENT = (99, 102, 241)
_GROUND = (16, 18, 27, 205)


@dataclass(frozen=True)
class Banner:
    """What is written on a clip.

    Attributes:
        label: The answer, or None for "none".
        score: Its score, 0–1.
        others: Further classes with their scores, best first.
    """

    label: str | None
    score: float
    others: Sequence[tuple[str, float]] = ()


def draw_banner(frame: np.ndarray, banner: Banner, seen: tuple[int, int, int, int]) -> np.ndarray:
    """One frame with the banner at its foot and what lies outside `seen` darkened.

    Args:
        frame: (H, W, 3), uint8 RGB.
        banner: What is written.
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
