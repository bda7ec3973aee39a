"""The matching section of METHOD in float64, cell by cell and pair by pair, nothing shared.

Loops over one pair at a time in plain Python: slow, obvious, and independent of the twins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Otam:
    """One pair, one direction."""

    value: float
    gradient: np.ndarray  # (Tq, Ts)
    largest: float  # largest |C| of the table
    gap: float  # least distance to a tie among the cells that the gradient runs through


def otam(distances: np.ndarray, lam: float) -> Otam:
    """C over the padded table, and the gradient by walking it backwards."""
    rows, columns = distances.shape
    last = columns + 1
    padded = np.zeros((rows, columns + 2))
    padded[:, 1:last] = distances
    cost = np.zeros((rows, columns + 2))
    weights: dict[tuple[int, int], list[tuple[tuple[int, int], float]]] = {}
    gaps: dict[tuple[int, int], float] = {}
    for m in range(1, last + 1):
        cost[0, m] = padded[0, m] + cost[0, m - 1]
    for row in range(1, rows):
        for m in range(1, last + 1):
            ways = [(row - 1, m - 1), (row, m - 1)]
            if m in (1, last):
                ways.insert(1, (row - 1, m))
            values = np.array([cost[way] for way in ways])
            least = values.min()
            terms = np.exp((least - values) / lam)
            cost[row, m] = padded[row, m] + least - lam * np.log(terms.sum())
            weights[row, m] = list(zip(ways, terms / terms.sum(), strict=True))
            # The two zeros beside the first column are one way: equal, and without a gradient.
            others = [v for v, way in zip(values, ways, strict=True) if way != (row, 0)]
            ranked = np.sort(others)
            gaps[row, m] = ranked[1] - ranked[0] if len(ranked) > 1 else np.inf
    flow = np.zeros_like(cost)
    flow[-1, last] = 1.0
    gap = np.inf
    for row in range(rows - 1, 0, -1):
        for m in range(last, 0, -1):
            if flow[row, m] > 1e-9:
                gap = min(gap, gaps[row, m])
            for way, weight in weights[row, m]:
                flow[way] += weight * flow[row, m]
    for m in range(last, 0, -1):
        flow[0, m - 1] += flow[0, m]
    return Otam(float(cost[-1, last]), flow[:, 1:last].copy(), float(np.abs(cost).max()), gap)


def both(distances: np.ndarray, lam: float) -> Otam:
    """Both directions of one pair."""
    there, back = otam(distances, lam), otam(distances.T, lam)
    return Otam(
        there.value + back.value,
        there.gradient + back.gradient.T,
        max(there.largest, back.largest),
        min(there.gap, back.gap),
    )


def bimhm(distances: np.ndarray) -> tuple[float, np.ndarray]:
    """Value and gradient of one pair; the first of equal minima takes the gradient."""
    rows, columns = distances.shape
    gradient = np.zeros((rows, columns))
    value = 0.0
    for row in range(rows):
        m = min(range(columns), key=lambda m: distances[row, m])
        value += distances[row, m] / rows
        gradient[row, m] += 1.0 / rows
    for m in range(columns):
        row = min(range(rows), key=lambda row: distances[row, m])
        value += distances[row, m] / columns
        gradient[row, m] += 1.0 / columns
    return value, gradient


def cosine_distance(a: np.ndarray, b: np.ndarray) -> float:
    """1 − a·b / (max(‖a‖, 1e-6) · max(‖b‖, 1e-6))."""
    norms = max(float(np.sqrt((a * a).sum())), 1e-6) * max(float(np.sqrt((b * b).sum())), 1e-6)
    return 1.0 - float((a * b).sum()) / norms


def frame_distances(query: np.ndarray, prototype: np.ndarray) -> np.ndarray:
    """(Tq, Ts) of one pair of clips (Tq, E), (Ts, E)."""
    return np.array([[cosine_distance(q, s) for s in prototype] for q in query])
