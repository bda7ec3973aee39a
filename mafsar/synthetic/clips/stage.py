"""One clip ready to be painted: its people or things, its place and its camera."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
from PIL import Image

from mafsar.errors import InputError
from mafsar.synthetic.actions.people import REST
from mafsar.synthetic.body import Build, draw_build
from mafsar.synthetic.motion import Motion
from mafsar.synthetic.painting.backgrounds import paint_background, paint_surface
from mafsar.synthetic.painting.canvas import SUPERSAMPLE, Canvas
from mafsar.synthetic.painting.develop import Developer
from mafsar.synthetic.painting.figure import TRACKED, Person
from mafsar.synthetic.painting.nuisance import Nuisance
from mafsar.synthetic.painting.textures import field, roll_window
from mafsar.synthetic.painting.things import Tabletop
from mafsar.synthetic.palette import Colour, brightness, pick

POINTS = len(TRACKED) + 4
_COLOUR_STREAM, _BYSTANDER_STREAM = 104, 109
_CONTRAST = 30  # least difference between the actor and the background, grey levels
_MARGIN = 0.08  # fraction of the picture by which a shaken camera may look past its edge


class Stage:
    """A motion in front of a camera.

    Args:
        motion: The action; its arrays have one row per frame.
        nuisance: Everything that does not depend on the action.
        seed: Draws colours and places.
        frames: Number of frames, T.
        size: Side of the picture, pixels.
        mirrored: Mirror the finished pictures left to right.
        photos: Use photographs for some places and table tops.
        cast: First frame and build of each person who acts, if not the person of the nuisance.

    Attributes:
        place: Words for the background.
        world: float64 (T, J, 3) joints of the person, or None in a close view.
    """

    def __init__(
        self,
        motion: Motion,
        nuisance: Nuisance,
        *,
        seed: int,
        frames: int,
        size: int,
        mirrored: bool,
        photos: bool = False,
        cast: Sequence[tuple[int, Build]] = (),
    ) -> None:
        if seed < 0 or frames < 1 or size < 16:
            raise InputError(
                f"seed must be ≥ 0, frames ≥ 1 and size ≥ 16, got {seed}, {frames} and {size}"
            )
        self.frames, self._size, self._mirrored = frames, size, mirrored
        self._nuisance = nuisance
        self._shake = _shake(nuisance, frames)
        self._developer = Developer(nuisance.film, seed, frames, size)
        self._colours = _draw_colours(np.random.default_rng([_COLOUR_STREAM, seed]))
        self._person, self._table = self._actors(motion)
        self._cast = [
            (first, Person(motion, replace(nuisance, build=build))) for first, build in cast
        ]
        self.world = None if self._person is None else self._person.world
        self._background, self.place = self._paint_place(seed, photos)

    def _actors(self, motion: Motion) -> tuple[Person | None, Tabletop | None]:
        if motion.poses is not None:
            return Person(motion, self._nuisance), None
        things = self._colours[:2]
        table = Tabletop(motion.sprites, self._nuisance, things, motion.zoom, self.frames)
        return None, table

    def _paint_place(self, seed: int, photos: bool) -> tuple[Image.Image, str]:
        """Paint the background, with a margin around the picture."""
        side = round(self._size * (1 + 2 * _MARGIN))
        picture, words = paint_background(self._nuisance.background, seed, side, photos=photos)
        if self._table is not None:
            edge = (self._table.edge + _MARGIN) / (1 + 2 * _MARGIN)
            top = int(np.clip(edge * side, 0, side))
            if top < side:
                surface = paint_surface(seed, side - top, self._colours[2], photos=photos)
                wide = Image.fromarray(np.clip(surface, 0, 255).astype(np.uint8))
                picture[top:] = np.asarray(wide.resize((side, side - top)))
                if top > 0:
                    picture[top : top + 2] = picture[top : top + 2] * 0.65
        else:
            build = self._nuisance.build
            picture = _set_apart(picture, [build.shirt, build.trousers])
            if self._nuisance.bystander:
                picture = self._add_bystander(picture, seed)
        doubled = (side * SUPERSAMPLE, side * SUPERSAMPLE)
        return Image.fromarray(picture).resize(doubled, Image.Resampling.BILINEAR), words

    def _add_bystander(self, picture: np.ndarray, seed: int) -> np.ndarray:
        """Paint a bystander, further away and to one side."""
        rng = np.random.default_rng([_BYSTANDER_STREAM, seed])
        far = self._nuisance.scale * rng.uniform(0.45, 0.85)
        aside = rng.choice([-1, 1]) * rng.uniform(0.22, 0.42)
        other = replace(
            self._nuisance,
            build=draw_build(rng),
            yaw=float(rng.uniform(-180, 180)),
            scale=float(far),
            offset=(float(aside), self._nuisance.offset[1]),
        )
        doubled = np.asarray(Image.fromarray(picture).resize((picture.shape[0] * SUPERSAMPLE,) * 2))
        canvas = Canvas(doubled, self._nuisance.light, self._nuisance.edge)
        Person(Motion(REST[None].copy()), other).paint(canvas, 0, np.zeros(2))
        return canvas.finish().copy()

    @cached_property
    def points(self) -> np.ndarray:
        """Tracked points, float64 (T, POINTS, 2) picture fractions; see ``Rendering``."""
        points = np.full((self.frames, POINTS, 2), np.nan)
        if self._person is not None:
            points[:, : len(TRACKED)] = self._person.points
        elif self._table is not None:
            points[:, len(TRACKED) :] = self._table.points
        points += self._shake[:, None]
        return _left_first(points * [-1, 1] + [1, 0] if self._mirrored else points)

    def pictures(self) -> Iterator[np.ndarray]:
        """Paint frame by frame, uint8 (S, S, 3) RGB."""
        for t in range(self.frames):
            picture = self._paint(t)
            yield np.ascontiguousarray(picture[:, ::-1]) if self._mirrored else picture

    def _paint(self, t: int) -> np.ndarray:
        """Paint frame t before any mirroring, uint8 (S, S, 3)."""
        behind = self._see_place(t)
        canvas = Canvas(np.asarray(behind), self._nuisance.light, self._nuisance.edge)
        if self._person is not None:
            person = next((who for first, who in reversed(self._cast) if first <= t), self._person)
            person.paint(canvas, t, self._shake[t])
            anchor = person.points[t, TRACKED.index("pelvis")]
        elif self._table is not None:
            self._table.paint(canvas, t, self._shake[t])
            anchor = self._table.points[t, 0]
        picture = self._roughen(canvas.finish(), np.asarray(behind.reduce(SUPERSAMPLE)), anchor)
        return self._developer.develop(picture, t)

    def _see_place(self, t: int) -> Image.Image:
        """Return the part of the background that frame t shows, at the supersampled size."""
        side, whole = self._size * SUPERSAMPLE, self._background.width
        # The background moves with the camera's shake, half as much as what is near.
        margin = (whole - side) / 2
        at = (margin - 0.5 * self._shake[t] * side).round().clip(0, 2 * margin)
        if self._table is None or self._table.zoom[t] == 1:
            x, y = int(at[0]), int(at[1])
            return self._background.crop((x, y, x + side, y + side))
        seen = side / float(self._table.zoom[t])
        x, y = at + np.asarray(self._table.anchor) * (side - seen)
        box = (x, y, x + seen, y + seen)
        return self._background.resize((side, side), Image.Resampling.BILINEAR, box=box)

    def _roughen(self, picture: np.ndarray, behind: np.ndarray, anchor: np.ndarray) -> np.ndarray:
        """Give everything in front of the background a fine texture that moves along with it."""
        if self._nuisance.texture < 0.02:
            return picture
        at = np.nan_to_num(anchor) * self._size
        cloth = field("cloth")
        x, y = (int(c) % cloth.shape[0] for c in -at)
        depth = self._nuisance.texture * roll_window(cloth, x, y, self._size)
        red, green, blue = np.moveaxis(picture != behind, -1, 0)
        depth *= red | green | blue
        return np.asarray(np.clip(picture * (1 + depth[..., None]), 0, 255), np.uint8)


def _draw_colours(rng: np.random.Generator) -> list[Colour]:
    """Draw the colours of two things and of a table on which they stand out."""
    things = [pick(rng)[1], pick(rng)[1]]
    table = pick(rng)[1]
    while min(abs(brightness(table) - brightness(thing)) for thing in things) < _CONTRAST:
        table = pick(rng)[1]
    return [*things, table]


def _set_apart(picture: np.ndarray, clothes: list[Colour]) -> np.ndarray:
    """Lighten or darken a background that is as bright as the clothes of the actor."""
    third = picture.shape[0] // 3
    behind = brightness(picture[third : 2 * third, third : 2 * third].mean(axis=(0, 1)))
    front = sum(brightness(colour) for colour in clothes) / len(clothes)
    gap = behind - front
    if abs(gap) >= _CONTRAST:
        return picture
    lighter = (gap >= 0 or front < 90) and front < 170
    wanted = front + _CONTRAST if lighter else front - _CONTRAST
    return np.asarray(np.clip(picture * (wanted / max(behind, 8.0)), 0, 255), np.uint8)


def _left_first(points: np.ndarray) -> np.ndarray:
    ordered = points.copy()
    for name in (name for name in TRACKED if name.startswith("l_")):
        pair = [TRACKED.index(name), TRACKED.index(f"r_{name[2:]}")]
        two = points[:, pair]
        order = np.argsort(two[..., 0], axis=1, kind="stable")[..., None]
        ordered[:, pair] = np.take_along_axis(two, order, axis=1)
    return ordered


def _shake(nuisance: Nuisance, frames: int) -> np.ndarray:
    times = np.linspace(0, 1, frames)
    control = np.linspace(0, 1, len(nuisance.shake))
    return np.stack([np.interp(times, control, nuisance.shake[:, i]) for i in (0, 1)], axis=1)
