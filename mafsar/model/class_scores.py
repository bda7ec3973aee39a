"""Scores of queries against classes: distances, text cosines and their fusion (docs/method.md,
section "Prototypes and matching").

Differentiable, for training and as the definition; `mafsar.runtime.scoring.scores` does the same in
numpy for inference.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mafsar.choices import Scoring
from mafsar.errors import InputError
from mafsar.kernels.metrics import visual_distances, visual_logits
from mafsar.kernels.reference import unit_vectors


@dataclass(frozen=True)
class ClassScores:
    """Q queries against C classes.

    Attributes:
        fused: α · softmax(text) + (1 − α) · softmax(visual), rows sum to 1, (Q, C).
        distances: Values of the metric, smaller is nearer, (Q, C).
        visual_logits: (Q, C).
        text_logits: (Q, C), or None without text.
    """

    fused: Tensor
    distances: Tensor
    visual_logits: Tensor
    text_logits: Tensor | None


def class_scores(
    query: Tensor,
    prototypes: Tensor,
    match: Scoring,
    *,
    pooled: Tensor | None = None,
    text: Tensor | None = None,
) -> ClassScores:
    """Scores queries against class prototypes and, where given, class texts.

    Args:
        query: Query features F̃, (Q, T, E).
        prototypes: Class prototypes, (C, T, E).
        match: Metric, λ, α and scales.
        pooled: Time means of the queries' raw features F, (Q, E); needed with `text`.
        text: Raw class text embeddings, (C, E). None matches without text: α counts as 0.

    Returns:
        The scores and their parts.

    Raises:
        InputError: `text` without `pooled`.
    """
    distances = visual_distances(query, prototypes, match)
    visual = visual_logits(distances, query.shape[-2], match)
    if text is None:
        return ClassScores(visual.softmax(dim=-1), distances, visual, None)
    if pooled is None:
        raise InputError("pooled is missing: the text score needs the queries' pooled features")
    worded = text_logits(pooled, text, match)
    fused = match.alpha * worded.softmax(dim=-1) + (1 - match.alpha) * visual.softmax(dim=-1)
    return ClassScores(fused, distances, visual, worded)


def text_logits(pooled: Tensor, text: Tensor, match: Scoring) -> Tensor:
    """text_scale · cos(pooled, text) of every (Q, E) and every (C, E), (Q, C)."""
    cosines = unit_vectors(pooled) @ unit_vectors(text).transpose(-1, -2)  # (Q, C)
    return match.text_scale * cosines
