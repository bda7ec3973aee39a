"""Distances of few-shot episodes by views, where every episode has its own means μ.

Making the views of every episode costs many passes over its features. Instead each clip keeps its
frames about its own time mean F̄, and F̄ about the episode's μ beside them:

    F_t − μ = (F_t − F̄) + (F̄ − μ)

The products of the T + 1 rows of two clips then hold every scalar product that the cosines of both
views are made of.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mafsar.choices import Branch, Scoring
from mafsar.kernels import bimhm, otam
from mafsar.runtime.encoder import Float32
from mafsar.runtime.scoring.scores import Float64, class_distances
from mafsar.runtime.scoring.views import KAPPA, NO_FLOOR, centre, floor, prior_mean, views_of

Indices = NDArray[np.integer[Any]]

# Metrics that need the frame distances of a pair and nothing else of it.
_BY_FRAMES: dict[str, Callable[[Any, Scoring], Any]] = {
    "otam": lambda distances, scoring: otam(distances, lam=scoring.lam),
    "bimhm": lambda distances, _: bimhm(distances),
}


class ViewEpisodes:
    """Matches episodes over fixed clips by views; μ is made of each episode's support alone."""

    def __init__(self, query: Float32, support: Float32, scoring: Scoring, branch: Branch) -> None:
        """Prepares the clips.

        Args:
            query: All clips by the query graph, (n, T, E).
            support: All clips as support, (n, T, E).
            scoring: Metric, λ and views, which are not raw.
            branch: The graph that `support` is from: "query" where text is off.
        """
        self._scoring, self._branch = scoring, branch
        self._query, self._support = query, support
        self._weight = float(scoring.views)
        self._by_frames = _BY_FRAMES.get(scoring.metric)
        if self._by_frames is not None:
            self._asked = _Rows(query, scoring, "query")
            self._shown = (
                self._asked
                if branch == "query" and support is query
                else _Rows(support, scoring, branch)
            )

    def distances(self, queries: Indices, supports: Indices) -> Float64:
        """The metric between the queries and the classes of some episodes.

        Args:
            queries: Query clips, (b, Q).
            supports: Support clips, (b, C, K).

        Returns:
            (b, Q, C), smaller is nearer.
        """
        if self._by_frames is None:
            return self._plainly(queries, supports)
        shots, weight = supports.shape[2], self._weight
        ways = supports.reshape(len(supports), -1)
        left = self._asked.about(queries, ways)
        right = self._shown.about(ways, ways)
        if shots == 1:
            appearance, change, lengths = _of_clips(left, right, weight)
        else:
            appearance, change, lengths = _of_prototypes(left, right, shots, weight)
        # What divides the query's side; (b, Q, T), against products (b, Q, C, T, T).
        sizes = left.lengths(weight)
        appearance *= ((1.0 - weight) * left.appearance / sizes)[:, :, None, :, None]
        change *= (weight * left.change / sizes)[:, :, None, :, None]
        cosines = np.add(appearance, change, out=appearance)
        cosines /= lengths[:, None, :, None, :]
        grid = np.subtract(1.0, cosines, out=cosines)
        return np.asarray(self._by_frames(grid, self._scoring), np.float64)

    def _plainly(self, queries: Indices, supports: Indices) -> Float64:
        """The views themselves, for metrics that need more than frame distances."""
        scoring, branch = self._scoring, self._branch
        ways = supports.reshape(len(supports), -1)
        frames = ways.shape[1] * self._query.shape[1]
        own = self._query[ways].sum(axis=(1, 2), dtype=np.float64)
        shots = self._support[supports]  # (b, C, K, T, E)
        other = shots.sum(axis=(1, 2, 3), dtype=np.float64)
        mean = centre(scoring, "query", own, frames)[:, None, None]
        asked = views_of(self._query[queries], mean, floor(scoring, "query"), self._weight)
        mean = centre(scoring, branch, other, frames)[:, None, None, None]
        views = views_of(shots, mean, floor(scoring, branch), self._weight)
        prototypes = views.mean(axis=2, dtype=np.float64).astype(np.float32)
        return class_distances(asked, prototypes, scoring)


class _Rows:
    """All clips of a branch as T rows F_t − F̄ and one row F̄, all about a common shift."""

    def __init__(self, features: Float32, scoring: Scoring, branch: Branch) -> None:
        shift = features.mean(axis=(0, 1), dtype=np.float64)
        means = features.mean(axis=1, dtype=np.float64) - shift  # (n, E)
        clips, self.frames, width = features.shape
        self.rows = np.empty((clips, self.frames + 1, width), np.float32)
        self.rows[:, :-1] = features - (means + shift)[:, None]
        self.rows[:, -1] = means
        changes, own = self.rows[:, :-1], self.rows[:, -1]
        self.squares = np.einsum("nte,nte->nt", changes, changes)
        self.products = np.einsum("nte,ne->nt", changes, own)
        self.change = 1.0 / np.maximum(np.sqrt(self.squares), floor(scoring, branch))
        self._prior = prior_mean(scoring, branch) - shift

    def about(self, clips: Indices, enrolled: Indices) -> _Gathered:
        """Clips (b, m) with their F̄ about the μ of the enrolled clips (b, k)."""
        total = self.frames * self.rows[enrolled, -1].sum(axis=1, dtype=np.float64)
        number = self.frames * enrolled.shape[1]
        mean = np.asarray((total + KAPPA * self._prior) / (number + KAPPA), np.float32)
        rows = self.rows[clips]
        # (F_t − F̄) · μ, then in the last row F̄ · μ
        along = np.matmul(rows, mean[:, None, :, None])[:, :, :-1, 0]
        rows[:, :, -1] -= mean[:, None]
        own = np.einsum("bme,bme->bm", rows[:, :, -1], rows[:, :, -1])
        squares = self.squares[clips]
        radii = squares + 2.0 * (self.products[clips] - along) + own[..., None]
        appearance = 1.0 / np.maximum(np.sqrt(np.maximum(radii, 0.0)), NO_FLOOR)
        return _Gathered(rows, appearance, self.change[clips], radii, squares)


