"""Leave-one-out: each clip of a support is the query once, with the other clips as its support."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mafsar.choices import Scoring
from mafsar.runtime.encoder import Float32
from mafsar.runtime.scoring.scores import (
    Float64,
    class_distances,
    class_prototypes,
    score_distances,
)

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class LeftOut:
    """Answers to n clips, each left out of the support once.

    Attributes:
        judged: Whether the clip's class has another clip, (n,); otherwise it cannot be judged.
        probabilities: Fused scores, (n, C).
        class_index: True class of each clip, (n,).
    """

    judged: Bools
    probabilities: Float64
    class_index: NDArray[np.intp]

    @property
    def answers(self) -> NDArray[np.intp]:
        """Best class of each clip, (n,)."""
        return np.asarray(self.probabilities.argmax(axis=1), np.intp)

    @property
    def right(self) -> Bools:
        """Whether the best class is the true one, (n,)."""
        return np.asarray(self.answers == self.class_index)

    @property
    def accuracy(self) -> float | None:
        """Share of judged clips that are right, 0–1; None if no clip can be judged."""
        return float(self.right[self.judged].mean()) if self.judged.any() else None

    @property
    def confidence(self) -> float:
        """Mean probability of the true class over the judged clips; 0 if there are none."""
        true = self.probabilities[np.arange(len(self.class_index)), self.class_index]
        return float(true[self.judged].mean()) if self.judged.any() else 0.0


def leave_one_out(
    query: Float32,
    support: Float32,
    class_index: NDArray[np.intp],
    scoring: Scoring,
    *,
    pooled: Float32 | None = None,
    text: Float32 | None = None,
) -> LeftOut:
    """Answers every clip from the others.

    Args:
        query: The clips by the query graph, (n, T, E).
        support: The same clips as support, (n, T, E).
        class_index: Classes, (n,), 0 … C − 1, each with at least one clip.
        scoring: Metric, scales and α.
        pooled: Time means of the raw query features, (n, E); needed with text.
        text: Class text embeddings, (C, E), or None.
    """
    distances = _distances(query, support, class_index, scoring)
    counts = np.bincount(class_index)
    return LeftOut(
        counts[class_index] > 1,
        _probabilities(distances, query, scoring, pooled, text),
        class_index,
    )


def harmful_clips(
    query: Float32,
    support: Float32,
    class_index: NDArray[np.intp],
    scoring: Scoring,
    *,
    pooled: Float32 | None = None,
    text: Float32 | None = None,
) -> NDArray[np.intp]:
    """How many more of the other clips are right when a clip is removed, (n,).

    A clip with a positive number hurts. A class's only clip is never removed and has 0. Arguments as
    `leave_one_out`. Computes n² distances.
    """
    n, classes = len(class_index), int(class_index.max()) + 1
    counts = np.bincount(class_index, minlength=classes)
    distances = _distances(query, support, class_index, scoring)
    right = _probabilities(distances, query, scoring, pooled, text).argmax(axis=1) == class_index
    gains = np.zeros(n, np.intp)
    sums = np.stack(
        [support[class_index == c].sum(axis=0, dtype=np.float64) for c in range(classes)]
    )
    for removed in range(n):
        own = class_index[removed]
        if counts[own] < 2:
            continue
        others = np.flatnonzero(np.arange(n) != removed)
        inside = others[class_index[others] == own]
        outside = others[class_index[others] != own]
        changed = distances.copy()
        rest = ((sums[own] - support[removed]) / (counts[own] - 1)).astype(np.float32)
        if len(outside):
            changed[outside, own] = class_distances(query[outside], rest[None], scoring)[:, 0]
        if counts[own] > 2:
            pairs = (sums[own] - support[removed] - support[inside]) / (counts[own] - 2)
            changed[inside, own] = class_distances(
                query[inside, None], pairs.astype(np.float32)[:, None], scoring
            )[:, 0, 0]
            kept = others
        else:
            kept = outside  # the class has one clip left, which cannot be judged
        kept = kept[counts[class_index[kept]] > 1]
        probabilities = _probabilities(changed[kept], query[kept], scoring, _at(pooled, kept), text)
        now = probabilities.argmax(axis=1) == class_index[kept]
        gains[removed] = int(now.sum()) - int(right[kept].sum())
    return gains


def _distances(
    query: Float32, support: Float32, class_index: NDArray[np.intp], scoring: Scoring
) -> Float64:
    """Distances of every clip to every class, (n, C); a clip does not count in its own class."""
    classes = int(class_index.max()) + 1
    prototypes = class_prototypes(support, class_index, classes)
    distances = class_distances(query, prototypes, scoring)
    counts = np.bincount(class_index, minlength=classes)
    judged = np.flatnonzero(counts[class_index] > 1)
    if len(judged):
        sums = np.stack(
            [support[class_index == c].sum(axis=0, dtype=np.float64) for c in range(classes)]
        )
        own = class_index[judged]
        rest = (sums[own] - support[judged]) / (counts[own] - 1)[:, None, None]
        distances[judged, own] = class_distances(
            query[judged, None], rest.astype(np.float32)[:, None], scoring
        )[:, 0, 0]
    return distances


def _probabilities(
    distances: Float64,
    query: Float32,
    scoring: Scoring,
    pooled: Float32 | None,
    text: Float32 | None,
) -> Float64:
    return score_distances(distances, query.shape[-2], scoring, pooled=pooled, text=text).fused


def _at(pooled: Float32 | None, index: NDArray[np.intp]) -> Float32 | None:
    return None if pooled is None else pooled[index]
