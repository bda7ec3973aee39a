"""The table of metrics: one row holds all that the rest of the package needs to know of a metric.

To add a metric, write its function in `mafsar.kernels`, a row here and its name in
`mafsar.choices.Metric`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from mafsar.choices import METRICS, Metric, Scoring, check_metric
from mafsar.kernels.api import bimhm_match, mean_match, otam_match

# A torch tensor or a numpy array; a function returns what it is given.
ArrayT = TypeVar("ArrayT")


@dataclass(frozen=True)
class MetricRow:
    """One distance between two sequences of frames.

    Attributes:
        name: As users choose it.
        match: Distances of all queries (..., Q, T, E) to all prototypes (..., C, T, E) at a
            temperature λ, (..., Q, C), smaller is nearer. Torch tensors (differentiable) or numpy.
        sums_frames: Whether the distance is a sum over the query's frames. If it is a mean, logits
            are multiplied by T (docs/method.md).
    """

    name: Metric
    match: Callable[[Any, Any, float], Any]
    sums_frames: bool


_ROWS = (
    MetricRow("otam", lambda q, s, lam: otam_match(q, s, lam=lam), sums_frames=True),
    MetricRow("bimhm", lambda q, s, _: bimhm_match(q, s), sums_frames=False),
    MetricRow("mean", lambda q, s, _: mean_match(q, s), sums_frames=False),
)
TABLE: dict[str, MetricRow] = {row.name: row for row in _ROWS}
assert tuple(TABLE) == METRICS, "mafsar.choices.Metric must list the rows of this table, in order"


def metric_row(name: str) -> MetricRow:
    """The row of a metric.

    Raises:
        InputError: There is no such metric.
    """
    check_metric(name)
    return TABLE[name]


def visual_distances(query: ArrayT, prototypes: ArrayT, scoring: Scoring) -> ArrayT:
    """The metric between every query and every prototype.

    Args:
        query: Query features, (..., Q, T, E), raw.
        prototypes: Class prototypes, (..., C, T, E), raw; leading dimensions as in `query`.
        scoring: Metric and λ.

    Returns:
        Distances, (..., Q, C), smaller is nearer, float32 (float64 for float64).
    """
    distances: ArrayT = metric_row(scoring.metric).match(query, prototypes, scoring.lam)
    return distances


def visual_logits(distances: Any, frames: int, scoring: Scoring) -> Any:
    """Logits `−visual_scale · distance`, times T if the metric is a mean (docs/method.md).

    Args:
        distances: From `visual_distances`, (..., Q, C).
        frames: T of the query.
        scoring: Metric and visual_scale.

    Returns:
        Logits, (..., Q, C), of the kind and dtype of `distances`.
    """
    factor = 1.0 if metric_row(scoring.metric).sums_frames else float(frames)
    return -scoring.visual_scale * factor * distances
