"""Rendering of labelled clips: a class name and a seed always give the same pixels.

Body, place, light, camera and tempo depend on the seed alone; the class adds only its motion, so
that nothing else reveals the class.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mafsar.errors import InputError
from mafsar.synthetic.actions.classes import Action, action
from mafsar.synthetic.body import sway
from mafsar.synthetic.clips.captions import frame_words
from mafsar.synthetic.clips.stage import POINTS, Stage
from mafsar.synthetic.painting.figure import TRACKED
from mafsar.synthetic.painting.nuisance import Nuisance, draw_nuisance

__all__ = ["POINTS", "Rendering", "Take", "render", "render_clip", "render_video"]

_STYLE_STREAM = 103


@dataclass(frozen=True)
class Rendering:
    """A rendered clip with its tracked points and words.

    Attributes:
        frames: uint8 (T, S, S, 3) RGB.
        points: float32 (T, POINTS, 2) picture fractions of joints and things; NaN where absent. Of
            a pair of joints the one further left in the picture comes first, since a mirrored
            picture does not show which is which.
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
        seed: Draws everything except the class; ≥ 0.
        frames: Number of frames, evenly over the clip.
        size: Side of the picture, pixels.
        photos: Use photographs for some places and table tops. Without them the pixels do not
            depend on what is installed.

    Returns:
        uint8 (frames, size, size, 3) RGB.

    Raises:
        InputError: There is no such class, or a number is out of range.
        UnavailableError: ``photos`` is set and the packages with the photographs are missing.
    """
    return render(class_name, seed=seed, frames=frames, size=size, photos=photos).frames


def render(
    class_name: str, *, seed: int, frames: int = 8, size: int = 112, photos: bool = False
) -> Rendering:
    """Render one clip together with its joints and words; see ``render_clip``."""
    take = Take(class_name, seed=seed, frames=frames, size=size, photos=photos)
    pictures = np.stack(list(take.stage.pictures()))
    points = take.stage.points.astype(np.float32)
    return Rendering(pictures, points, [take.words(t) for t in range(frames)])


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
        seed: Draws everything except the class; ≥ 0.
        seconds: Length of the clip.
        fps: Frames a second.
        size: Side of the picture, pixels, even.
        photos: See ``render_clip``.

    Returns:
        ``path``.
    """
    # Only this needs PyAV; drawing needs numpy and Pillow alone.
    from mafsar.video import write_video

    count = max(1, round(seconds * fps))
    take = Take(class_name, seed=seed, frames=count, size=size, photos=photos)
    write_video(path, take.stage.pictures(), fps)
    return path


class Take:
    """One clip of a class, ready to be painted; see ``render_clip`` for the arguments.

    Attributes:
        stage: Paints the clip.
    """

    def __init__(
        self, class_name: str, *, seed: int, frames: int, size: int, photos: bool = False
    ) -> None:
        if seed < 0 or frames < 1:
            raise InputError(f"seed must be ≥ 0 and frames ≥ 1, got {seed} and {frames}")
        self._entry = entry = action(class_name)
        self._nuisance = nuisance = draw_nuisance(seed)
        times = (np.arange(frames) + 0.5) / frames
        # A reversed class has exactly the frames of the forward motion in reverse order.
        times = 1 - times if entry.backwards else times
        self._progress = _progress(entry, nuisance, times)
        motion = entry.motion(np.random.default_rng([_STYLE_STREAM, seed]), self._progress)
        if motion.poses is not None:
            sway(motion.poses, nuisance.posture, times)
        # A class with a side is drawn to the right and mirrored for the left; others at random.
        mirrored = entry.side < 0 if entry.side else nuisance.mirror
        self.stage = Stage(
            motion, nuisance, seed=seed, frames=frames, size=size, mirrored=mirrored, photos=photos
        )

    def words(self, t: int) -> list[str]:
        """Describe frame t in separate phrases, the main one first."""
        stage = self.stage
        main = TRACKED.index("pelvis") if stage.world is not None else len(TRACKED)
        across = float(stage.points[t, main, 0])
        world = None if stage.world is None else stage.world[t]
        progress = float(self._progress[t])
        return frame_words(self._entry, progress, self._nuisance, stage.place, world, across)


def _progress(entry: Action, nuisance: Nuisance, times: np.ndarray) -> np.ndarray:
    """Return the progress of the motion at each time of the clip, float64 (T,) in [0, 1]."""
    if entry.cyclic:
        return np.asarray((nuisance.phase + nuisance.cycles * times) % 1.0)
    linear = np.clip((times - nuisance.start) / (nuisance.end - nuisance.start), 0, 1)
    linear = linear**nuisance.rush
    smooth = linear * linear * (3 - 2 * linear)
    return np.asarray((1 - nuisance.ease) * linear + nuisance.ease * smooth)
