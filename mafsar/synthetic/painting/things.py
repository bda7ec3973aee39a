"""Painting of things, boxes and hands of the close views."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from mafsar.synthetic.motion import BASE, Sprite
from mafsar.synthetic.painting.canvas import Canvas, Point
from mafsar.synthetic.painting.nuisance import Nuisance
from mafsar.synthetic.palette import Colour, shade


class Tabletop:
    """A close view's clip.

    Attributes:
        points: float64 (T, 4, 2) picture fractions of thing, second thing, hand and second hand;
            NaN where there is none.
        zoom: float64 (T,) how much larger than at its smallest everything looks.
        anchor: The place that stays where it is when the view zooms, picture fractions.
    """

    def __init__(
        self,
        sprites: list[Sprite],
        nuisance: Nuisance,
        colours: Sequence[Colour],
        zoom: np.ndarray | None,
        frames: int,
    ) -> None:
        self._sprites, self._nuisance, self._colours = sprites, nuisance, colours
        zooming = np.ones(frames) if zoom is None else zoom
        self._scale = 0.5 / nuisance.close * zooming
        self.zoom = zooming / zooming.min()
        self.anchor = (0.5 + nuisance.offset[0], 0.52 + nuisance.offset[1])
        self.points = np.full((frames, 4, 2), np.nan)
        for sprite in sprites:
            if sprite.role is not None:
                for t in range(frames):
                    self.points[t, sprite.role] = self._place(sprite.x[t], sprite.y[t], t)

    @property
    def edge(self) -> float:
        """The table's far edge where the view is widest, as a fraction of the picture's height."""
        return self.anchor[1] - float(self._scale.min()) * self._nuisance.table

    def _place(self, x: float, y: float, t: int) -> Point:
        scale = float(self._scale[t])
        roll = math.radians(self._nuisance.roll)
        u, v = x * math.cos(roll) - y * math.sin(roll), x * math.sin(roll) + y * math.cos(roll)
        return self.anchor[0] + scale * u, self.anchor[1] - scale * v

    def paint(self, canvas: Canvas, t: int, shift: np.ndarray) -> None:
        """Paint frame t, moved by ``shift`` (2,)."""
        for sprite in self._sprites:
            if sprite.kind not in ("hand", "pendulum", "box_back"):
                self._paint_shadow(canvas, sprite, t, shift)
        for sprite in self._sprites:
            self._paint_sprite(canvas, sprite, t, shift)

    def _paint_shadow(self, canvas: Canvas, sprite: Sprite, t: int, shift: np.ndarray) -> None:
        """Paint a thing's shadow on the table, fainter the higher it is."""
        size = abs(sprite.size) * (1.0 if sprite.grow is None else float(sprite.grow[t]))
        floor = BASE if sprite.floor is None else float(sprite.floor[t])
        high = max(0.0, float(sprite.y[t]) - size - floor)
        x, y = self._shifted(float(sprite.x[t]) - 0.15 * self._nuisance.light[0], floor, t, shift)
        wide = float(self._scale[t]) * size
        opacity = int(90 / (1 + 6 * high))
        canvas.oval((x, y), 1.15 * wide, 0.3 * wide, (0, 0, 0), opacity)

    def _paint_sprite(self, canvas: Canvas, sprite: Sprite, t: int, shift: np.ndarray) -> None:
        scale = float(self._scale[t])
        angle = 0.0 if sprite.angle is None else float(sprite.angle[t])
        # The angle of a chest's lid or of a folded half turns nothing else.
        turn = 0.0 if sprite.kind in ("chest", "paper") else math.radians(angle)
        cx, cy, size = float(sprite.x[t]), float(sprite.y[t]), sprite.size
        if sprite.grow is not None:
            size *= float(sprite.grow[t])

        def at(u: float, v: float) -> Point:
            """Place a point given in the sprite's own half widths."""
            x = cx + size * (u * math.cos(turn) - v * math.sin(turn))
            y = cy + abs(size) * (u * math.sin(turn) + v * math.cos(turn))
            px, py = self._place(x, y, t)
            return px + float(shift[0]), py + float(shift[1])

        colour = self._colours[sprite.colour]
        unit = scale * abs(size)
        if sprite.kind == "hand":
            _hand(canvas, at, unit, sprite, self._nuisance)
        elif sprite.kind == "paper":
            _paper(canvas, at, angle, colour)
        elif sprite.kind == "chest":
            _chest(
                canvas, sprite, (cx, cy), lambda x, y: self._shifted(x, y, t, shift), angle, colour
            )
        else:
            _PAINTERS[sprite.kind](canvas, at, unit, colour)

    def _shifted(self, x: float, y: float, t: int, shift: np.ndarray) -> Point:
        px, py = self._place(x, y, t)
        return px + float(shift[0]), py + float(shift[1])


Place = Callable[[float, float], Point]


def _box(at: Place, left: float, bottom: float, right: float, top: float) -> list[Point]:
    return [at(left, bottom), at(right, bottom), at(right, top), at(left, top)]


