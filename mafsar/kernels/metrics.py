"""The table of metrics: each row says all that the rest of the package has to know of one.

A new metric is a row here, its functions in `mafsar.kernels`, and its name in `mafsar.choices`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from mafsar.choices import METRICS, Metric, Scoring, check_metric
from mafsar.kernels.api import bimhm_match, mean_match, otam_match

# A torch tensor or a numpy array; each function answers in kind.
ArrayT = TypeVar("ArrayT")


@dataclass(frozen=True)
class MetricRow:
    """One distance between two sequences of frames.

    Attributes:
        name: As users choose it.
        match: Distances of all queries (..., Q, T, E) to all prototypes (..., C, T, E) at a
            temperature λ, (..., Q, C), smaller is nearer; torch or numpy, with gradients in torch.
        sums_frames: Whether a distance is a sum over the query's frames; others are means, and
            their logits are multiplied by T (METHOD section 3).
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
assert tuple(TABLE) == METRICS, "mafsar.choices.Metric names the rows of this table, in order"


def metric_row(name: str) -> MetricRow:
    """The row of a metric.

    Raises:
        InputError: No such metric.
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
    """`visual_scale ·` (−OTAM, −T · Bi-MHM or −T · mean) (METHOD section 3).

    Args:
        distances: Of `visual_distances`.
        frames: T of the query.
        scoring: Metric and visual_scale.
    """
    factor = 1.0 if metric_row(scoring.metric).sums_frames else float(frames)
    return -scoring.visual_scale * factor * distances
