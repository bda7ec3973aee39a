"""Views: the appearance and the change of a clip, which are matched in place of raw features.

Features of a frozen encoder share a large common direction, and what stays the same through a clip
outvotes what changes. Both views are made of the features alone, without training
(docs/method.md, "Views"):

    a_t = unit(F_t − μ)                             appearance
    c_t = (F_t − F̄) / max(‖F_t − F̄‖, ε)             change, F̄ the time mean of the clip
    v_t = [ √(1−w) · a_t ; √w · c_t ]               what is matched, of width 2E

The kernels stay as they are: v is an input of cosine matching. The query and the support graph have
each their own μ and ε.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mafsar.choices import Branch, Scoring
from mafsar.runtime.encoder import Float32

KAPPA = 16.0
"""κ: how many enrolled frames the model's own mean μ0 counts as."""

NO_FLOOR = 1e-6
"""ε of a model that keeps none, and the least norm that anything is divided by."""


@dataclass(frozen=True, eq=False)
class Views:
    """The views for one support: every number that they need, of both branches.

    Attributes:
        weight: w, the weight of the change view, 0–1; None = raw features.
        query_mean: μ of the query graph, (E,), or with leading dimensions that broadcast against
            features (..., T, E); None where raw.
        support_mean: μ of the support side's graph.
        query_floor: ε of the query graph.
        support_floor: ε of the support side's graph.
    """

    weight: float | None
    query_mean: Float32 | None = None
    support_mean: Float32 | None = None
    query_floor: float = NO_FLOOR
    support_floor: float = NO_FLOOR

    @classmethod
    def of(cls, scoring: Scoring, query: Float32, support: Float32, branch: Branch) -> Views:
        """The views for a support.

        Args:
            scoring: Says which views, and what is known of the training clips.
            query: All enrolled clips by the query graph, (n, T, E); no background clips.
            support: The same clips as the support side has them, (n, T, E).
            branch: The graph that `support` is from: "query" where text is off.
        """
        if scoring.views == "raw":
            return cls(None)
        frames = query.shape[0] * query.shape[1]
        return cls(
            float(scoring.views),
            centre(scoring, "query", query.sum(axis=(0, 1), dtype=np.float64), frames),
            centre(scoring, branch, support.sum(axis=(0, 1), dtype=np.float64), frames),
            floor(scoring, "query"),
            floor(scoring, branch),
        )

    def of_query(self, frames: Float32) -> Float32:
        """v of query features (..., T, E): (..., T, 2E); raw features stay as they are."""
        if self.weight is None or self.query_mean is None:
            return frames
        return views_of(frames, self.query_mean, self.query_floor, self.weight)

    def of_support(self, frames: Float32) -> Float32:
        """v of support features (..., T, E): (..., T, 2E); raw features stay as they are.

        A prototype is the mean of its clips' v, not v of their mean.
        """
        if self.weight is None or self.support_mean is None:
            return frames
        return views_of(frames, self.support_mean, self.support_floor, self.weight)


def centre(scoring: Scoring, branch: Branch, total: NDArray[Any], frames: float) -> Float32:
    """μ = (Σ F_t + κ μ0) / (n + κ) of a branch.

    Args:
        scoring: Has μ0; without one it is 0, and counts all the same.
        branch: "query" or "support".
        total: Sum of the enrolled frames' features, (..., E), float64.
        frames: n, how many they are.
    """
    total = total + KAPPA * prior_mean(scoring, branch)
    return np.asarray(total / (frames + KAPPA), np.float32)


def prior_mean(scoring: Scoring, branch: Branch) -> NDArray[np.float64]:
    """μ0 of a branch, (E,); a single 0 where the model keeps none."""
    if scoring.view_prior is None:
        return np.zeros(1)
    prior = scoring.view_prior
    return np.array((prior.query if branch == "query" else prior.support).mean, np.float64)


def floor(scoring: Scoring, branch: Branch) -> float:
    """ε of a branch."""
    if scoring.view_prior is None:
        return NO_FLOOR
    prior = scoring.view_prior
    return max((prior.query if branch == "query" else prior.support).floor, NO_FLOOR)


def views_of(frames: Float32, mean: Float32, least: float, weight: float) -> Float32:
    """v_t of features (..., T, E) about a mean, (..., T, 2E) float32."""
    width = frames.shape[-1]
    out = np.empty((*frames.shape[:-1], 2 * width), np.float32)
    appearance, change = out[..., :width], out[..., width:]
    np.subtract(frames, mean, out=appearance)
    appearance *= math.sqrt(1.0 - weight) / norms(appearance, NO_FLOOR)[..., None]
    np.subtract(frames, frames.mean(axis=-2, keepdims=True, dtype=np.float64), out=change)
    change *= math.sqrt(weight) / norms(change, least)[..., None]
    return out


def norms(vectors: Float32, least: float) -> Float32:
    """Lengths of vectors (..., E), and at least `least`, (...)."""
    squares = np.einsum("...e,...e->...", vectors, vectors)
    return np.asarray(np.maximum(np.sqrt(squares), least), np.float32)
