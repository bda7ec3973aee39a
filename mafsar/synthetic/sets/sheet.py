"""Contact sheets: one row of frames per clip, to check by eye that classes can be recognised."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from mafsar.synthetic.clips.render import render_clip

_LABEL_WIDTH = 150


def contact_sheet(
    names: Sequence[str], *, seed: int = 0, frames: int = 8, size: int = 96
) -> Image.Image:
    """Draw one clip of each class as a row of frames with its name.

    Args:
        names: Class names, top to bottom.
        seed: Seed of the first row; each row takes the next one, so that no two show the same body.
        frames: Frames in a row.
        size: Side of a picture, pixels.
    """
    sheet = Image.new("RGB", (_LABEL_WIDTH + frames * (size + 2), len(names) * (size + 2)), "white")
    draw = ImageDraw.Draw(sheet)
    for row, name in enumerate(names):
        clip = render_clip(name, seed=seed + row, frames=frames, size=size)
        for column, picture in enumerate(np.asarray(clip)):
            place = (_LABEL_WIDTH + column * (size + 2), row * (size + 2))
            sheet.paste(Image.fromarray(picture), place)
        draw.text((4, row * (size + 2) + size // 2 - 5), name.replace("_", " "), fill="black")
    return sheet