def _block(canvas: Canvas, at: Place, _unit: float, colour: Colour) -> None:
    canvas.polygon(_box(at, -1, -1, 1, 1), colour)
    canvas.polygon([at(-1, 1), at(1, 1), at(1.25, 1.25), at(-0.75, 1.25)], shade(colour, 1.2))
    canvas.polygon([at(1, -1), at(1.25, -0.75), at(1.25, 1.25), at(1, 1)], shade(colour, 0.68))


def _can(canvas: Canvas, at: Place, unit: float, colour: Colour) -> None:
    canvas.capsule(at(0, -0.75), at(0, 0.75), 0.6 * unit, 0.6 * unit, colour)
    canvas.polygon(_box(at, -0.58, -0.3, 0.58, 0.35), shade(colour, 1.45))


def _bottle(canvas: Canvas, at: Place, unit: float, colour: Colour) -> None:
    canvas.capsule(at(0, -1.5), at(0, 0.3), 0.5 * unit, 0.45 * unit, colour)
    canvas.capsule(at(0, 0.5), at(0, 1.6), 0.24 * unit, 0.2 * unit, colour)
    canvas.disc(at(0, 1.75), 0.26 * unit, shade(colour, 0.45))


def _fruit(canvas: Canvas, at: Place, unit: float, colour: Colour) -> None:
    canvas.ball(at(-0.12, 0), 0.88 * unit, colour)
    canvas.ball(at(0.15, 0.02), 0.86 * unit, colour)
    canvas.line(at(0, 0.75), at(0.15, 1.15), 0.12 * unit, (70, 50, 25))


def _car(canvas: Canvas, at: Place, unit: float, colour: Colour) -> None:
    canvas.capsule(at(-1.1, -0.45), at(1.1, -0.45), 0.35 * unit, 0.35 * unit, colour)
    canvas.polygon(
        [at(-0.8, -0.3), at(-0.5, 0.4), at(0.45, 0.4), at(0.8, -0.3)], shade(colour, 0.85)
    )
    for x in (-0.75, 0.75):
        canvas.disc(at(x, -0.75), 0.27 * unit, (25, 25, 25))


def _ball(canvas: Canvas, at: Place, unit: float, colour: Colour) -> None:
    canvas.ball(at(0, 0), unit, colour)
    canvas.capsule(at(-0.75, 0), at(0.75, 0), 0.14 * unit, 0.14 * unit, shade(colour, 0.45))


def _cup(canvas: Canvas, at: Place, _unit: float, colour: Colour) -> None:
    canvas.polygon([at(-0.65, -1), at(0.65, -1), at(0.9, 1), at(-0.9, 1)], colour)
    canvas.polygon([at(0.35, -1), at(0.65, -1), at(0.9, 1), at(0.5, 1)], shade(colour, 0.75))
    canvas.polygon([at(-0.9, 1), at(0.9, 1), at(0.8, 0.85), at(-0.8, 0.85)], shade(colour, 0.5))


def _cover(canvas: Canvas, at: Place, unit: float, colour: Colour) -> None:
    canvas.polygon([at(-1, -1), at(1, -1), at(0.7, 1), at(-0.7, 1)], colour)
    canvas.polygon([at(0.4, -1), at(1, -1), at(0.7, 1), at(0.35, 1)], shade(colour, 0.75))
    canvas.disc(at(0, 1.05), 0.15 * unit, shade(colour, 0.6))


def _box_back(canvas: Canvas, at: Place, _unit: float, colour: Colour) -> None:
    canvas.polygon([at(-1, 0.7), at(1, 0.7), at(0.85, 1.1), at(-0.85, 1.1)], shade(colour, 0.5))


def _box_front(canvas: Canvas, at: Place, _unit: float, colour: Colour) -> None:
    canvas.polygon(_box(at, -1, -0.8, 1, 0.7), colour)
    canvas.polygon(_box(at, -1, 0.6, 1, 0.7), shade(colour, 1.25))
    canvas.polygon(_box(at, 0.8, -0.8, 1, 0.7), shade(colour, 0.75))


def _pencil(canvas: Canvas, at: Place, unit: float, colour: Colour) -> None:
    canvas.capsule(at(-1, 0), at(0.75, 0), 0.17 * unit, 0.17 * unit, colour)
    canvas.polygon([at(0.75, -0.17), at(1.15, 0), at(0.75, 0.17)], (225, 190, 140))
    canvas.disc(at(-1, 0), 0.18 * unit, (215, 90, 90))


def _cloth(canvas: Canvas, at: Place, unit: float, colour: Colour) -> None:
    canvas.capsule(at(-0.9, -0.2), at(0.9, -0.2), 0.3 * unit, 0.3 * unit, colour)
    canvas.capsule(at(-0.7, 0.05), at(0.6, 0.1), 0.22 * unit, 0.22 * unit, shade(colour, 1.15))


