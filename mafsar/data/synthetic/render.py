"""Rendering of labelled clips: a class name and a seed give the same pixels every time.

Body, place, light, camera and tempo come from the seed alone; the class adds only its motion, so a
class cannot be told by anything else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from mafsar.data.synthetic.actions import Action, action
from mafsar.data.synthetic.canvas import SUPERSAMPLE, Canvas
from mafsar.data.synthetic.captions import frame_words
from mafsar.data.synthetic.figure import TRACKED, Person
from mafsar.data.synthetic.motion import Motion
from mafsar.data.synthetic.palette import Colour, pick
from mafsar.data.synthetic.scene import Nuisance, draw_nuisance, paint_background
from mafsar.data.synthetic.things import Tabletop
from mafsar.errors import InputError

POINTS = len(TRACKED) + 4
_STYLE_STREAM, _COLOUR_STREAM, _NOISE_STREAM = 103, 104, 105
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


def render_clip(class_name: str, *, seed: int, frames: int = 8, size: int = 112) -> np.ndarray:
    """Render one clip of a class.

    Args:
        class_name: One of ``class_names()``.
        seed: Draws everything that is not the class; ≥ 0.
        frames: How many frames, evenly over the clip.
        size: Side of the picture, pixels.

    Returns:
        uint8 (frames, size, size, 3) RGB.

    Raises:
        InputError: There is no such class, or a number is out of range.
    """
    return render(class_name, seed=seed, frames=frames, size=size).frames


def render(class_name: str, *, seed: int, frames: int = 8, size: int = 112) -> Rendering:
    """Render one clip together with its joints and words; see ``render_clip``."""
    scene = _Scene(action(class_name), seed, frames, size)
    pictures = np.stack([scene.paint(t) for t in range(frames)])
    points = scene.points
    if scene.mirrored:
        pictures = np.ascontiguousarray(pictures[:, :, ::-1])
        points = points * [-1, 1] + [1, 0]
    points = _left_first(points)
    phrases = [scene.words(t, points[t]) for t in range(frames)]
    return Rendering(pictures, points.astype(np.float32), phrases)


def iterate_frames(class_name: str, *, seed: int, frames: int, size: int) -> Iterator[np.ndarray]:
    """Render a clip frame by frame, uint8 (size, size, 3), without holding all of it."""
    scene = _Scene(action(class_name), seed, frames, size)
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
) -> Path:
    """Render one clip of a class into a video file.

    Args:
        class_name: One of ``class_names()``.
        path: The file to write, ``.mp4``.
        seed: Draws everything that is not the class; ≥ 0.
        seconds: Length of the clip.
        fps: Frames a second.
        size: Side of the picture, pixels, even.

    Returns:
        ``path``.
    """
    # PyAV is wanted only here: drawing needs nothing but numpy and Pillow.
    from mafsar.video import write_video

    count = max(1, round(seconds * fps))
    write_video(path, iterate_frames(class_name, seed=seed, frames=count, size=size), fps)
    return path


class _Scene:
    """One clip about to be painted."""

    def __init__(self, entry: Action, seed: int, frames: int, size: int) -> None:
        if seed < 0 or frames < 1 or size < 16:
            raise InputError(
                f"seed must be ≥ 0, frames ≥ 1 and size ≥ 16, got {seed}, {frames} and {size}"
            )
        self._entry, self._frames, self._size = entry, frames, size
        self._nuisance = nuisance = draw_nuisance(seed)
        self.progress = _progress(entry, nuisance, frames)
        motion = entry.motion(np.random.default_rng([_STYLE_STREAM, seed]), self.progress)
        # A class with a side is drawn to the right and mirrored to go left; others at random.
        self.mirrored = entry.side < 0 if entry.side else nuisance.mirror
        self._shake = _shake(nuisance, frames)
        self._light = _light_map(nuisance, size)
        self._noise_at = np.random.default_rng([_NOISE_STREAM, seed]).integers(0, 64, (frames, 2))
        wide = round(size * (1 + 2 * _MARGIN))
        background, self._place = paint_background(nuisance.background, seed, wide)
        doubled = Image.fromarray(background).resize(
            (wide * SUPERSAMPLE, wide * SUPERSAMPLE), Image.Resampling.BILINEAR
        )
        self._background = np.asarray(doubled)
        colours = np.random.default_rng([_COLOUR_STREAM, seed])
        self._colours: list[Colour] = [pick(colours)[1] for _ in range(3)]
        self._person, self._table = self._actors(motion)

    def _actors(self, motion: Motion) -> tuple[Person | None, Tabletop | None]:
        if motion.poses is not None:
            return Person(motion, self._nuisance), None
        colours = self._colours[:2]
        table = Tabletop(motion.sprites, self._nuisance, colours, motion.zoom, self._frames)
        return None, table

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
            self._entry, float(self.progress[t]), self._nuisance, self._place, world, across
        )

    def paint(self, t: int) -> np.ndarray:
        """Paint frame t before any mirroring, uint8 (S, S, 3)."""
        side = self._size * SUPERSAMPLE
        margin = self._background.shape[0] - side
        # The place moves with the camera's shake, half as much as what is near.
        at = (margin / 2 - 0.5 * self._shake[t] * side).round().astype(int).clip(0, margin)
        crop = self._background[at[1] : at[1] + side, at[0] : at[0] + side]
        canvas = Canvas(np.ascontiguousarray(crop), self._nuisance.light)
        if self._person is not None:
            self._person.paint(canvas, t, self._shake[t])
        elif self._table is not None:
            self._table.paint(canvas, t, self._shake[t], self._colours[2])
        return self._develop(canvas.finish(), t)

    def _develop(self, picture: np.ndarray, t: int) -> np.ndarray:
        """Apply light, low resolution and noise."""
        if self._nuisance.coarse < 1:
            small = round(self._size * self._nuisance.coarse)
            image = Image.fromarray(picture).resize((small, small), Image.Resampling.BILINEAR)
            picture = np.asarray(image.resize((self._size,) * 2, Image.Resampling.BILINEAR))
        lit = picture * self._light
        if self._nuisance.noise > 0:
            x, y = self._noise_at[t]
            grain = _grain(self._size)[y : y + self._size, x : x + self._size]
            lit += self._nuisance.noise * grain
        developed: np.ndarray = np.clip(lit, 0, 255).astype(np.uint8)
        return developed


def _progress(entry: Action, nuisance: Nuisance, frames: int) -> np.ndarray:
    """Return how far the motion is at each frame, float64 (T,) in [0, 1]."""
    times = (np.arange(frames) + 0.5) / frames
    if entry.cyclic:
        return np.asarray((nuisance.phase + nuisance.cycles * times) % 1.0)
    # Backwards means exactly the frames of the forward motion in reverse order.
    times = 1 - times if entry.backwards else times
    linear = np.clip((times - nuisance.start) / (nuisance.end - nuisance.start), 0, 1)
    return np.asarray(linear * linear * (3 - 2 * linear))


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


def _light_map(nuisance: Nuisance, size: int) -> np.ndarray:
    ramp = np.linspace(-1, 1, size, dtype=np.float32)
    slope = 1 + nuisance.falloff[0] * ramp[None] + nuisance.falloff[1] * ramp[:, None]
    return np.asarray(slope[..., None] * np.asarray(nuisance.gain), np.float32)


@lru_cache(maxsize=4)
def _grain(size: int) -> np.ndarray:
    rng = np.random.default_rng(_NOISE_STREAM)
    grain: np.ndarray = rng.normal(0, 1, (size + 64, size + 64, 3)).astype(np.float32)
    return grain
