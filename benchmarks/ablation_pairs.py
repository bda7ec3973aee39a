"""The ablation's clips, in pairs that differ in order alone, and its episodes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mafsar.data.episodes import Episodes
from mafsar.data.loader import EpisodeBatch
from mafsar.data.parallel import in_processes
from mafsar.synthetic.actions.classes import action, class_names
from mafsar.synthetic.clips.render import render_clip
from mafsar.training.config import TrainConfig

# No two parts share a seed, nor any with what the starter was trained on.
FIRST_SEEDS = {"train": 11_000_000, "val": 14_000_000, "test": 15_000_000}


@dataclasses.dataclass(frozen=True)
class Pairs:
    """The clips of one part.

    Attributes:
        names: Class names, each followed by its partner, (2 · P).
        frames: The forward clips, uint8 (P, M, T, S, S, 3), or their raw features, (P, M, T, E).
    """

    names: list[str]
    frames: Tensor

    def clips(self, pair: int, take: int) -> Tensor:
        """A clip forwards and backwards, (2, T, …)."""
        clip = self.frames[pair, take]
        return torch.stack([clip, clip.flip(0)])

    def middle(self, count: int) -> Pairs:
        """The middle `count` frames of every clip."""
        first = (self.frames.shape[2] - count) // 2
        return Pairs(self.names, self.frames[:, :, first : first + count])


def pair_names(part: str) -> list[str]:
    """Names of a part's classes that are one another backwards, partner after partner."""
    names = class_names(part)  # type: ignore[arg-type]
    first = [n for n in names if (other := action(n).partner) and action(other).backwards]
    return [name for forward in first for name in (forward, action(forward).partner or "")]


def render_pairs(part: str, takes: int, size: int, frames: int, work: Path | None) -> Pairs:
    """Renders `takes` clips of each pair, or reads them where they are kept."""
    names = pair_names(part)
    kept = None if work is None else work / f"{part}-{takes}-{size}-{frames}.npy"
    if kept is not None and kept.is_file():
        return Pairs(names, torch.from_numpy(np.load(kept)))
    jobs = render_jobs(part, takes, size, frames)
    clips = np.stack(list(in_processes(_render, jobs, chunk=8)))
    clips = clips.reshape(len(names) // 2, takes, *clips.shape[1:])
    if kept is not None:
        np.save(kept, clips)
    return Pairs(names, torch.from_numpy(clips))


def render_jobs(part: str, takes: int, size: int, frames: int) -> list[tuple[str, int, int, int]]:
    """What `render_clip` is asked for: (name, seed, frames, size) of each clip of a part."""
    return [
        (name, FIRST_SEEDS[part] + 10_000 * pair + take, frames, size)
        for pair, name in enumerate(pair_names(part)[::2])
        for take in range(takes)
    ]


def _render(job: tuple[str, int, int, int]) -> np.ndarray:
    name, seed, frames, size = job
    return render_clip(name, seed=seed, frames=frames, size=size)


def training_episodes(pairs: Pairs, config: TrainConfig) -> Iterator[EpisodeBatch]:
    """Seeded episodes: a pair, one take of it as support and another as query."""
    for number in range(config.episodes or 0):
        rng = np.random.default_rng([config.seed, number])
        pair = int(rng.integers(len(pairs.frames)))
        support, query = rng.choice(pairs.frames.shape[1], 2, replace=False).tolist()
        classes = torch.tensor([2 * pair, 2 * pair + 1])
        clips = (pairs.clips(pair, take)[:, None] for take in (support, query))
        yield EpisodeBatch(number, *clips, classes)


def test_episodes(pairs: Pairs) -> tuple[Episodes, np.ndarray]:
    """Episodes in which every clip is support once and query once, and the clips' classes."""
    total, takes = pairs.frames.shape[:2]
    order = np.random.default_rng(0).permutation(takes)
    first = (np.arange(total)[:, None] * takes + order).ravel() * 2
    then = (np.arange(total)[:, None] * takes + np.roll(order, 1)).ravel() * 2
    both = np.arange(2)
    classes = 2 * np.repeat(np.arange(total), takes)[:, None] + both
    indices = [(start[:, None] + both)[..., None].astype(np.int32) for start in (first, then)]
    class_index = np.repeat(np.arange(total), takes)[:, None] * 2 + both
    return Episodes(2, 1, 1, 0, classes.astype(np.int32), *indices), class_index.ravel()
