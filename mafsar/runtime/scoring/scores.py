"""Scores of queries against classes: distances, softmax of each term, fusion (docs/method.md)."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mafsar.choices import Scoring
from mafsar.errors import InputError
from mafsar.kernels.metrics import visual_distances, visual_logits
from mafsar.runtime.encoder import Float32

Float64 = NDArray[np.float64]
_AT_ONCE = 2000  # clips whose views are made together


@dataclass(frozen=True)
class Scores:
    """Scores of Q queries against C classes; leading dimensions may precede (Q, C).

    Attributes:
        fused: `α · text + (1 − α) · visual`, (..., Q, C); rows sum to 1.
        visual: Softmax of the visual logits, (..., Q, C).
        text: Softmax of the text logits, (..., Q, C), or None without text.
        distances: The metric's values, (..., Q, C); smaller is nearer.
    """

    fused: Float64
    visual: Float64
    text: Float64 | None
    distances: Float64


def class_prototypes(frames: Float32, class_index: NDArray[np.intp], classes: int) -> Float32:
    """Means of the clips of each class, frame by frame (docs/method.md).

    Args:
        frames: Support features, (n, T, E).
        class_index: Class of each clip, (n,), 0 … classes − 1; negative = no class.
        classes: C.

    Returns:
        Prototypes, (C, T, E); summed in float64, so that the order of the clips changes the last
        bit at most.

    Raises:
        InputError: A class has no clip.
    """
    out = np.empty((classes, *frames.shape[1:]), np.float32)
    for index in range(classes):
        members = frames[class_index == index]
        if len(members) == 0:
            raise InputError(f"class {index} has no clip to make a prototype from")
        out[index] = members.mean(axis=0, dtype=np.float64)
    return out


def viewed_prototypes(
    view: Callable[[Float32], Float32],
    frames: Float32,
    class_index: NDArray[np.intp],
    classes: int,
) -> Float32:
    """`class_prototypes` of what a view makes of the features, which for many clips is not kept.

    Args:
        view: Makes features (n, T, E) what is matched, clip by clip.
        frames: Support features, (n, T, E).
        class_index: Class of each clip, (n,).
        classes: C.

    Raises:
        InputError: A class has no clip.
    """
    if len(frames) <= _AT_ONCE:
        return class_prototypes(view(frames), class_index, classes)
    order = np.argsort(class_index, kind="stable")
    borders = np.searchsorted(class_index[order], np.arange(classes + 1))
    parts = []
    for first, last in itertools.pairwise(borders):
        members = frames[order[first:last]]
        parts.append(class_prototypes(view(members), np.zeros(len(members), np.intp), 1))
    return np.concatenate(parts)


def cosines(left: Float32, right: Float32) -> Float64:
    """`a·b / (max(‖a‖, 1e-6) · max(‖b‖, 1e-6))` of (..., Q, E) and (..., C, E) → (..., Q, C)."""
    a, b = np.asarray(left, np.float64), np.asarray(right, np.float64)
    a = a / np.maximum(np.linalg.norm(a, axis=-1, keepdims=True), 1e-6)
    b = b / np.maximum(np.linalg.norm(b, axis=-1, keepdims=True), 1e-6)
    return np.asarray(a @ np.swapaxes(b, -1, -2))


def match_features(
    query: Float32,
    prototypes: Float32,
    scoring: Scoring,
    *,
    pooled: Float32 | None = None,
    text: Float32 | None = None,
) -> Scores:
    """Scores queries against prototypes and class texts.

    Args:
        query: Query features, (..., Q, T, E), raw.
        prototypes: Class prototypes, (..., C, T, E), raw; leading dimensions as in `query`.
        scoring: Metric, scales and α.
        pooled: Time means of the queries' raw features, (..., Q, E); required with text.
        text: Raw class text embeddings, (..., C, E); None = no text term, as if α were 0.

    Raises:
        InputError: `text` without `pooled`.
    """
    distances = class_distances(query, prototypes, scoring)
    return score_distances(distances, query.shape[-2], scoring, pooled=pooled, text=text)


def score_distances(
    distances: Float64,
    frames: int,
    scoring: Scoring,
    *,
    pooled: Float32 | None = None,
    text: Float32 | None = None,
) -> Scores:
    """Scores queries whose distances to the classes are known.

    Args:
        distances: From `class_distances`, (..., Q, C).
        frames: T of the queries.
        scoring: As `match_features`.
        pooled: As `match_features`.
        text: As `match_features`.

    Raises:
        InputError: `text` without `pooled`.
    """
    visual = softmax(visual_logits(distances, frames, scoring))
    if text is None:
        return Scores(visual, visual, None, distances)
    if pooled is None:
        raise InputError("text scores need the queries' pooled features")
    worded = softmax(scoring.text_scale * cosines(pooled, text))
    fused = scoring.alpha * worded + (1.0 - scoring.alpha) * visual
    return Scores(fused, visual, worded, distances)


def class_distances(query: Float32, prototypes: Float32, scoring: Scoring) -> Float64:
    """The metric between every query (..., Q, T, E) and every prototype (..., C, T, E), float64."""
    return np.asarray(visual_distances(query, prototypes, scoring), np.float64)


def softmax(logits: Float64) -> Float64:
    """Softmax over the last axis; the largest logit is subtracted first, against overflow."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))
