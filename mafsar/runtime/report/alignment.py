"""The picture of a match: query frames above the best support clip's, lines for the alignment.

Frames are drawn as the model saw them. Only Pillow is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mafsar.video.fonts import draw_text, shortened, text_width

Frames = NDArray[np.uint8]

INK, MUTED, FAINT, PAPER = "#14181f", "#667085", "#e6e8ee", "#ffffff"
ACCENT = (79, 70, 229)
_FAINTEST = 0.04  # share of the strongest pair below which no line is drawn
_SUPERSAMPLE = 3  # Pillow's lines have hard edges; drawn larger and shrunk they are smooth
_MARGIN, _GAP, _BAND, _HEADER, _CAPTION, _FOOTER, _TIMES = 36, 12, 132, 84, 26, 40, 26


@dataclass(frozen=True)
class Strip:
    """One clip of the picture.

    Attributes:
        name: What the reader sees it called (a path, a query's name).
        frames: The T frames that the model saw, (T, S, S, 3), uint8 RGB.
        times_seconds: Their times, (T,).
    """

    name: str
    frames: Frames
    times_seconds: Sequence[float]


def draw_match(
    query: Strip,
    support: Strip,
    alignment: NDArray[np.floating],
    *,
    label: str | None,
    best: str,
    score: float,
    runner_up: tuple[str, float] | None = None,
    footer: str = "",
    tile: int = 152,
) -> Image.Image:
    """Draws one match.

    Args:
        query: The query clip.
        support: The best class's support clip that is nearest to the query.
        alignment: Weight of each pair of frames, (Tq, Ts), ≥ 0; lines are as strong as these.
        label: The answer, or None for "none of them".
        best: The best class, shown also where the answer is none.
        score: Its score, 0–1.
        runner_up: The second class and its score.
        footer: One small line at the bottom.
        tile: Side of a drawn frame, pixels.

    Returns:
        An RGB picture, T tiles wide.
    """
    columns = max(len(query.frames), len(support.frames))
    width = 2 * _MARGIN + columns * tile + (columns - 1) * _GAP
    query_top = _HEADER + 24
    band_top = query_top + tile + _TIMES
    support_top = band_top + _BAND
    height = support_top + tile + _TIMES + _CAPTION + _FOOTER
    image = Image.new("RGB", (width, height), PAPER)
    _header(image, width, query.name, label, best, score, runner_up)
    query_centres = _row(image, query, query_top, tile, columns)
    support_centres = _row(image, support, support_top, tile, columns)
    band = _lines(width, _BAND - 8, query_centres, support_centres, alignment)
    image.paste(band, (0, band_top + 2), band)
    caption = f"nearest clip of {best}:  {support.name}"
    draw_text(
        image,
        (_MARGIN, support_top + tile + _TIMES + 6),
        shortened(caption, 15, width - 2 * _MARGIN),
        15,
        MUTED,
    )
    if footer:
        draw_text(image, (_MARGIN, height - 26), footer, 12, "#98a2b3")
    return image


def frames_only(image: Image.Image) -> Image.Image:
    """The frames and lines of `draw_match`, for pages that say the rest in words."""
    return image.crop((0, _HEADER, image.width, image.height - _CAPTION - _FOOTER))


def _header(
    image: Image.Image,
    width: int,
    name: str,
    label: str | None,
    best: str,
    score: float,
    runner_up: tuple[str, float] | None,
) -> None:
    title = label if label is not None else f"none (nearest: {best})"
    title = shortened(title, 34, width // 2)
    draw_text(image, (_MARGIN, 58), title, 34, INK, "ls")
    left = _MARGIN + text_width(title, 34) + 22
    bar_width, bar_height, bar_top = 150, 10, 42
    image.paste(_bar(bar_width, bar_height, score), (left, bar_top))
    draw_text(image, (left + bar_width + 12, 58), f"{score:.2f}", 20, INK, "ls")
    if runner_up is not None:
        place = left + bar_width + 12 + text_width("0.00", 20) + 24
        text = f"then {runner_up[0]} {runner_up[1]:.2f}"
        text = shortened(text, 15, max(width - _MARGIN - place - 220, 40))
        draw_text(image, (place, 57), text, 15, MUTED, "ls")
    room = width // 3
    draw_text(image, (width - _MARGIN, 57), shortened(name, 15, room), 15, MUTED, "rs")
    draw = ImageDraw.Draw(image)
    draw.line((_MARGIN, _HEADER - 4, width - _MARGIN, _HEADER - 4), fill=FAINT, width=1)


def _row(image: Image.Image, strip: Strip, top: int, tile: int, columns: int) -> list[float]:
    """Draws the frames of a strip with their times; returns the frames' centres, pixels."""
    mask = _rounded(tile)
    missing = columns - len(strip.frames)
    start = _MARGIN + missing * (tile + _GAP) / 2
    centres = []
    for index, frame in enumerate(strip.frames):
        left = round(start + index * (tile + _GAP))
        picture = Image.fromarray(np.ascontiguousarray(frame)).resize(
            (tile, tile), Image.Resampling.LANCZOS
        )
        image.paste(picture, (left, top), mask)
        centre = left + tile / 2
        centres.append(centre)
        if index < len(strip.times_seconds):
            when = f"{strip.times_seconds[index]:.2f} s"
            draw_text(image, (centre, top + tile + 6), when, 13, MUTED, "ma")
    return centres


def _bar(width: int, height: int, score: float) -> Image.Image:
    """A pill, filled from the left as far as `score` goes."""
    s = _SUPERSAMPLE
    size = (width * s, height * s)
    shape = Image.new("L", size, 0)
    ImageDraw.Draw(shape).rounded_rectangle(
        (0, 0, size[0] - 1, size[1] - 1), size[1] // 2, fill=255
    )
    fill = Image.new("RGB", size, FAINT)
    fill.paste(ACCENT, (0, 0, round(size[0] * min(max(score, 0.0), 1.0)), size[1]))
    pill = Image.new("RGB", size, PAPER)
    pill.paste(fill, (0, 0), shape)
    return pill.resize((width, height), Image.Resampling.LANCZOS)


def _rounded(tile: int) -> Image.Image:
    big = Image.new("L", (tile * 4, tile * 4), 0)
    ImageDraw.Draw(big).rounded_rectangle((0, 0, tile * 4 - 1, tile * 4 - 1), 40, fill=255)
    return big.resize((tile, tile), Image.Resampling.LANCZOS)


def _lines(
    width: int,
    height: int,
    query_centres: Sequence[float],
    support_centres: Sequence[float],
    alignment: NDArray[np.floating],
) -> Image.Image:
    """The band of curves between the two rows, RGBA; strong pairs are drawn last."""
    strength = np.asarray(alignment, np.float64)
    strength = strength / max(float(strength.max(initial=0.0)), 1e-12)
    s = _SUPERSAMPLE
    layer = Image.new("RGBA", (width * s, height * s), (*ACCENT, 0))
    draw = ImageDraw.Draw(layer)
    order = sorted(np.ndindex(*strength.shape), key=lambda pair: float(strength[pair]))
    for i, j in order:
        weight = float(strength[i, j])
        if weight < _FAINTEST:
            continue
        points = _curve(query_centres[i] * s, support_centres[j] * s, height * s)
        fill = (*_shade(weight), round(255 * weight**2))
        draw.line(points, fill=fill, width=max(1, round(s * (0.6 + 4.0 * weight))), joint="curve")
    return layer.resize((width, height), Image.Resampling.LANCZOS)


def _shade(weight: float) -> tuple[int, int, int]:
    """From a pale to the full accent colour."""
    pale = (165, 180, 252)
    red, green, blue = (round(p + (a - p) * weight) for p, a in zip(pale, ACCENT, strict=True))
    return red, green, blue


def _curve(start: float, end: float, height: float) -> list[tuple[float, float]]:
    """Points of a vertical S-curve from (start, 0) to (end, height)."""
    steps = 36
    points = []
    for k in range(steps + 1):
        t = k / steps
        smooth = t * t * (3.0 - 2.0 * t)
        points.append((start + (end - start) * smooth, height * t))
    return points
