"""Clips of places without an action: appearance alone."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from mafsar.synthetic.painting.backgrounds import draw_kind, paint_background
from mafsar.synthetic.palette import pick

_SCENE_STREAM = 106


def paint_scene_clip(
    seed: int, take: int, *, frames: int = 8, size: int = 112, photos: bool = False
) -> np.ndarray:
    """Paint one take of a place in which shapes drift and no action happens.

    Takes of the same seed show the same place and shapes in another crop and at other times: they
    are alike in appearance only.

    Args:
        seed: The place.
        take: Number of the clip of this place.
        frames: Number of frames, T.
        size: Side of the picture, pixels.
        photos: Use photographs for some places; see ``paint_background``.

    Returns:
        uint8 (frames, size, size, 3).
    """
    place = np.random.default_rng([_SCENE_STREAM, seed])
    own = np.random.default_rng([_SCENE_STREAM, seed, take + 1])
    wide = size * 3 // 2
    picture, _ = paint_background(draw_kind(place), seed, wide, photos=photos)
    shapes = [
        (pick(place)[1], place.uniform(0.04, 0.16), place.uniform(0.1, 0.9, 2), place.random())
        for _ in range(int(place.integers(1, 7)))
    ]
    window = own.uniform(0.68, 0.9)
    start, stop = own.uniform(0, 1 - window, (2, 2))
    stop = start + 0.3 * (stop - start)
    gain = own.uniform(0.85, 1.15) * (1 + own.normal(0, 0.03, 3))
    phase = own.uniform(0, 2 * np.pi, len(shapes))
    clip = np.empty((frames, size, size, 3), np.uint8)
    for t in range(frames):
        image = Image.fromarray(picture)
        draw = ImageDraw.Draw(image)
        for (colour, radius, centre, round_one), angle in zip(shapes, phase, strict=True):
            turn = angle + 2 * np.pi * t / frames
            x, y = (centre + 0.12 * np.array([np.cos(turn), np.sin(turn)])) * wide
            box = (x - radius * wide, y - radius * wide, x + radius * wide, y + radius * wide)
            (draw.ellipse if round_one < 0.6 else draw.rectangle)(box, fill=colour)
        corner = (start + (stop - start) * t / max(1, frames - 1)) * wide
        box = (corner[0], corner[1], corner[0] + window * wide, corner[1] + window * wide)
        seen = image.resize((size, size), Image.Resampling.BILINEAR, box=box)
        clip[t] = np.clip(np.asarray(seen) * gain + own.normal(0, 3, (size, size, 1)), 0, 255)
    return clip
