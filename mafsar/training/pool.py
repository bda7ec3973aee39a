"""Rendered clips held in memory, with what the pre-training wants to know about them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import TypeVar

import numpy as np

from mafsar.data.synthetic.actions import action
from mafsar.data.synthetic.captions import class_captions
from mafsar.data.synthetic.render import Rendering, render
from mafsar.data.synthetic.scene import paint_scene_clip

Job = TypeVar("Job")
Result = TypeVar("Result")


@dataclass(frozen=True)
class ClipPool:
    """Clips of some classes.

    Attributes:
        names: Class names; the label is an index into them.
        frames: uint8 (n, T, S, S, 3) RGB.
        points: float32 (n, T, P, 2), NaN where absent.
        phrases: Phrases of each frame of each clip, [clip][frame][phrase].
        labels: int64 (n,).
    """

    names: list[str]
    frames: np.ndarray
    points: np.ndarray
    phrases: list[list[list[str]]]
    labels: np.ndarray

    def captions(self, label: int) -> list[str]:
        """Return the ways to say what a class is."""
        return class_captions(action(self.names[label]))

    def draw_classes(self, way: int, partner_share: float, rng: np.random.Generator) -> list[int]:
        """Draw an episode's classes; often with the class that is the same motion backwards.

        Args:
            way: How many.
            partner_share: How often a class brings its partner along.
            rng: Draws them.
        """
        drawn: list[int] = []
        for label in rng.permutation(len(self.names)):
            partner = action(self.names[label]).partner
            group = [int(label)]
            if partner in self.names and rng.random() < partner_share:
                group.append(self.names.index(str(partner)))
            drawn += [member for member in group if member not in drawn]
            if len(drawn) >= way:
                break
        return drawn[:way]

    def draw_clips(self, classes: list[int], rng: np.random.Generator) -> np.ndarray:
        """Draw a support and a query clip of each class, int64 (2, classes)."""
        pairs = [rng.choice(self.clips_of(label), 2, replace=False) for label in classes]
        return np.stack(pairs, axis=1)

    def clips_of(self, label: int) -> np.ndarray:
        """Return the indices of a class's clips, int64."""
        return np.flatnonzero(self.labels == label)


def render_pool(
    names: Sequence[str],
    clips_per_class: int,
    *,
    first_seed: int,
    size: int,
    frames: int = 8,
    workers: int = 2,
) -> ClipPool:
    """Render the same number of clips of each class, no two with the same seed.

    Args:
        names: Class names.
        clips_per_class: How many of each.
        first_seed: Seeds run up from here.
        size: Side of the pictures, pixels.
        frames: Frames a clip, T.
        workers: Processes; the pixels do not depend on it.
    """
    labels = np.repeat(np.arange(len(names)), clips_per_class)
    jobs = [
        (names[int(label)], first_seed + index, frames, size) for index, label in enumerate(labels)
    ]
    clips = _run(_render_job, jobs, workers)
    return ClipPool(
        names=list(names),
        frames=np.stack([clip.frames for clip in clips]),
        points=np.stack([clip.points for clip in clips]),
        phrases=[clip.phrases for clip in clips],
        labels=labels,
    )


def render_scenes(
    count: int, *, first_seed: int, size: int, frames: int = 8, workers: int = 2
) -> np.ndarray:
    """Render places without actions, two clips of each.

    Returns:
        uint8 (count, 2, T, S, S, 3).
    """
    jobs = [(first_seed + index, take, frames, size) for index in range(count) for take in range(2)]
    clips = np.stack(_run(_scene_job, jobs, workers))
    return clips.reshape(count, 2, *clips.shape[1:])


def _run(function: Callable[[Job], Result], jobs: list[Job], workers: int) -> list[Result]:
    if workers <= 1:
        return [function(job) for job in jobs]
    # Spawned, not forked: torch's threads do not survive a fork.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as executor:
        return list(executor.map(function, jobs, chunksize=32))


def _render_job(job: tuple[str, int, int, int]) -> Rendering:
    name, seed, frames, size = job
    return render(name, seed=seed, frames=frames, size=size)


def _scene_job(job: tuple[int, int, int, int]) -> np.ndarray:
    seed, take, frames, size = job
    return paint_scene_clip(seed, take, frames=frames, size=size)
