"""Answering episodes from features, and counting the right answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mafsar.choices import Progress, Scoring
from mafsar.data.episodes import Episodes
from mafsar.runtime.encoder import Float32
from mafsar.runtime.scoring.scores import match_features

_BATCH_BYTES = 64 << 20  # features of the episodes that are matched at once


@dataclass(frozen=True)
class Tally:
    """Counts over episodes.

    Attributes:
        right: Share of right answers in each episode, (n,), 0–1, by the fused scores.
        right_visual: The same, by the visual term alone.
        right_text: The same, by the text term alone; None without text.
        confusion: Number of answers, (C, C); rows = true class, columns = answer.
    """

    right: NDArray[np.float64]
    right_visual: NDArray[np.float64]
    right_text: NDArray[np.float64] | None
    confusion: NDArray[np.int64]


def evaluate_features(
    query: Float32,
    support: Float32,
    class_index: NDArray[np.intp],
    episodes: Episodes,
    scoring: Scoring,
    *,
    pooled: Float32 | None = None,
    text: Float32 | None = None,
    progress: Progress | None = None,
) -> Tally:
    """Answers the queries of all episodes, a batch of episodes at a time.

    Args:
        query: All clips by the query graph, (n, T, E).
        support: All clips as support, (n, T, E).
        class_index: Class of each clip, (n,).
        episodes: Episodes, as indices of these clips.
        scoring: Metric, scales and α.
        pooled: Time means of the raw query features, (n, E); required with text.
        text: Class text embeddings, (C, E), or None.
        progress: Called with (done, total, what).
    """
    total, way = len(episodes), episodes.way
    classes = int(class_index.max()) + 1
    clips = way * (episodes.shot + 1 + episodes.query)
    step = max(1, _BATCH_BYTES // (clips * query[0].size * 4))
    rights: list[list[NDArray[np.float64]]] = [[], [], []]
    confusion = np.zeros((classes, classes), np.int64)
    truth = np.repeat(np.arange(way), episodes.query)
    for start in range(0, total, step):
        taken = slice(start, min(start + step, total))
        chosen = episodes.classes[taken]  # (b, way)
        asked = episodes.queries[taken].reshape(len(chosen), -1)  # (b, way · query)
        shots = support[episodes.support[taken]]  # (b, way, shot, T, E)
        prototypes = shots[:, :, 0]
        if episodes.shot > 1:
            prototypes = shots.mean(axis=2, dtype=np.float64).astype(np.float32)
        scores = match_features(
            query[asked],
            prototypes,
            scoring,
            pooled=None if text is None or pooled is None else pooled[asked],
            text=None if text is None else text[chosen],
        )
        answers = scores.fused.argmax(axis=-1)
        _count(confusion, chosen, truth, answers)
        for kept, part in zip(rights, (scores.fused, scores.visual, scores.text), strict=True):
            if part is not None:
                kept.append((part.argmax(axis=-1) == truth).mean(axis=-1))
        if progress is not None:
            progress(taken.stop, total, "matching episodes")
    fused, visual, worded = (np.concatenate(kept) if kept else None for kept in rights)
    assert fused is not None
    assert visual is not None
    return Tally(fused, visual, worded, confusion)


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
