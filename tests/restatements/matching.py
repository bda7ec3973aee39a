"""Matching, restated from docs/method.md: frame distances, OTAM and Bi-MHM of one pair in float64.

Plain loops, cell by cell, independent of the package and of numpy: slow and obvious. All tests that
need the true value of a cost take it from here, and csrc/tests/write_golden.py writes the numbers
for the C++ tests with it. Tables are sequences of rows; numpy arrays work too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Table = list[list[float]]
Rows = Sequence[Sequence[float]]


@dataclass(frozen=True)
class Cost:
    """The cost of one pair.

    Attributes:
        value: The cost.
        gradient: d value / d distances, Tq rows of Ts numbers.
        largest: The largest |C| of the table.
        gap: The smallest distance to a tie among the cells that the gradient runs through.
    """

    value: float
    gradient: Table
    largest: float = math.nan
    gap: float = math.nan


def soft_minimum(values: Sequence[float], lam: float) -> tuple[float, list[float]]:
    """m − λ·log Σ exp((m − x)/λ) with m = min x, and its gradient."""
    least = min(values)
    terms = [math.exp((least - value) / lam) for value in values]
    total = math.fsum(terms)
    return least - lam * math.log(total), [term / total for term in terms]


def otam(distances: Rows, lam: float) -> Cost:
    """OTAM in one direction: C over the padded table, and the gradient by walking it backwards."""
    rows, last = len(distances), len(distances[0]) + 1
    padded = [[0.0, *map(float, row), 0.0] for row in distances]
    cost = [[0.0] * (last + 1) for _ in range(rows)]
    weights: dict[tuple[int, int], list[tuple[int, int, float]]] = {}
    gaps: dict[tuple[int, int], float] = {}
    for m in range(1, last + 1):
        cost[0][m] = padded[0][m] + cost[0][m - 1]
    for row in range(1, rows):
        for m in range(1, last + 1):
            if m in (1, last):
                ways = [(row - 1, m - 1), (row - 1, m), (row, m - 1)]
            else:
                ways = [(row - 1, m - 1), (row, m - 1)]
            value, shares = soft_minimum([cost[r][c] for r, c in ways], lam)
            cost[row][m] = padded[row][m] + value
            weights[row, m] = [(r, c, share) for (r, c), share in zip(ways, shares, strict=True)]
            # The two zeros next to the first column are one way: equal, and without a gradient.
            ranked = sorted(cost[r][c] for r, c in ways if (r, c) != (row, 0))
            gaps[row, m] = ranked[1] - ranked[0] if len(ranked) > 1 else math.inf
    flow = [[0.0] * (last + 1) for _ in range(rows)]
    flow[-1][last] = 1.0
    gap = math.inf
    for row in range(rows - 1, 0, -1):
        for m in range(last, 0, -1):
            if flow[row][m] > 1e-9:
                gap = min(gap, gaps[row, m])
            for r, c, share in weights[row, m]:
                flow[r][c] += share * flow[row][m]
    for m in range(last, 0, -1):
        flow[0][m - 1] += flow[0][m]
    largest = max(abs(value) for row_of_costs in cost for value in row_of_costs)
    return Cost(cost[-1][last], [row_of_flow[1:last] for row_of_flow in flow], largest, gap)


def both(distances: Rows, lam: float) -> Cost:
    """OTAM in both directions: OTAM(D) + OTAM(Dᵀ)."""
    there, back = otam(distances, lam), otam(transposed(distances), lam)
    return Cost(
        there.value + back.value,
        [
            [a + b for a, b in zip(*pair, strict=True)]
            for pair in zip(there.gradient, transposed(back.gradient), strict=True)
        ],
        max(there.largest, back.largest),
        min(there.gap, back.gap),
    )


def bimhm(distances: Rows) -> Cost:
    """Bi-MHM: mean_i min_j D + mean_j min_i D. The first of equal minima takes the gradient."""
    rows, columns = len(distances), len(distances[0])
    gradient = [[0.0] * columns for _ in range(rows)]
    value = 0.0
    for row in range(rows):
        m = min(range(columns), key=lambda m: distances[row][m])
        value += float(distances[row][m]) / rows
        gradient[row][m] += 1.0 / rows
    for m in range(columns):
        row = min(range(rows), key=lambda row: distances[row][m])
        value += float(distances[row][m]) / columns
        gradient[row][m] += 1.0 / columns
    return Cost(value, gradient)


def transposed(table: Rows) -> Table:
    """Rows and columns exchanged."""
    return [[float(value) for value in column] for column in zip(*table, strict=True)]


def cosine(a: Sequence[float], b: Sequence[float]) -> float:
    """a·b / (max(‖a‖, 1e-6) · max(‖b‖, 1e-6))."""
    dot = math.fsum(float(x) * float(y) for x, y in zip(a, b, strict=True))
    return dot / (_norm(a) * _norm(b))


def _norm(vector: Sequence[float]) -> float:
    return max(math.sqrt(math.fsum(float(x) ** 2 for x in vector)), 1e-6)


def frame_distances(query: Rows, prototype: Rows) -> Table:
    """1 − cosine of every frame of a query (Tq, E) to every frame of a prototype (Ts, E)."""
    return [[1.0 - cosine(q, s) for s in prototype] for q in query]


def logit_factor(metric: str, frames: int) -> int:
    """What multiplies a distance in the logits: T for means over the frames, 1 for sums."""
    return 1 if metric == "otam" else frames


def distance(metric: str, query: Rows, prototype: Rows, lam: float) -> float:
    """The distance of two clips, (Tq, E) and (Ts, E), in the named metric."""
    if metric == "otam":
        return both(frame_distances(query, prototype), lam).value
    if metric == "bimhm":
        return bimhm(frame_distances(query, prototype)).value
    if metric == "mean":
        means = [
            [math.fsum(column) / len(clip) for column in transposed(clip)]
            for clip in (query, prototype)
        ]
        return 1.0 - cosine(*means)
    raise ValueError(f"{metric!r} has no restatement here")
