"""Scores of queries against classes: distances, the two softmaxes and their fusion (METHOD §3)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mafsar import kernels
from mafsar.errors import InputError
from mafsar.runtime.encoder import METRICS, Float32, Metric, ModelSpec

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Scoring:
    """How features become scores.

    Attributes:
        metric: Distance between two sequences of frames.
        lam: OTAM's soft-min temperature.
        alpha: Weight of the text term, 0–1; 0 uses no text.
        visual_scale: Factor on the negative distances before the softmax.
        text_scale: Factor on the text cosines before the softmax.
    """

    metric: Metric = "otam"
    lam: float = 0.5
    alpha: float = 0.5
    visual_scale: float = 1.0
    text_scale: float = 100.0

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise InputError(f"metric must be one of {', '.join(METRICS)}, got {self.metric!r}")
        if not 0.0 <= self.alpha <= 1.0:
            raise InputError(f"alpha must be between 0 and 1, got {self.alpha:g}")

    @classmethod
    def of(
        cls, spec: ModelSpec, *, metric: Metric | None = None, alpha: float | None = None
    ) -> Scoring:
        """The model's own scoring, with the user's metric and α where given."""
        scoring = cls(spec.metric, spec.lam, spec.alpha, spec.visual_scale, spec.text_scale)
        return scoring.with_user(metric=metric, alpha=alpha)

    def with_user(self, *, metric: Metric | None = None, alpha: float | None = None) -> Scoring:
        """The same with the metric and α that are not None."""
        return replace(
            self,
            metric=self.metric if metric is None else metric,
            alpha=self.alpha if alpha is None else float(alpha),
        )


@dataclass(frozen=True)
class Scores:
    """Scores of Q queries against C classes; a leading shape may stand before (Q, C).

    Attributes:
        fused: `α · text + (1 − α) · visual`, rows sum to 1, (..., Q, C).
        visual: Softmax of the visual logits, (..., Q, C).
        text: Softmax of the text logits, or None without text, (..., Q, C).
        distances: The metric's own values, smaller is nearer, (..., Q, C).
    """

    fused: Float64
    visual: Float64
    text: Float64 | None
    distances: Float64


def class_prototypes(frames: Float32, owners: NDArray[np.intp], classes: int) -> Float32:
    """Means of the clips of each class, frame by frame (METHOD §3).

    Args:
        frames: Support features, (n, T, E).
        owners: Class of each clip, (n,), 0 … classes − 1; negative = no class.
        classes: C; each has at least one clip.

    Returns:
        Prototypes, (C, T, E), summed in float64 so that the order of the clips does not matter
        but for the last bit.
    """
    shape = (classes, *frames.shape[1:])
    out = np.empty(shape, np.float32)
    for index in range(classes):
        members = frames[owners == index]
        if len(members) == 0:
            raise InputError(f"class {index} has no clip to make a prototype from")
        out[index] = members.mean(axis=0, dtype=np.float64)
    return out


def visual_distances(query: Float32, prototypes: Float32, scoring: Scoring) -> Float64:
    """The metric between every query (..., Q, T, E) and every prototype (..., C, T, E)."""
    if scoring.metric == "otam":
        distances = kernels.otam_match(query, prototypes, lam=scoring.lam)
    elif scoring.metric == "bimhm":
        distances = kernels.bimhm_match(query, prototypes)
    else:
        distances = kernels.mean_match(query, prototypes)
    return np.asarray(distances, np.float64)


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
        pooled: Time means of the queries' raw features, (..., Q, E); needed with text.
        text: Raw class text embeddings, (..., C, E); None = no text term, and α counts as 0.
    """
    distances = visual_distances(query, prototypes, scoring)
    visual = visual_probabilities(distances, query.shape[-2], scoring)
    if text is None:
        return Scores(visual, visual, None, distances)
    if pooled is None:
        raise InputError("text scores need the queries' pooled features")
    worded = text_probabilities(pooled, text, scoring)
    return Scores(fuse(visual, worded, scoring), visual, worded, distances)


def visual_probabilities(distances: Float64, frames: int, scoring: Scoring) -> Float64:
    """Softmax over classes of the visual logits; `frames` is the query's T."""
    # OTAM sums over the frames by itself; the other two metrics are means over them.
    factor = 1.0 if scoring.metric == "otam" else float(frames)
    return _softmax(-scoring.visual_scale * factor * distances)


def text_probabilities(pooled: Float32, text: Float32, scoring: Scoring) -> Float64:
    """Softmax over classes of the text logits, from (..., Q, E) and (..., C, E)."""
    return _softmax(scoring.text_scale * cosines(pooled, text))


def fuse(visual: Float64, text: Float64, scoring: Scoring) -> Float64:
    """`α · text + (1 − α) · visual` (METHOD §3)."""
    return scoring.alpha * text + (1.0 - scoring.alpha) * visual


def _softmax(logits: Float64) -> Float64:
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))
