"""Episodes for training: N-way K-shot batches of clips.

Episode i depends only on the seed, i and the clips: its classes and clips come from
`mafsar.data.episodes`, and each clip has its own generator for moments, crop and mirroring. The
number of workers and processes, and the point where a run is resumed, change nothing.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mafsar.data.catalogue import PartData
from mafsar.data.episodes import Episodes
from mafsar.data.frames import SHORT_SIDE_SHARE, FrameSource, training_crop
from mafsar.errors import MafsarError


@dataclass(frozen=True)
class EpisodeBatch:
    """One episode.

    Attributes:
        index: Its number.
        support: Clips, (N, K, T, S, S, 3), uint8 RGB.
        query: Clips, (N, Q, T, S, S, 3), uint8 RGB, Q per class; query[n] are of class n.
        classes: Index of each class in the part, (N,), int64.
        repairs: What was repaired in reading clips that no earlier episode of the same worker had,
            sentences by the clip's name.
    """

    index: int
    support: Tensor
    query: Tensor
    classes: Tensor
    repairs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def pin_memory(self) -> EpisodeBatch:
        """Copies the pictures to page-locked memory; a `DataLoader` calls this."""
        return EpisodeBatch(
            self.index,
            self.support.pin_memory(),
            self.query.pin_memory(),
            self.classes,
            self.repairs,
        )


class EpisodeDataset(Dataset[Any]):
    """Episodes of one part of a data set, by number."""

    def __init__(
        self,
        data: PartData,
        episodes: Episodes,
        source: FrameSource,
        *,
        frames: int,
        size: int,
        train: bool,
        flip: bool = False,
    ) -> None:
        """Combines drawn episodes with the source of their frames.

        Args:
            data: The part's clips.
            episodes: Drawn from ``data``; moments and crops are drawn with the same seed.
            source: Gives the frames of a clip.
            frames: T.
            size: S, pixels.
            train: Random moments and crops; otherwise the middles and the centre.
            flip: Whether clips may be mirrored; only with ``train``.
        """
        self.data = data
        self.episodes = episodes
        self.source = source
        self.frames = frames
        self.size = size
        self.train = train
        self.flip = flip

    def __len__(self) -> int:
        return len(self.episodes)

    def __getitem__(self, index: int) -> EpisodeBatch | MafsarError:
        """Loads an episode; the error of a clip is returned, so that it keeps its type across processes."""
        try:
            return self.load(index)
        except MafsarError as error:
            return error

    def load(self, index: int) -> EpisodeBatch:
        """Loads an episode.

        Raises:
            MafsarError: A clip cannot be read; the message starts with its path.
        """
        support, query = self.episodes.support[index], self.episodes.queries[index]
        shot = support.shape[1]
        numbers = np.concatenate([support, query], axis=1)  # (N, K + Q)
        known = set(self.source.repairs)
        clips = np.stack([self._clip(index, i, n) for i, n in enumerate(numbers.ravel().tolist())])
        shaped = torch.from_numpy(clips.reshape(*numbers.shape, *clips.shape[1:]))
        return EpisodeBatch(
            index=index,
            support=shaped[:, :shot].contiguous(),
            query=shaped[:, shot:].contiguous(),
            classes=torch.from_numpy(self.episodes.classes[index].astype(np.int64)),
            repairs={n: said for n, said in self.source.repairs.items() if n not in known},
        )

    def _clip(self, episode: int, position: int, number: int) -> np.ndarray:
        """The clip at a position of an episode: (T, S, S, 3) uint8."""
        clip = self.data.clips[number]
        if not self.train:
            return self.source.testing(clip, frames=self.frames, size=self.size)
        # A spawn key keeps these draws apart from those of the episode itself.
        seeds = np.random.SeedSequence((self.episodes.seed, episode), spawn_key=(position,))
        rng = np.random.Generator(np.random.PCG64(seeds))
        short_side = round(self.size * SHORT_SIDE_SHARE)
        pixels = self.source.training(clip, frames=self.frames, short_side=short_side, rng=rng)
        return training_crop(pixels, self.size, rng, flip=self.flip)


class EpisodeLoader:
    """Iterates over episodes, loaded ahead by worker processes, and measures waiting times.

    Attributes:
        wait_seconds: How long the consumer has waited for episodes so far, without the start of the
            workers.
        busy_seconds: How long it has worked on them.
        repairs: What was repaired in reading the clips so far, sentences by the clip's name.
    """

    def __init__(
        self,
        dataset: EpisodeDataset,
        *,
        start: int = 0,
        rank: int = 0,
        world: int = 1,
        workers: int = 2,
        prefetch: int = 4,
        pin_memory: bool = False,
        context: str | None = None,
    ) -> None:
        """Prepares the loading, which begins with the iteration.

        Args:
            dataset: The episodes.
            start: First episode; > 0 for a resumed run.
            rank: Number of this process in [0, ``world``): it gets the episodes start + rank,
                start + rank + world, …
            world: How many processes share the episodes.
            workers: Worker processes; 0 loads in this one.
            prefetch: Episodes that each worker loads ahead.
            pin_memory: Whether to use page-locked memory, so that copies to a GPU overlap with its work.
            context: How workers start: "fork", "spawn" or "forkserver"; None = the platform's default.
        """
        self.numbers = range(start + rank, len(dataset), world)
        self.wait_seconds = 0.0
        self.busy_seconds = 0.0
        self.repairs: dict[str, tuple[str, ...]] = {}
        self._loader: DataLoader[Any] = DataLoader(
            dataset,
            batch_size=None,
            sampler=self.numbers,
            num_workers=workers,
            prefetch_factor=prefetch if workers else None,
            pin_memory=pin_memory,
            multiprocessing_context=context if workers else None,
        )

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[EpisodeBatch]:
        batches = self._start()
        while True:
            began = time.perf_counter()
            batch = next(batches, None)
            ended = time.perf_counter()
            if batch is None:
                return
            if isinstance(batch, MafsarError):
                raise batch
            self.wait_seconds += ended - began
            self.repairs.update(batch.repairs)
            yield batch
            self.busy_seconds += time.perf_counter() - ended

    def _start(self) -> Iterator[Any]:
        """Starts the workers."""
        # A forked worker must not free objects of threads that it does not have (decoders have
        # some): it would hang. Garbage is freed here; the rest is never collected in a worker.
        gc.collect()
        gc.freeze()
        try:
            return iter(self._loader)
        finally:
            gc.unfreeze()

    @property
    def wait_share(self) -> float:
        """Share of the time spent waiting, 0 to 1."""
        total = self.wait_seconds + self.busy_seconds
        return self.wait_seconds / total if total > 0 else 0.0
