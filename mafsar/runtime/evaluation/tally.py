"""Answering episodes from features, and counting the right answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mafsar.choices import Branch, Progress, Scoring
from mafsar.data.episodes import Episodes
from mafsar.runtime.encoder import Float32
from mafsar.runtime.scoring.scores import score_distances
from mafsar.runtime.scoring.view_episodes import prototype_distances

_BATCH_BYTES = 64 << 20  # features of the episodes that are matched at once
_BINS = 15  # of shares, for the calibration error


@dataclass(frozen=True)
class Tally:
    """Counts over episodes.

    Attributes:
        right: Share of right answers in each episode, (n,), 0–1, by the fused scores.
        right_visual: The same, by the visual term alone.
        right_text: The same, by the text term alone; None without text.
        confusion: Number of answers, (C, C); rows = true class, columns = answer.
        ece: Expected calibration error of the fused scores, 0–1: answers are put into 15 equal bins
            by the share of the answered class, and the gaps between the share of right answers and
            the mean share of each bin are averaged, weighted by the bin's answers.
    """

    right: NDArray[np.float64]
    right_visual: NDArray[np.float64]
    right_text: NDArray[np.float64] | None
    confusion: NDArray[np.int64]
    ece: float


def evaluate_features(
    query: Float32,
    support: Float32,
    class_index: NDArray[np.intp],
    episodes: Episodes,
    scoring: Scoring,
    *,
    pooled: Float32 | None = None,
    text: Float32 | None = None,
    branch: Branch = "query",
    progress: Progress | None = None,
) -> Tally:
    """Answers the queries of all episodes, a batch of episodes at a time.

    Args:
        query: All clips by the query graph, (n, T, E).
        support: All clips as support, (n, T, E).
        class_index: Class of each clip, (n,).
        episodes: Episodes, as indices of these clips.
        scoring: Metric, scales, α and views. The means μ of an episode's views are those of its
            support clips.
        pooled: Time means of the raw query features, (n, E); required with text.
        text: Class text embeddings, (C, E), or None.
        branch: The graph that `support` is from: "query" where text is off.
        progress: Called with (done, total, what).
    """
    total, way = len(episodes), episodes.way
    classes = int(class_index.max()) + 1
    clips = way * (episodes.shot + 1 + episodes.query)
    step = max(1, _BATCH_BYTES // (clips * query[0].size * 4))
    rights: list[list[NDArray[np.float64]]] = [[], [], []]
    confusion = np.zeros((classes, classes), np.int64)
    bins = _Bins()
    distances = prototype_distances(query, support, scoring, branch)
    truth = np.repeat(np.arange(way), episodes.query)
    for start in range(0, total, step):
        taken = slice(start, min(start + step, total))
        chosen = episodes.classes[taken]  # (b, way)
        asked = episodes.queries[taken].reshape(len(chosen), -1)  # (b, way · query)
        scores = score_distances(
            distances(asked, episodes.support[taken]),
            query.shape[1],
            scoring,
            pooled=None if text is None or pooled is None else pooled[asked],
            text=None if text is None else text[chosen],
        )
        answers = scores.fused.argmax(axis=-1)
        _count(confusion, chosen, truth, answers)
        bins.add(scores.fused.max(axis=-1), answers == truth)
        for kept, part in zip(rights, (scores.fused, scores.visual, scores.text), strict=True):
            if part is not None:
                kept.append((part.argmax(axis=-1) == truth).mean(axis=-1))
        if progress is not None:
            progress(taken.stop, total, "matching episodes")
    fused, visual, worded = (np.concatenate(kept) if kept else None for kept in rights)
    assert fused is not None
    assert visual is not None
    return Tally(fused, visual, worded, confusion, bins.error())


def confidence_interval(right: NDArray[np.float64]) -> float:
    """Half width of the 95 % confidence interval of the mean over episodes; 0 for one episode."""
    if len(right) < 2:
        return 0.0
    return float(1.96 * right.std(ddof=1) / np.sqrt(len(right)))


def _count(
    confusion: NDArray[np.int64],
    chosen: NDArray[np.int32],
    truth: NDArray[np.intp],
    answers: NDArray[np.intp],
) -> None:
    true = chosen[:, truth]  # (b, way · query), class of each query
    given = np.take_along_axis(chosen, answers, axis=1)
    np.add.at(confusion, (true.ravel(), given.ravel()), 1)


class _Bins:
    """Answers by the share of the answered class."""

    def __init__(self) -> None:
        self._sums = np.zeros((3, _BINS))  # answers, right ones, shares

    def add(self, shares: NDArray[np.float64], right: NDArray[np.bool_]) -> None:
        place = np.minimum((shares * _BINS).astype(np.intp), _BINS - 1).ravel()
        for row, weights in zip(self._sums, (None, right.ravel(), shares.ravel()), strict=True):
            row += np.bincount(place, weights, minlength=_BINS)

    def error(self) -> float:
        """Σ over bins of |right − shares|, over all answers: the expected calibration error."""
        answers, right, shares = self._sums
        return float(np.abs(right - shares).sum() / max(answers.sum(), 1.0))