class _Gathered:
    """The clips of one side of some episodes, with what divides them.

    Attributes:
        rows: F_t − F̄ and, in the last row, F̄ − μ, (b, m, T + 1, E).
        appearance: 1 / ‖F_t − μ‖, (b, m, T).
        change: 1 / max(‖F_t − F̄‖, ε), (b, m, T).
    """

    def __init__(
        self, rows: Float32, appearance: Float32, change: Float32, radii: Float32, squares: Float32
    ) -> None:
        self.rows, self.appearance, self.change = rows, appearance, change
        self._radii, self._squares = radii, squares

    def lengths(self, weight: float) -> Float32:
        """‖v_t‖, (b, m, T)."""
        squares = (1.0 - weight) * self._radii * self.appearance**2
        squares += weight * self._squares * self.change**2
        return np.asarray(np.maximum(np.sqrt(np.maximum(squares, 0.0)), NO_FLOOR), np.float32)


def _of_clips(left: _Gathered, right: _Gathered, weight: float) -> tuple[Float32, Float32, Float32]:
    """Products of queries with classes of one clip, by both views.

    Returns:
        (F_q − μ) · a and (F_q − F̄_q) · c, (b, Q, C, T, T), and ‖v‖ of the classes, (b, C, T).
    """
    # One small product a pair of clips: larger ones are given to threads that cost more than they
    # save.
    table = np.matmul(left.rows[:, :, None], right.rows[:, None].swapaxes(-1, -2))
    change = np.ascontiguousarray(table[..., :-1, :-1])
    appearance = change + table[..., :-1, -1:]
    appearance += table[..., -1:, :-1] + table[..., -1:, -1:]
    appearance *= right.appearance[:, None, :, None]
    change *= right.change[:, None, :, None]
    return appearance, change, right.lengths(weight)


def _of_prototypes(
    left: _Gathered, right: _Gathered, shots: int, weight: float
) -> tuple[Float32, Float32, Float32]:
    """As `_of_clips`, of classes of K clips: the sums of their a and c stand for a and c."""
    b, _, rows, width = right.rows.shape
    stacked = right.rows.reshape(b, -1, shots, rows, width)
    parts = [
        part.reshape(b, -1, shots, rows - 1).swapaxes(-1, -2)  # (b, C, T, K)
        for part in (right.appearance, right.change)
    ]
    # (b, C, T, 2, K) @ (b, C, T, K, E)
    sums = np.matmul(np.stack(parts, axis=3), stacked[:, :, :, :-1].swapaxes(2, 3))
    sums[:, :, :, 0] += np.matmul(parts[0], stacked[:, :, :, -1])
    squares = np.einsum("...e,...e->...", sums, sums)  # (b, C, T, 2)
    squares = (1.0 - weight) * squares[..., 0] + weight * squares[..., 1]
    lengths = np.maximum(np.sqrt(squares), np.float32(NO_FLOOR * shots))
    sums = np.ascontiguousarray(sums.swapaxes(2, 3))  # (b, C, 2, T, E)
    table = np.matmul(left.rows[:, :, None, None], sums[:, None].swapaxes(-1, -2))
    change = np.ascontiguousarray(table[:, :, :, 1, :-1])
    appearance = table[:, :, :, 0, :-1] + table[:, :, :, 0, -1:]
    return appearance, change, lengths


def prototype_distances(
    query: Float32,
    support: Float32,
    scoring: Scoring,
    branch: Branch = "query",
) -> Callable[[Indices, Indices], Float64]:
    """How the episodes over some clips are matched, by views or raw.

    Args:
        query: All clips by the query graph, (n, T, E).
        support: All clips as support, (n, T, E).
        scoring: Metric, λ and views.
        branch: The graph that `support` is from: "query" where text is off.

    Returns:
        A function of query clips (b, Q) and support clips (b, C, K), both indices: distances
        (b, Q, C).
    """
    if scoring.views != "raw":
        return ViewEpisodes(query, support, scoring, branch).distances

    def raw(queries: Indices, supports: Indices) -> Float64:
        shots = support[supports]  # (b, C, K, T, E)
        prototypes = shots[:, :, 0]
        if shots.shape[2] > 1:
            prototypes = shots.mean(axis=2, dtype=np.float64).astype(np.float32)
        return class_distances(query[queries], prototypes, scoring)

    return raw
