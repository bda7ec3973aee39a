"""The best moments of a class: windows in which it is the best class, each moment once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mafsar.runtime.archive.index import Index
from mafsar.runtime.archive.scan import Scan
from mafsar.runtime.archive.scorer import BankScorer
from mafsar.runtime.encoder import Float32

SAME = 0.5
"""Two windows of one file show the same moment where they share this part of the shorter one."""


@dataclass(frozen=True, eq=False)
class Moments:
    """Windows that show a class, the nearest first.

    Attributes:
        rows: Their rows in the index, (n,).
        score: Share of the class among the bank's, (n,).
        distance: To the class, (n,).
    """

    rows: NDArray[np.intp]
    score: Float32
    distance: Float32


class Apart:
    """Keeps the first of those windows that overlap, so that each moment is there once.

    Args:
        index: The index.
        most: How many to keep, at most.
    """

    def __init__(self, index: Index, most: int) -> None:
        self._index, self._left = index, most
        self._taken: dict[int, list[tuple[float, float]]] = {}

    @property
    def full(self) -> bool:
        """Whether as many are kept as may be."""
        return self._left == 0

    def keep(self, rows: NDArray[np.intp]) -> list[int]:
        """Which of some rows to keep beside those kept so far.

        Args:
            rows: Rows, the best first; none is better than those of earlier calls.

        Returns:
            Places in `rows`, ascending.
        """
        kept: list[int] = []
        for place, row in enumerate(rows):
            if self.full:
                break
            start, end = float(self._index.t_start[row]), float(self._index.t_end[row])
            others = self._taken.setdefault(int(self._index.file[row]), [])
            if any(_shared(start, end, *other) >= SAME for other in others):
                continue
            others.append((start, end))
            kept.append(place)
            self._left -= 1
        return kept


def moments_of_scan(
    index: Index, scorer: BankScorer, scan: Scan, class_index: int, topk: int
) -> Moments:
    """The moments of one class in an index all of whose rows were compared with all classes."""
    own = scorer.own[:, class_index][index.length[scan.rows]]
    places = np.flatnonzero((scan.best == class_index) & own)
    places = places[np.argsort(scan.distance[places], kind="stable")]
    places = places[Apart(index, topk).keep(scan.rows[places])]
    return Moments(scan.rows[places], scan.score[places], scan.distance[places])


def _shared(start: float, end: float, other_start: float, other_end: float) -> float:
    """What two spans share, as a part of the shorter one."""
    shared = min(end, other_end) - max(start, other_start)
    return shared / max(min(end - start, other_end - other_start), 1e-9)
