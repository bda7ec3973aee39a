"""The ablation's clips, in pairs that differ in order alone, its folds and its episodes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from mafsar.data.episodes import Episodes
from mafsar.data.parallel import in_processes
from mafsar.synthetic.actions.classes import Split, action, class_names
from mafsar.synthetic.clips.render import render_clip
from mafsar.training.config import TrainConfig

FIRST_SEED = 11_000_000  # the starter's clips have seeds below
FOLDS = 3


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two classes that are one another backwards.

    Attributes:
        names: The class and its partner.
        part: Where the starter's recipe has them: its towers were trained on single frames of
            "train", with captions, and on nothing of the others.
    """

    names: tuple[str, str]
    part: Split

    @property
    def labels(self) -> list[str]:
        """The names as words."""
        return [name.replace("_", " ") for name in self.names]


@dataclasses.dataclass(frozen=True)
class Drawn:
    """One training episode: a pair, and the takes that are support and query."""

    number: int
    pair: int
    support: int
    query: int


def all_pairs() -> list[Pair]:
    """The pairs of all three parts."""
    found = []
    for part in get_args(Split):
        for name in class_names(part):
            partner = action(name).partner
            if partner is not None and action(partner).backwards:
                found.append(Pair((name, partner), part))
    return found


def fold_of(pairs: Sequence[Pair]) -> NDArray[np.intp]:
    """The fold in which each pair is held out, (P,); those unknown to the towers are spread."""
    order = np.random.default_rng(0).permutation(len(pairs))
    order = sorted(order, key=lambda index: pairs[index].part == "train")
    folds = np.empty(len(pairs), np.intp)
    folds[order] = np.arange(len(pairs)) % FOLDS
    return folds


def render_pairs(
    pairs: Sequence[Pair], takes: int, size: int, frames: int, middle: int, work: Path | None
) -> NDArray[np.uint8]:
    """Renders `takes` clips of each pair forwards, or reads them where they are kept.

    Returns:
        The middle frames of each clip, (P, takes, middle, S, S, 3).
    """
    kept = None if work is None else work / f"clips-{takes}-{size}-{frames}-{middle}.npy"
    if kept is not None and kept.is_file():
        found: NDArray[np.uint8] = np.load(kept, mmap_mode="r")
        return found
    first = (frames - middle) // 2
    rendered = in_processes(_render, render_jobs(pairs, takes, size, frames), chunk=8)
    clips = np.stack([clip[first : first + middle] for clip in rendered])
    clips = clips.reshape(len(pairs), takes, *clips.shape[1:])
    if kept is not None:
        np.save(kept, clips)
    return clips


def render_jobs(
    pairs: Sequence[Pair], takes: int, size: int, frames: int
) -> list[tuple[str, int, int, int]]:
    """What `render_clip` is asked for: (name, seed, frames, size) of each clip."""
    return [
        (pair.names[0], FIRST_SEED + 10_000 * index + take, frames, size)
        for index, pair in enumerate(pairs)
        for take in range(takes)
    ]


def _render(job: tuple[str, int, int, int]) -> np.ndarray:
    name, seed, frames, size = job
    return render_clip(name, seed=seed, frames=frames, size=size)


def training_episodes(among: NDArray[np.intp], takes: int, config: TrainConfig) -> Iterator[Drawn]:
    """Seeded episodes: a pair among those to train on, one take as support, another as query."""
    for number in range(config.episodes or 0):
        rng = np.random.default_rng([config.seed, number])
        pair = int(rng.choice(among))
        support, query = rng.choice(takes, 2, replace=False).tolist()
        yield Drawn(number, pair, support, query)


def test_episodes(pairs: int, takes: int) -> tuple[Episodes, NDArray[np.intp]]:
    """Episodes in which every clip is support once and query once, and the clips' classes.

    Clips are (pair, take, direction), flattened; the episodes of a pair follow one another.
    """
    order = np.random.default_rng(0).permutation(takes)
    first = (np.arange(pairs)[:, None] * takes + order).ravel() * 2
    then = (np.arange(pairs)[:, None] * takes + np.roll(order, 1)).ravel() * 2
    both = np.arange(2)
    classes = 2 * np.repeat(np.arange(pairs), takes)[:, None] + both
    indices = [(start[:, None] + both)[..., None].astype(np.int32) for start in (first, then)]
    class_index = np.repeat(np.arange(pairs), takes)[:, None] * 2 + both
    return Episodes(2, 1, 1, 0, classes.astype(np.int32), *indices), class_index.ravel()
