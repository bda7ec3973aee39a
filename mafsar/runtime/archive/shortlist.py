"""The rows of a large index that may be near to a class, by its small copy (`coarse`)."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mafsar.choices import Progress
from mafsar.runtime.archive.coarse import coarsen
from mafsar.runtime.archive.index import Index, Shard
from mafsar.runtime.archive.scan import in_chunks
from mafsar.runtime.archive.scorer import BankScorer, window_distances
from mafsar.runtime.encoder import Float32
from mafsar.runtime.scoring.views import Views

MOST = 40_000
"""Rows kept for each class, at most,"""
PAIRS = 4_000_000
"""and for all classes together: they are held in memory, eight bytes each and twice as many."""
_CHUNK = 2048


def shortlist(
    index: Index,
    scorer: BankScorer,
    wanted: Sequence[int],
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> list[NDArray[np.intp]]:
    """The rows that are nearest to each class in the small copy.

    Args:
        index: An index with a small copy.
        scorer: The bank.
        wanted: Classes to look for.
        workers: Threads; None = one per core. They do not change what is found.
        progress: Called with (rows done, rows, "searching").

    Returns:
        Rows of each class, the nearest first; only such as have a length that the class is judged at.
    """
    assert index.basis is not None
    columns = np.array(wanted, np.intp)
    views, prototypes = coarse_classes(scorer, index.basis)
    prototypes = prototypes[columns]
    nearest = Nearest(len(wanted), max(1, min(MOST, PAIRS // max(len(wanted), 1))))

    def work(shard: Shard, first: int, last: int) -> None:
        assert shard.coarse is not None
        found = window_distances(views, prototypes, shard.coarse[first:last], scorer.scoring)
        found = found.astype(np.float32, copy=False)
        here = slice(shard.first + first, shard.first + last)
        found[~scorer.own[:, columns][index.length[here]]] = np.inf
        nearest.add(here.start, found)

    in_chunks(index, work, chunk=_CHUNK, workers=workers, progress=progress)
    return nearest.rows()


def coarse_classes(scorer: BankScorer, basis: Float32) -> tuple[Views, Float32]:
    """Views and prototypes, (C, T', …), in the small copy's space."""
    views = scorer.views
    if views.query_mean is not None and views.support_mean is not None:
        views = Views(
            views.weight,
            views.query_mean @ basis,
            views.support_mean @ basis,
            views.query_floor,
            views.support_floor,
        )
    return views, scorer.prototypes_of(views, coarsen(scorer.support, basis))


class Nearest:
    """The rows of the smallest distances to each class, from chunks in any order.

    A distance and its row are held as one integer: the distance in the upper 32 bits, so that integers
    are sorted as distances are, and equal distances by their rows whatever the order of the chunks.

    Args:
        classes: C.
        most: Rows of each class.
    """

    def __init__(self, classes: int, most: int) -> None:
        self._most = most
        self._bound = np.full(classes, _FARTHEST, np.uint64)
        self._held: list[list[NDArray[np.uint64]]] = [[] for _ in range(classes)]
        self._count = [0] * classes
        self._lock = threading.Lock()

    def add(self, first: int, distances: Float32) -> None:
        """Takes the distances, (n, C), of n rows that follow each other; infinite ones are left out."""
        rows = np.arange(first, first + len(distances), dtype=np.uint64)
        keys = _sortable(distances.T) << np.uint64(32) | rows
        for number, (each, bound) in enumerate(zip(keys, self._bound.copy(), strict=True)):
            inside = each[each < bound]  # a bound that is too wide by now only costs memory
            if len(inside) == 0:
                continue
            with self._lock:
                self._held[number].append(inside)
                self._count[number] += len(inside)
                if self._count[number] >= 2 * self._most:
                    self._shrink(number)

    def rows(self) -> list[NDArray[np.intp]]:
        """The rows of each class, the nearest first."""
        found = []
        for number in range(len(self._held)):
            self._shrink(number)
            keys = np.sort(np.concatenate([*self._held[number], np.zeros(0, np.uint64)]))
            found.append((keys & np.uint64(0xFFFFFFFF)).astype(np.intp))
        return found

    def _shrink(self, number: int) -> None:
        if self._count[number] > self._most:
            keys = np.concatenate(self._held[number])
            keys.partition(self._most)
            self._bound[number] = keys[self._most]
            self._held[number] = [keys[: self._most].copy()]
            self._count[number] = self._most


def _sortable(values: Float32) -> NDArray[np.uint64]:
    """Integers of 32 bits that are sorted as the numbers are."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    negative = bits >> np.uint32(31) != 0
    return np.where(negative, ~bits, bits | np.uint32(1 << 31)).astype(np.uint64)


_FARTHEST = _sortable(np.array([np.inf], np.float32))[0] << np.uint64(32)
