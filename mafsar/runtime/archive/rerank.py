"""The moments of a shortlist: exact distances of its rows, as many as it takes.

Most classes have their nearest windows among the first of their shortlist, some only among many more:
those that the archive hardly shows. So each class compares its rows with itself alone, the nearest of
the small copy first, and doubles their number until there are as many moments as are asked for and
that changes them no more. Only the rows that are nearest by then are compared with the other classes
too.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from mafsar.runtime.archive.index import Index
from mafsar.runtime.archive.moments import Apart, Moments
from mafsar.runtime.archive.scan import CHUNK, one_thread_per_call
from mafsar.runtime.archive.scorer import BankScorer, window_distances

FIRST = 1000
PER_MOMENT = 10
"""Rows that a class is compared with first: so many for each moment, and at least `FIRST`."""
_Rows = NDArray[np.intp]


def rerank(
    index: Index,
    scorer: BankScorer,
    wanted: Sequence[int],
    shortlists: Sequence[_Rows],
    topk: int,
    *,
    workers: int | None = None,
) -> list[Moments]:
    """The moments of some classes in their shortlists.

    Args:
        index: The index.
        scorer: The bank.
        wanted: The classes.
        shortlists: Rows of each, of lengths that it is judged at, the nearest of the small copy first.
        topk: Moments of each class, at most.
        workers: Threads; None = one per core. They do not change what is found.
    """

    def work(class_index: int, shortlist: _Rows) -> Moments:
        return _Class(index, scorer, class_index, shortlist).moments(topk)

    with one_thread_per_call(), ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        return list(pool.map(work, wanted, shortlists))


class _Class:
    """A class and its shortlist."""

    def __init__(
        self, index: Index, scorer: BankScorer, class_index: int, shortlist: _Rows
    ) -> None:
        self._index, self._scorer = index, scorer
        self._class_index, self._shortlist = class_index, shortlist
        self._compared = 0  # rows of the shortlist whose distances to the class are known
        self._own = np.empty(len(shortlist), np.float32)
        # Of rows that were compared with all classes; NaN where they were not.
        self._score = np.full(len(shortlist), np.nan, np.float32)
        self._is_best = np.zeros(len(shortlist), np.bool_)

    def moments(self, topk: int) -> Moments:
        count, found = max(FIRST, PER_MOMENT * topk), None
        while True:
            self._compare(count)
            before, found = found, self._nearest(topk)
            same = before is not None and np.array_equal(before.rows, found.rows)
            if (same and len(found.rows) == topk) or self._compared == len(self._shortlist):
                return found
            count *= 2

    def _compare(self, count: int) -> None:
        """Finds the distances of the first rows of the shortlist to the class."""
        prototype = self._scorer.prototypes[self._class_index][None]
        first, self._compared = self._compared, min(count, len(self._shortlist))
        # Ascending rows: each shard is mapped for a few chunks only.
        order = first + np.argsort(self._shortlist[first : self._compared])
        for at in range(0, len(order), CHUNK):
            here = order[at : at + CHUNK]
            frames = self._index.frames(self._shortlist[here])
            scorer = self._scorer
            found = window_distances(scorer.views, prototype, frames, scorer.scoring)
            self._own[here] = found[:, 0]

    def _nearest(self, topk: int) -> Moments:
        """The moments among the rows that are compared with the class."""
        rows = self._shortlist[: self._compared]
        order = np.lexsort((rows, self._own[: self._compared]))
        apart, kept = Apart(self._index, topk), []
        at, count = 0, 2 * topk
        while at < len(order) and not apart.full:
            here = order[at : at + count]
            self._judge(here)
            here = here[self._is_best[here]]
            kept.append(here[apart.keep(rows[here])])
            at, count = at + count, min(2 * count, CHUNK)
        places = np.concatenate(kept) if kept else order[:0]
        return Moments(rows[places], self._score[places], self._own[places])

    def _judge(self, places: _Rows) -> None:
        """Compares rows with all classes, where that was not done before."""
        places = places[np.isnan(self._score[places])]
        if len(places) == 0:
            return
        rows, scorer = self._shortlist[places], self._scorer
        pooled = self._index.pooled(rows) if scorer.needs_pooled else None
        found = scorer.scores(self._index.frames(rows), pooled)
        each = np.arange(len(rows))
        self._score[places] = found.fused[each, self._class_index]
        self._is_best[places] = found.fused.argmax(axis=1) == self._class_index
