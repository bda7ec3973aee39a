"""α and visual_scale fitted to the scores of labelled episodes."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from mafsar.choices import Scoring

Float64 = NDArray[np.float64]

SCALES = tuple(round(0.25 * 2 ** (k / 2), 4) for k in range(16))  # 0.25 … 45
ALPHAS = tuple(k / 20 for k in range(21))


def fit_match(visual: Float64, text: Float64 | None, match: Scoring) -> Scoring:
    """Chooses visual_scale by likelihood, then α by accuracy.

    Args:
        visual: Visual logits at visual_scale 1, (n, Q, C) with Q = C; the class of query i is i.
        text: Text logits, (n, Q, C); None leaves α as it is.
        match: Where the other fields come from.

    Returns:
        `match` with the best of `SCALES` and, with text, of `ALPHAS`. Of equally good α the
        smallest is chosen.
    """
    right = np.arange(visual.shape[-1])

    def likelihood(scale: float) -> float:
        return float(np.log(_softmax(scale * visual)[:, right, right] + 1e-300).mean())

    match = dataclasses.replace(match, visual_scale=max(SCALES, key=likelihood))
    if text is None:
        return match

    def accuracy(alpha: float) -> float:
        fused = fused_scores(visual, text, dataclasses.replace(match, alpha=alpha))
        return float(share_right(fused).mean())

    return dataclasses.replace(match, alpha=max(ALPHAS, key=lambda a: (accuracy(a), -a)))


def fused_scores(visual: Float64, text: Float64 | None, match: Scoring) -> Float64:
    """α · softmax(text) + (1 − α) · softmax(visual_scale · visual); without text the latter alone.

    Args:
        visual: Visual logits at visual_scale 1, (n, Q, C).
        text: Text logits, (n, Q, C), or None.
        match: α and visual_scale.
    """
    scores = _softmax(match.visual_scale * visual)
    if text is None:
        return scores
    return match.alpha * _softmax(text) + (1 - match.alpha) * scores


def share_right(scores: Float64) -> Float64:
    """Share of the queries of each episode whose best class is their own, (n,).

    Args:
        scores: (n, Q, C) with Q = C; the class of query i is i.
    """
    hits = scores.argmax(axis=-1) == np.arange(scores.shape[-1])
    share: Float64 = hits.mean(axis=-1)
    return share


def _softmax(logits: Float64) -> Float64:
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    out: Float64 = shifted / shifted.sum(axis=-1, keepdims=True)
    return out
