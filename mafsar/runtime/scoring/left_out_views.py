"""Leave-one-out distances by views: with each clip that is left out, the means μ change too.

With another μ for every clip, making all views anew would cost n² clips. A prototype of the
appearance view is a weighted sum of its class's raw frames,

    Σ_k (S_k − μ) / ‖S_k − μ‖ = Σ_k S_k / r_k − μ Σ_k 1 / r_k,    r_k = ‖S_k − μ‖,

so matrix products give the prototypes for many left-out clips at once. The change view does not
depend on μ.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mafsar.choices import Branch, Scoring
from mafsar.runtime.encoder import Float32
from mafsar.runtime.scoring.scores import Float64, class_distances
from mafsar.runtime.scoring.views import KAPPA, NO_FLOOR, floor, norms, prior_mean

_CHUNK_BYTES = 32 << 20  # what the prototypes for some left-out clips may take


def left_out_distances(
    query: Float32,
    support: Float32,
    class_index: NDArray[np.intp],
    scoring: Scoring,
    branch: Branch,
) -> Float64:
    """Distances of every clip to every class, (n, C), each without the clip itself.

    A class's only clip stays in its class, which has no prototype otherwise.

    Args:
        query: The clips by the query graph, (n, T, E).
        support: The same clips as support, (n, T, E).
        class_index: Classes, (n,), 0 … C − 1, each with at least one clip.
        scoring: Metric, λ and views, which are not raw.
        branch: The graph that `support` is from.
    """
    weight = float(scoring.views)
    asked = _Side(query, scoring, "query")
    shown = _Side(support, scoring, branch)
    members = [np.flatnonzero(class_index == c) for c in range(int(class_index.max()) + 1)]
    own_sum = np.stack([shown.changes[rows].sum(axis=0) for rows in members])  # (C, T, E)
    squares = np.einsum("nte,nte->nt", shown.frames, shown.frames)
    width = query.shape[2]
    distances = np.empty((len(query), len(members)), np.float64)
    for rows in _chunks(len(query), len(members) * query.shape[1] * 2 * width * 4):
        means = shown.left_out[rows]  # (i, E)
        # ‖S − μ‖² of every frame and every left-out clip, (n, T, i)
        radii = squares[..., None] - 2.0 * (shown.frames @ means.T)
        radii += np.einsum("ie,ie->i", means, means)
        shares = 1.0 / np.maximum(np.sqrt(np.maximum(radii, 0.0)), NO_FLOOR)
        prototypes = np.empty((len(rows), len(members), query.shape[1], 2 * width), np.float32)
        for c, clips in enumerate(members):
            taken = shares[clips]  # (k, T, i)
            inside = np.flatnonzero(class_index[rows] == c) if len(clips) > 1 else ()
            change = np.repeat(own_sum[c][None], len(rows), axis=0)
            counts = np.full(len(rows), len(clips), np.float32)
            for i in inside:
                taken[np.searchsorted(clips, rows[i]), :, i] = 0.0
                change[i] -= shown.changes[rows[i]]
                counts[i] -= 1
            # (T, i, k) @ (T, k, E) → (T, i, E)
            sums = np.matmul(taken.transpose(1, 2, 0), shown.frames[clips].transpose(1, 0, 2))
            sums -= taken.sum(axis=0)[..., None] * means
            scale = (1.0 / counts)[:, None, None]
            appearance = sums.transpose(1, 0, 2) * scale
            prototypes[:, c, :, :width] = math.sqrt(1.0 - weight) * appearance
            prototypes[:, c, :, width:] = math.sqrt(weight) * change * scale
        centred = asked.frames[rows] - asked.left_out[rows][:, None]
        centred *= math.sqrt(1.0 - weight) / norms(centred, NO_FLOOR)[..., None]
        views = np.concatenate([centred, math.sqrt(weight) * asked.changes[rows]], axis=-1)
        distances[rows] = class_distances(views[:, None], prototypes, scoring)[:, 0]
    return distances


class _Side:
    """All clips by one branch.

    Attributes:
        frames: Features about their own mean, (n, T, E), so that differences of squares are exact
            enough: a shift of all features and μ0 changes nothing.
        changes: The change view c, (n, T, E).
        left_out: μ without each clip, shifted in the same way, (n, E).
    """

    def __init__(self, features: Float32, scoring: Scoring, branch: Branch) -> None:
        clips, frames = features.shape[:2]
        shift = features.mean(axis=(0, 1), dtype=np.float64)
        self.frames = np.asarray(features - shift, np.float32)
        own = self.frames.mean(axis=1, keepdims=True, dtype=np.float64)
        changes = np.asarray(self.frames - own, np.float32)
        self.changes = changes / norms(changes, floor(scoring, branch))[..., None]
        totals = -frames * own[:, 0] + KAPPA * (prior_mean(scoring, branch) - shift)
        left = (clips - 1) * frames
        self.left_out = np.asarray(totals / (left + KAPPA), np.float32)


def _chunks(clips: int, bytes_each: int) -> Iterator[NDArray[np.intp]]:
    step = max(1, _CHUNK_BYTES // bytes_each)
    for start in range(0, clips, step):
        yield np.arange(start, min(start + step, clips))
