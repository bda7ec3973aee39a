"""Leave-one-out: each clip of a support is the query once, with the other clips as its support."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mafsar.choices import Branch, Scoring
from mafsar.files import new_array
from mafsar.runtime.encoder import Float32
from mafsar.runtime.scoring.left_out_views import left_out_distances
from mafsar.runtime.scoring.scores import (
    Float64,
    class_distances,
    class_prototypes,
    score_distances,
    viewed_prototypes,
)
from mafsar.runtime.scoring.views import Views

Bools = NDArray[np.bool_]
MOST_EXACT = 2000
"""In a larger support the means μ stay those of all clips: to leave a clip out of them too costs n²."""
_AT_ONCE = 1000  # clips of a large support


@dataclass(frozen=True)
class LeftOut:
    """Answers to n clips, each left out of the support once.

    Attributes:
        judged: Whether the clip's class has another clip, (n,); otherwise it cannot be judged.
        probabilities: Fused scores, (n, C); of many clips float32, in a temporary file.
        class_index: True class of each clip, (n,).
    """

    judged: Bools
    probabilities: NDArray[np.floating[Any]]
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
    branch: Branch = "query",
) -> LeftOut:
    """Answers every clip from the others.

    Args:
        query: The clips by the query graph, (n, T, E).
        support: The same clips as support, (n, T, E).
        class_index: Classes, (n,), 0 … C − 1, each with at least one clip.
        scoring: Metric, scales, α and views; by views, the clip leaves the means μ too, in a
            support of up to `MOST_EXACT` clips.
        pooled: Time means of the raw query features, (n, E); needed with text.
        text: Class text embeddings, (C, E), or None.
        branch: The graph that `support` is from: "query" where text is off.
    """
    if len(query) > MOST_EXACT:
        return _of_many(query, support, class_index, scoring, pooled, text, branch)
    if scoring.views == "raw":
        distances = _distances(query, support, class_index, scoring)
    else:
        distances = left_out_distances(query, support, class_index, scoring, branch)
    counts = np.bincount(class_index)
    return LeftOut(
        counts[class_index] > 1,
        _probabilities(distances, query, scoring, pooled, text),
        class_index,
    )


def _of_many(
    query: Float32,
    support: Float32,
    class_index: NDArray[np.intp],
    scoring: Scoring,
    pooled: Float32 | None,
    text: Float32 | None,
    branch: Branch,
) -> LeftOut:
    """`leave_one_out` of many clips, some at a time: n · C distances, and no copy of the features."""
    counts = np.bincount(class_index)
    views = Views.of(scoring, query, support, branch)
    prototypes = viewed_prototypes(views.of_support, support, class_index, len(counts))
    probabilities = new_array((len(query), len(counts)), np.float32)
    for first in range(0, len(query), _AT_ONCE):
        here = slice(first, first + _AT_ONCE)
        own, asked = class_index[here], views.of_query(query[here])
        distances = class_distances(asked, prototypes, scoring)
        judged = np.flatnonzero(counts[own] > 1)
        mine = own[judged]
        size = counts[mine].astype(np.float32)[:, None, None]
        rest = (prototypes[mine] * size - views.of_support(support[here])[judged]) / (size - 1)
        distances[judged, mine] = class_distances(asked[judged, None], rest[:, None], scoring)[
            :, 0, 0
        ]
        some = None if pooled is None else pooled[here]
        probabilities[here] = _probabilities(distances, asked, scoring, some, text)
    return LeftOut(counts[class_index] > 1, probabilities, class_index)


def harmful_clips(
    query: Float32,
    support: Float32,
    class_index: NDArray[np.intp],
    scoring: Scoring,
    *,
    pooled: Float32 | None = None,
    text: Float32 | None = None,
    branch: Branch = "query",
) -> NDArray[np.intp]:
    """How many more of the other clips are right when a clip is removed, (n,).

    A clip with a positive number hurts. A class's only clip is never removed and has 0. Arguments as
    `leave_one_out`. Computes n² distances. By views, μ
    stays that of all clips, so the numbers are close to those of a support without the clip.
    """
    views = Views.of(scoring, query, support, branch)
    query, support = views.of_query(query), views.of_support(support)
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
