"""The confusion matrix of an evaluation: a picture, and the counts as CSV."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mafsar.files import written_beside
from mafsar.video.fonts import draw_text, shortened, text_width

_INK, _MUTED, _PAPER, _EMPTY = "#14181f", "#667085", "#ffffff", (244, 245, 248)
_ACCENT = (79, 70, 229)
_MARGIN, _TITLE, _LABEL_ROOM = 28, 64, 240


def draw_confusion(
    labels: Sequence[str], counts: NDArray[np.int64], *, title: str, subtitle: str = ""
) -> Image.Image:
    """Draws answers (columns) by true class (rows); a cell is as dark as its share of the row.

    Args:
        labels: C class names.
        counts: Answers, (C, C), rows = true class.
        title: First line.
        subtitle: Second line.
    """
    classes = len(labels)
    cell = int(np.clip(900 // max(classes, 1), 12, 72))
    size = int(np.clip(cell * 0.42, 9, 15))
    widest = max((text_width(label, size) for label in labels), default=0)
    room = min(widest, _LABEL_ROOM) + 14
    names = [shortened(label, size, room - 12) for label in labels]
    left, top = _MARGIN + room, _TITLE + room + 18
    side = classes * cell
    width = max(left + side + _MARGIN, text_width(title, 20) + 2 * _MARGIN)
    image = Image.new("RGB", (width, top + side + _MARGIN), _PAPER)
    draw = ImageDraw.Draw(image)
    draw_text(image, (_MARGIN, 20), title, 20, _INK)
    draw_text(image, (_MARGIN, 48), subtitle, 13, _MUTED)
    rows = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, rows, out=np.zeros(counts.shape), where=rows > 0)
    for i, name in enumerate(names):
        middle = top + i * cell + cell / 2
        draw_text(image, (left - 8, middle), name, size, _INK, "rm")
        _vertical(image, name, size, round(left + i * cell + cell / 2), top - 8)
        for j in range(classes):
            share = float(shares[i, j])
            box = (
                left + j * cell,
                top + i * cell,
                left + (j + 1) * cell - 2,
                middle + cell / 2 - 2,
            )
            draw.rectangle(box, fill=_shade(share))
            if cell >= 30 and counts[i, j]:
                number = f"{100 * share:.0f}"
                ink = "#ffffff" if share > 0.5 else _INK
                centre = (left + j * cell + cell / 2 - 1, middle - 1)
                draw_text(image, centre, number, size, ink, "mm")
    return image


def write_confusion_csv(path: Path, labels: Sequence[str], counts: NDArray[np.int64]) -> None:
    """Writes the counts: first column = true class, one column an answer."""
    with (
        written_beside(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(["true \\ answer", *labels])
        for label, row in zip(labels, counts.tolist(), strict=True):
            writer.writerow([label, *row])


def _vertical(image: Image.Image, text: str, size: int, centre: int, bottom: int) -> None:
    """Writes `text` upwards, ending at `bottom`."""
    strip = Image.new("L", (text_width(text, size) + 4, size + 8), 0)
    draw_text(strip, (2, strip.height / 2), text, size, (255,), "lm")
    strip = strip.rotate(90, expand=True)
    place = (centre - strip.width // 2, bottom - strip.height)
    image.paste(Image.new("RGB", strip.size, _INK), place, strip)


def _shade(share: float) -> tuple[int, int, int]:
    red, green, blue = (
        round(e + (a - e) * share**0.7) for e, a in zip(_EMPTY, _ACCENT, strict=True)
    )
    return red, green, blue