def _spoon(canvas: Canvas, at: Place, unit: float, _colour: Colour) -> None:
    canvas.capsule(at(0, -1.4), at(0, 1.0), 0.08 * unit, 0.08 * unit, (190, 190, 195))


def _pendulum(canvas: Canvas, at: Place, unit: float, colour: Colour) -> None:
    canvas.line(at(0, 8.0), at(0, 0.8), 0.012, (60, 50, 45))
    canvas.ball(at(0, 0), unit, colour)
    canvas.polygon(_box(at, -0.25, -0.9, 0.25, 0.9), shade(colour, 0.6))


def _paper(canvas: Canvas, at: Place, angle: float, colour: Colour) -> None:
    """Paint a sheet that lies flat, one half of it turned over by ``angle``."""
    slant, a = 0.28, math.radians(angle)
    over, up = math.cos(a), 0.7 * math.sin(a)
    canvas.polygon([at(-1, -0.6), at(0, -0.6), at(slant, 0.6), at(slant - 1, 0.6)], colour)
    half = [at(0, -0.6), at(over, up - 0.6), at(over + slant, up + 0.6), at(slant, 0.6)]
    canvas.polygon(half, shade(colour, 1.2 if angle < 90 else 0.75))


def _chest(
    canvas: Canvas,
    sprite: Sprite,
    centre: Point,
    place: Place,
    angle: float,
    colour: Colour,
) -> None:
    """Paint a box whose lid, hinged on one side, stands open by ``angle``."""
    (cx, cy), half = centre, sprite.size
    tall = 0.65 * abs(half)
    body = [(-half, -tall), (half, -tall), (half, tall), (-half, tall)]
    canvas.polygon([place(cx + x, cy + y) for x, y in body], colour)
    band = [(-half, -0.1 * tall), (half, -0.1 * tall), (half, 0.2 * tall), (-half, 0.2 * tall)]
    canvas.polygon([place(cx + x, cy + y) for x, y in band], shade(colour, 0.65))
    a, thick = math.radians(angle), 0.09
    ux, uy = 2 * half * math.cos(a), 2 * abs(half) * math.sin(a)
    nx, ny = -thick * math.sin(a) * math.copysign(1, half), thick * math.cos(a)
    hinge_x, hinge_y = cx - half, cy + tall
    lid = [(0.0, 0.0), (ux, uy), (ux + nx, uy + ny), (nx, ny)]
    canvas.polygon([place(hinge_x + x, hinge_y + y) for x, y in lid], shade(colour, 1.3))


def _hand(canvas: Canvas, place: Place, unit: float, sprite: Sprite, nuisance: Nuisance) -> None:
    """Paint a forearm that comes in from the picture's edge, a palm, fingers and a thumb."""
    build = nuisance.build
    unit *= nuisance.hand
    grown = nuisance.hand

    def at(u: float, v: float) -> Point:
        """Place a point of a hand of this clip's size."""
        return place(grown * u, grown * v)

    rx, ry = sprite.reach
    turn, below = math.radians(nuisance.reach[0]), nuisance.reach[1]
    rx, ry = rx * math.cos(turn) - ry * math.sin(turn), rx * math.sin(turn) + ry * math.cos(turn)
    ry = (1 - below) * ry - below
    length = max(1e-3, math.hypot(rx, ry))
    rx, ry = rx / length, ry / length
    sleeve = build.shirt if build.long_sleeves else build.skin
    girth = 0.55 + 0.2 * build.girth
    canvas.capsule(
        at(1.6 * rx, 1.6 * ry),
        at(14 * rx, 14 * ry),
        0.62 * girth * unit,
        1.05 * girth * unit,
        sleeve,
    )
    canvas.capsule(
        at(0.2 * rx, 0.2 * ry),
        at(2.0 * rx, 2.0 * ry),
        0.62 * girth * unit,
        0.55 * girth * unit,
        build.skin,
    )
    for spread in (-0.5, -0.17, 0.17, 0.5):
        fx, fy = -rx - spread * ry * 0.9, -ry + spread * rx * 0.9
        start = at(0.1 * fx - 0.5 * spread * ry, 0.1 * fy + 0.5 * spread * rx)
        canvas.capsule(start, at(1.05 * fx, 1.05 * fy), 0.22 * unit, 0.19 * unit, build.skin)
    canvas.capsule(
        at(0.3 * rx, 0.3 * ry),
        at(0.8 * ry - 0.3 * rx, -0.8 * rx - 0.3 * ry),
        0.25 * unit,
        0.2 * unit,
        build.skin,
    )


_PAINTERS: dict[str, Callable[[Canvas, Place, float, Colour], None]] = {
    "block": _block,
    "can": _can,
    "bottle": _bottle,
    "fruit": _fruit,
    "car": _car,
    "ball": _ball,
    "cup": _cup,
    "cover": _cover,
    "box_back": _box_back,
    "box_front": _box_front,
    "pencil": _pencil,
    "cloth": _cloth,
    "spoon": _spoon,
    "pendulum": _pendulum,
}
