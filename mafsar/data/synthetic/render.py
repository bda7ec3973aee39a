"""Rendering of labelled clips: a class name and a seed give the same pixels every time.

Body, place, light, camera and tempo come from the seed alone; the class adds only its motion, so a
class cannot be told by anything else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from mafsar.data.synthetic.actions import Action, action
from mafsar.data.synthetic.backgrounds import paint_background, paint_surface
from mafsar.data.synthetic.body import draw_build, sway
from mafsar.data.synthetic.canvas import SUPERSAMPLE, Canvas
from mafsar.data.synthetic.captions import frame_words
from mafsar.data.synthetic.develop import Developer
from mafsar.data.synthetic.figure import TRACKED, Person
from mafsar.data.synthetic.motion import Motion
from mafsar.data.synthetic.nuisance import Nuisance, draw_nuisance
from mafsar.data.synthetic.palette import Colour, brightness, pick
from mafsar.data.synthetic.people import REST
from mafsar.data.synthetic.textures import field, roll_window
from mafsar.data.synthetic.things import Tabletop
from mafsar.errors import InputError

_CONTRAST = 30  # grey levels at least between what acts and what is behind it
POINTS = len(TRACKED) + 4
_STYLE_STREAM, _COLOUR_STREAM, _BYSTANDER_STREAM = 103, 104, 109
_MARGIN = 0.08  # of the picture: how far a shaken camera may look past its edge


@dataclass(frozen=True)
class Rendering:
    """A rendered clip and what is known about it.

    Attributes:
        frames: uint8 (T, S, S, 3) RGB.
        points: float32 (T, POINTS, 2) picture fractions of joints and things; NaN where absent. Of
            two like joints the one further left in the picture comes first: a mirrored picture
            does not show which was which.
        phrases: For each frame, phrases that describe it, the main one first.
    """

    frames: np.ndarray
    points: np.ndarray
    phrases: list[list[str]]


def render_clip(
    class_name: str, *, seed: int, frames: int = 8, size: int = 112, photos: bool = False
) -> np.ndarray:
    """Render one clip of a class.

    Args:
        class_name: One of ``class_names()``.
        seed: Draws everything that is not the class; ≥ 0.
        frames: How many frames, evenly over the clip.
        size: Side of the picture, pixels.
        photos: Some places and table tops are photographs. Without them a clip's pixels are the
            same whatever is installed.

    Returns:
        uint8 (frames, size, size, 3) RGB.

    Raises:
        InputError: There is no such class, or a number is out of range.
        UnavailableError: ``photos`` without the packages that hold them.
    """
    return render(class_name, seed=seed, frames=frames, size=size, photos=photos).frames


def render(
    class_name: str, *, seed: int, frames: int = 8, size: int = 112, photos: bool = False
) -> Rendering:
    """Render one clip together with its joints and words; see ``render_clip``."""
    scene = _Scene(action(class_name), seed, frames, size, photos)
    pictures = np.stack([scene.paint(t) for t in range(frames)])
    points = scene.points
    if scene.mirrored:
        pictures = np.ascontiguousarray(pictures[:, :, ::-1])
        points = points * [-1, 1] + [1, 0]
    points = _left_first(points)
    phrases = [scene.words(t, points[t]) for t in range(frames)]
    return Rendering(pictures, points.astype(np.float32), phrases)


def iterate_frames(
    class_name: str, *, seed: int, frames: int, size: int, photos: bool = False
) -> Iterator[np.ndarray]:
    """Render a clip frame by frame, uint8 (size, size, 3), without holding all of it."""
    scene = _Scene(action(class_name), seed, frames, size, photos)
    for t in range(frames):
        picture = scene.paint(t)
        yield np.ascontiguousarray(picture[:, ::-1]) if scene.mirrored else picture


def render_video(
    class_name: str,
    path: Path,
    *,
    seed: int,
    seconds: float = 2.0,
    fps: float = 12.0,
    size: int = 224,
    photos: bool = False,
) -> Path:
    """Render one clip of a class into a video file.

    Args:
        class_name: One of ``class_names()``.
        path: The file to write, ``.mp4``.
        seed: Draws everything that is not the class; ≥ 0.
        seconds: Length of the clip.
        fps: Frames a second.
        size: Side of the picture, pixels, even.
        photos: See ``render_clip``.

    Returns:
        ``path``.
    """
    # PyAV is wanted only here: drawing needs nothing but numpy and Pillow.
    from mafsar.video import write_video

    count = max(1, round(seconds * fps))
    pictures = iterate_frames(class_name, seed=seed, frames=count, size=size, photos=photos)
    write_video(path, pictures, fps)
    return path


class _Scene:
    """One clip about to be painted."""

    def __init__(self, entry: Action, seed: int, frames: int, size: int, photos: bool) -> None:
        if seed < 0 or frames < 1 or size < 16:
            raise InputError(
                f"seed must be ≥ 0, frames ≥ 1 and size ≥ 16, got {seed}, {frames} and {size}"
            )
        self._entry, self._frames, self._size = entry, frames, size
        self._nuisance = nuisance = draw_nuisance(seed)
        times = (np.arange(frames) + 0.5) / frames
        # Backwards means exactly the frames of the forward motion in reverse order.
        times = 1 - times if entry.backwards else times
        self.progress = _progress(entry, nuisance, times)
        motion = entry.motion(np.random.default_rng([_STYLE_STREAM, seed]), self.progress)
        if motion.poses is not None:
            sway(motion.poses, nuisance.posture, times)
        # A class with a side is drawn to the right and mirrored to go left; others at random.
        self.mirrored = entry.side < 0 if entry.side else nuisance.mirror
        self._shake = _shake(nuisance, frames)
        self._developer = Developer(nuisance.film, seed, frames, size)
        colours = np.random.default_rng([_COLOUR_STREAM, seed])
        self._colours = _draw_colours(colours)
        self._person, self._table = self._actors(motion)
        self._background, self.place = self._paint_place(seed, photos)

    def _actors(self, motion: Motion) -> tuple[Person | None, Tabletop | None]:
        if motion.poses is not None:
            return Person(motion, self._nuisance), None
        colours = self._colours[:2]
        table = Tabletop(motion.sprites, self._nuisance, colours, motion.zoom, self._frames)
        return None, table

    def _paint_place(self, seed: int, photos: bool) -> tuple[Image.Image, str]:
        """Paint what stays behind the action, with a margin around the picture."""
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
        """Paint somebody who stands about, further off and to one side."""
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

    @property
    def points(self) -> np.ndarray:
        """Tracked points before any mirroring, float64 (T, POINTS, 2)."""
        points = np.full((self._frames, POINTS, 2), np.nan)
        if self._person is not None:
            points[:, : len(TRACKED)] = self._person.points
        elif self._table is not None:
            points[:, len(TRACKED) :] = self._table.points
        points += self._shake[:, None]
        return points

    def words(self, t: int, points: np.ndarray) -> list[str]:
        """Describe frame t."""
        main = TRACKED.index("pelvis") if self._person is not None else len(TRACKED)
        across = float(points[main, 0])
        world = None if self._person is None else self._person.world[t]
        return frame_words(
            self._entry, float(self.progress[t]), self._nuisance, self.place, world, across
        )

    def paint(self, t: int) -> np.ndarray:
        """Paint frame t before any mirroring, uint8 (S, S, 3)."""
        behind = self._see_place(t)
        canvas = Canvas(np.asarray(behind), self._nuisance.light, self._nuisance.edge)
        if self._person is not None:
            self._person.paint(canvas, t, self._shake[t])
            anchor = self._person.points[t, TRACKED.index("pelvis")]
        elif self._table is not None:
            self._table.paint(canvas, t, self._shake[t])
            anchor = self._table.points[t, 0]
        picture = self._roughen(canvas.finish(), np.asarray(behind.reduce(SUPERSAMPLE)), anchor)
        return self._developer.develop(picture, t)

    def _see_place(self, t: int) -> Image.Image:
        """Return the part of the place that frame t shows, at the supersampled size."""
        side, whole = self._size * SUPERSAMPLE, self._background.width
        # The place moves with the camera's shake, half as much as what is near.
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
        """Give everything in front of the place a fine structure that moves along with it."""
        if self._nuisance.texture < 0.02:
            return picture
        at = np.nan_to_num(anchor) * self._size
        cloth = field("cloth")
        x, y = (int(c) % cloth.shape[0] for c in -at)
        depth = self._nuisance.texture * roll_window(cloth, x, y, self._size)
        red, green, blue = np.moveaxis(picture != behind, -1, 0)
        depth *= red | green | blue
        return np.asarray(np.clip(picture * (1 + depth[..., None]), 0, 255), np.uint8)


def _progress(entry: Action, nuisance: Nuisance, times: np.ndarray) -> np.ndarray:
    """Return how far the motion is at each time of the clip, float64 (T,) in [0, 1]."""
    if entry.cyclic:
        return np.asarray((nuisance.phase + nuisance.cycles * times) % 1.0)
    linear = np.clip((times - nuisance.start) / (nuisance.end - nuisance.start), 0, 1)
    linear = linear**nuisance.rush
    smooth = linear * linear * (3 - 2 * linear)
    return np.asarray((1 - nuisance.ease) * linear + nuisance.ease * smooth)


def _draw_colours(rng: np.random.Generator) -> list[Colour]:
    """Draw the colours of two things and of a table that they can be seen on."""
    things = [pick(rng)[1], pick(rng)[1]]
    table = pick(rng)[1]
    while min(abs(brightness(table) - brightness(thing)) for thing in things) < _CONTRAST:
        table = pick(rng)[1]
    return [*things, table]


def _set_apart(picture: np.ndarray, clothes: list[Colour]) -> np.ndarray:
    """Lighten or darken a place that is as bright as the clothes of who acts in front of it."""
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
