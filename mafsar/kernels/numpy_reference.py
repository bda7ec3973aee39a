"""Numpy twins of the matching ops, for float64 and for installs without the native module.

The same minimum-first recurrence as `mafsar.kernels.reference`, vectorised over pairs, with the
gradient written out by hand because numpy has none.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from mafsar.kernels.checks import AlignmentMetric, check_metric

Array = npt.NDArray[Any]
SHORTEST_NORM = 1e-6
# Distances held in memory at a time: 32 MiB of float64.
_BLOCK = 1 << 22


def soft_minimum(values: list[Array], lam: float) -> tuple[Array, Array]:
    """Soft minimum over a list of arrays, and its gradient with respect to each (n, ...)."""
    stacked = np.stack(values)  # (n, ...)
    minimum = stacked.min(axis=0)
    weights = np.exp((minimum - stacked) / lam)
    total = weights.sum(axis=0)
    return minimum - lam * np.log(total), weights / total


class _Direction:
    """One direction of OTAM over a stack of pairs (P, rows, columns) of one size."""

    def __init__(self, distances: Array, lam: float) -> None:
        self.shape = distances.shape
        pairs, rows, columns = distances.shape
        self.weights: dict[tuple[int, int], Array] = {}
        padded = np.zeros((pairs, rows, columns + 2), dtype=distances.dtype)
        padded[:, :, 1:-1] = distances
        cost = np.zeros_like(padded)
        cost[:, 0] = np.cumsum(padded[:, 0], axis=-1, dtype=padded.dtype)
        for row in range(1, rows):
            for m in range(1, columns + 2):
                ways = [cost[:, up, left] for up, left in self.ways(row, m)]
                value, self.weights[row, m] = soft_minimum(ways, lam)
                cost[:, row, m] = padded[:, row, m] + value
        self.value: Array = cost[:, -1, -1]

    def ways(self, row: int, m: int) -> list[tuple[int, int]]:
        """Cells that precede (row, m): diagonal, left, and vertical in the two edge columns."""
        ways = [(row - 1, m - 1), (row, m - 1)]
        if m in (1, self.shape[2] + 1):
            ways.append((row - 1, m))
        return ways

    def gradient(self) -> Array:
        """d value / d distances, (P, rows, columns)."""
        pairs, rows, columns = self.shape
        flow = np.zeros((pairs, rows, columns + 2), dtype=self.value.dtype)
        flow[:, -1, -1] = 1.0
        for row in range(rows - 1, 0, -1):
            for m in range(columns + 1, 0, -1):
                ways = zip(self.ways(row, m), self.weights[row, m], strict=True)
                for (up, left), weight in ways:
                    flow[:, up, left] += weight * flow[:, row, m]
        # Row 0 is a plain sum: a cell receives all the gradient of the cells to its right.
        flow[:, 0] = np.cumsum(flow[:, 0, ::-1], axis=-1)[:, ::-1]
        return flow[:, :, 1:-1]


def _by_length(distances: Array, lengths: Array | None) -> list[tuple[Array, int, int]]:
    """Pairs of the flattened stack grouped by size: (indices, tq, ts)."""
    pairs, rows, columns = distances.shape
    if lengths is None:
        return [(np.arange(pairs), rows, columns)]
    sizes, group = np.unique(lengths.reshape(-1, 2), axis=0, return_inverse=True)
    group = group.reshape(-1)
    return [(np.flatnonzero(group == g), int(s[0]), int(s[1])) for g, s in enumerate(sizes)]


def otam(
    distances: Array, lam: float = 0.5, bidirectional: bool = True, lengths: Array | None = None
) -> Array:
    """Soft OTAM cost of every pair; see `mafsar.kernels.otam`."""
    flat = distances.reshape(-1, *distances.shape[-2:])
    out = np.empty(len(flat), dtype=distances.dtype)
    for index, rows, columns in _by_length(flat, lengths):
        block = flat[index, :rows, :columns]
        out[index] = _Direction(block, lam).value
        if bidirectional:
            out[index] += _Direction(block.swapaxes(1, 2), lam).value
    return out.reshape(distances.shape[:-2])


def otam_gradient(distances: Array, lam: float = 0.5) -> Array:
    """d OTAM (both directions) / d distances, (..., Tq, Ts)."""
    flat = distances.reshape(-1, *distances.shape[-2:])
    there = _Direction(flat, lam).gradient()
    back = _Direction(flat.swapaxes(1, 2), lam).gradient().swapaxes(1, 2)
    gradient: Array = (there + back).reshape(distances.shape)
    return gradient


def bimhm(distances: Array, lengths: Array | None = None) -> Array:
    """Bidirectional mean Hausdorff distance of every pair; see `mafsar.kernels.bimhm`."""
    flat = distances.reshape(-1, *distances.shape[-2:])
    out = np.empty(len(flat), dtype=distances.dtype)
    for index, rows, columns in _by_length(flat, lengths):
        block = flat[index, :rows, :columns]
        out[index] = block.min(axis=2).mean(axis=1) + block.min(axis=1).mean(axis=1)
    return out.reshape(distances.shape[:-2])


def unit_vectors(vectors: Array) -> Array:
    """Vectors over max(‖·‖, 1e-6) along the last axis."""
    norm = np.linalg.norm(vectors, axis=-1, keepdims=True)
    unit: Array = vectors / np.maximum(norm, vectors.dtype.type(SHORTEST_NORM))
    return unit


def frame_distances(query: Array, prototypes: Array) -> Array:
    """Cosine distance of every query frame to every prototype frame, (..., Q, C, Tq, Ts)."""
    *lead, videos, rows, width = query.shape
    classes, columns = prototypes.shape[-3:-1]
    left = unit_vectors(query).reshape(*lead, videos * rows, width)
    right = unit_vectors(prototypes).reshape(*lead, classes * columns, width)
    cosines = left @ right.swapaxes(-1, -2)  # (..., Q·Tq, C·Ts)
    cosines = cosines.reshape(*lead, videos, rows, classes, columns)
    return np.ascontiguousarray(1.0 - cosines.swapaxes(-2, -3), dtype=query.dtype)


def align(
    metric: AlignmentMetric,
    distances: Array,
    lam: float,
    bidirectional: bool,
    lengths: Array | None,
) -> Array:
    """The cost of every pair in the named metric; Bi-MHM ignores `lam` and `bidirectional`."""
    check_metric(metric)
    if metric == "otam":
        return otam(distances, lam, bidirectional, lengths)
    return bimhm(distances, lengths)


def match(
    metric: AlignmentMetric,
    query: Array,
    prototypes: Array,
    lam: float,
    query_lengths: Array | None,
    prototype_lengths: Array | None,
) -> Array:
    """OTAM or Bi-MHM of all pairs of videos, a block of leading sizes at a time, (..., Q, C)."""
    check_metric(metric)
    lead = query.shape[:-3]
    videos, classes = query.shape[-3], prototypes.shape[-3]
    blocks = math.prod(lead)  # not −1: without videos, arrays are empty
    left = query.reshape(blocks, *query.shape[-3:])
    right = prototypes.reshape(blocks, *prototypes.shape[-3:])
    lengths = None
    if query_lengths is not None or prototype_lengths is not None:
        lengths = np.empty((len(left), videos, classes, 2), dtype=np.int64)
        lengths[..., 0] = query.shape[-2]
        lengths[..., 1] = prototypes.shape[-2]
        if query_lengths is not None:
            lengths[..., 0] = query_lengths.reshape(blocks, videos, 1)
        if prototype_lengths is not None:
            lengths[..., 1] = prototype_lengths.reshape(blocks, 1, classes)
    out = np.empty((len(left), videos, classes), dtype=query.dtype)
    numbers = videos * classes * query.shape[-2] * prototypes.shape[-2]
    step = max(1, _BLOCK // max(1, numbers))
    for start in range(0, len(left), step):
        block = slice(start, start + step)
        distances = frame_distances(left[block], right[block])
        sizes = None if lengths is None else lengths[block]
        out[block] = align(metric, distances, lam, True, sizes)
    return out.reshape(*lead, videos, classes)


def mean_match(query: Array, prototypes: Array) -> Array:
    """1 − cosine of the time means of every pair, (..., Q, C)."""
    query_means = unit_vectors(query.mean(axis=-2))
    prototype_means = unit_vectors(prototypes.mean(axis=-2))
    distance: Array = 1.0 - query_means @ prototype_means.swapaxes(-1, -2)
    return distance.astype(query.dtype, copy=False)
