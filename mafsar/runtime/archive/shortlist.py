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

LEAST = 2000
PER_MOMENT = 40
"""Rows kept for each class: this many for each moment that is asked for, and at least `LEAST`."""
_CHUNK = 2048


def shortlist(
    index: Index,
    scorer: BankScorer,
    wanted: Sequence[int],
    topk: int,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> NDArray[np.intp]:
    """The rows that are nearest to each class in the small copy, ascending.

    Args:
        index: An index with a small copy.
        scorer: The bank.
        wanted: Classes to look for.
        topk: Moments of each class that are asked for.
        workers: Threads; None = one per core.
        progress: Called with (rows done, rows, "searching").
    """
    assert index.basis is not None
    views, prototypes = coarse_classes(scorer, index.basis)
    kept = _Nearest(len(wanted), max(LEAST, PER_MOMENT * topk))
    columns = np.array(wanted, np.intp)
    wanted_prototypes = prototypes[columns]

    def work(shard: Shard, first: int, last: int) -> None:
        assert shard.coarse is not None
        small = shard.coarse[first:last]
        found = window_distances(views, wanted_prototypes, small, scorer.scoring)
        found = found.astype(np.float32, copy=False)
        rows = np.arange(shard.first + first, shard.first + last)
        found[~scorer.own[:, columns][index.length[rows]]] = np.inf
        kept.add(rows, found)

    in_chunks(index, work, chunk=_CHUNK, workers=workers, progress=progress)
    return kept.rows()


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


class _Nearest:
    """The rows of the smallest distances to each class, from chunks in any order.

    Args:
        classes: C.
        most: Rows of each class.
    """

    def __init__(self, classes: int, most: int) -> None:
        self._most = most
        self._bound = np.full(classes, np.inf, np.float32)
        self._held: list[list[tuple[NDArray[np.intp], Float32]]] = [[] for _ in range(classes)]
        self._count = [0] * classes
        self._lock = threading.Lock()

    def add(self, rows: NDArray[np.intp], distances: Float32) -> None:
        """Takes rows, (n,), and their distances, (n, C)."""
        inside = distances < self._bound  # a bound that is too wide by now only costs memory
        for number in np.flatnonzero(inside.any(axis=0)):
            chosen = np.flatnonzero(inside[:, number])
            with self._lock:
                self._held[number].append((rows[chosen], distances[chosen, number]))
                self._count[number] += len(chosen)
                if self._count[number] >= 4 * self._most:
                    self._shrink(int(number))

    def rows(self) -> NDArray[np.intp]:
        """The rows of all classes, ascending, each once."""
        for number in range(len(self._held)):
            self._shrink(number)
        parts = [rows for held in self._held for rows, _ in held]
        return np.unique(np.concatenate(parts)) if parts else np.zeros(0, np.intp)

    def _shrink(self, number: int) -> None:
        if not self._held[number]:
            return
        rows = np.concatenate([part for part, _ in self._held[number]])
        distances = np.concatenate([part for _, part in self._held[number]])
        # Equal distances are told apart by the row, so that the order of the chunks does not count.
        order = np.lexsort((rows, distances))[: self._most]
        self._held[number] = [(rows[order], distances[order])]
        self._count[number] = len(order)
        if len(order) == self._most:
            self._bound[number] = np.nextafter(distances[order[-1]], np.float32(np.inf))
