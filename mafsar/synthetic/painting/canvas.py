"""Drawing of shaded volumes at twice the final size, which is then halved.

Halving is the anti-aliasing. A capsule is painted dark first and lighter inside, which looks like a
round limb even at 112 pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from mafsar.synthetic.palette import Colour, shade

SUPERSAMPLE = 2
Point = tuple[float, float]


class Canvas:
    """A picture to paint on; coordinates are fractions of its side, y downwards.

    Args:
        background: uint8 (S, S, 3) RGB, already at the supersampled size.
        light: Unit vector (x, y) towards the light, in picture directions.
        edge: Tone of the rims of volumes, relative to their middle.
    """

    def __init__(self, background: np.ndarray, light: Point, edge: float = 0.74) -> None:
        self._image = Image.fromarray(background)
        self._draw = ImageDraw.Draw(self._image, "RGBA")
        self._side = background.shape[0]
        self._light = light
        self._edge = edge

    def finish(self) -> np.ndarray:
        """Return the picture at its final size, uint8 (S/2, S/2, 3)."""
        return np.asarray(self._image.reduce(SUPERSAMPLE))

    def disc(self, centre: Point, radius: float, colour: Colour, *, opacity: int = 255) -> None:
        """Paint a flat disc."""
        x, y, r = centre[0] * self._side, centre[1] * self._side, radius * self._side
        self._draw.ellipse((x - r, y - r, x + r, y + r), fill=(*colour, opacity))

    def oval(
        self, centre: Point, width: float, height: float, colour: Colour, opacity: int
    ) -> None:
        """Paint a flat upright oval with these half axes (shadows)."""
        x, y = centre[0] * self._side, centre[1] * self._side
        w, h = width * self._side, height * self._side
        self._draw.ellipse((x - w, y - h, x + w, y + h), fill=(*colour, opacity))

    def ball(self, centre: Point, radius: float, colour: Colour) -> None:
        """Paint a shaded sphere."""
        self.disc(centre, radius, shade(colour, self._edge))
        lit = self._towards_light(centre, 0.18 * radius)
        self.disc(lit, 0.80 * radius, colour)
        gloss = shade(colour, 1 + 0.9 * (1 - self._edge))
        self.disc(self._towards_light(centre, 0.45 * radius), 0.28 * radius, gloss)

    def capsule(self, a: Point, b: Point, ra: float, rb: float, colour: Colour) -> None:
        """Paint a shaded limb from a to b whose radius goes from ra to rb."""
        self._flat_capsule(a, b, ra, rb, shade(colour, self._edge))
        shift = 0.22 * min(ra, rb)
        a, b = self._towards_light(a, shift), self._towards_light(b, shift)
        self._flat_capsule(a, b, 0.72 * ra, 0.72 * rb, colour)

    def polygon(self, points: Sequence[Point], colour: Colour, opacity: int = 255) -> None:
        """Paint a flat polygon."""
        flat = [(x * self._side, y * self._side) for x, y in points]
        self._draw.polygon(flat, fill=(*colour, opacity))

    def line(self, a: Point, b: Point, width: float, colour: Colour) -> None:
        """Paint a flat straight line."""
        ends = [(p[0] * self._side, p[1] * self._side) for p in (a, b)]
        self._draw.line(ends, fill=colour, width=max(1, round(width * self._side)))

    def _towards_light(self, point: Point, distance: float) -> Point:
        return point[0] + distance * self._light[0], point[1] + distance * self._light[1]

    def _flat_capsule(self, a: Point, b: Point, ra: float, rb: float, colour: Colour) -> None:
        dx, dy = b[0] - a[0], b[1] - a[1]
        length = math.hypot(dx, dy)
        self.disc(a, ra, colour)
        self.disc(b, rb, colour)
        if length > 1e-6:
            nx, ny = -dy / length, dx / length
            self.polygon(
                [
                    (a[0] + nx * ra, a[1] + ny * ra),
                    (b[0] + nx * rb, b[1] + ny * rb),
                    (b[0] - nx * rb, b[1] - ny * rb),
                    (a[0] - nx * ra, a[1] - ny * ra),
                ],
                colour,
            )
