"""The ops on numpy arrays: check, make contiguous, then call the native module or the twin."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mafsar.errors import InputError
from mafsar.kernels import checks, numpy_reference
from mafsar.kernels.checks import AlignmentMetric
from mafsar.kernels.dispatch import native
from mafsar.kernels.numpy_reference import Array


def _computing(array: Any) -> Array:
    """Contiguous float32, or float64 for float64. Half precision is computed in float32."""
    dtype = np.float64 if array.dtype == np.float64 else np.float32
    return np.ascontiguousarray(array, dtype=dtype)


def _address(array: Array | None) -> int:
    """Address of the first element, 0 for None. The caller keeps the array in a local variable."""
    return 0 if array is None else int(array.__array_interface__["data"][0])


def _lengths(name: str, lengths: Any, frames: tuple[int, ...]) -> Array:
    """Lengths as int64, checked to be within 1 … frames, column by column."""
    array = np.ascontiguousarray(lengths, dtype=np.int64)
    if array.size:
        columns = array.reshape(-1, len(frames))
        for column, most in zip(columns.T, frames, strict=True):
            checks.check_range(name, int(column.min()), int(column.max()), most)
    return array


def _as_lengths(lengths: Any) -> Any:
    return None if lengths is None else np.asarray(lengths)


def _checked_distances(distances: Any, lengths: Any) -> tuple[Array, Array | None]:
    array, sizes = np.asarray(distances), _as_lengths(lengths)
    checks.check_distances(array, sizes)
    if sizes is not None:
        sizes = _lengths("lengths", sizes, array.shape[-2:])
    return _computing(array), sizes


def align(
    metric: AlignmentMetric, distances: Any, lam: float, bidirectional: bool, lengths: Any
) -> Array:
    """The cost of every pair in the named metric; arguments as of `mafsar.kernels.otam`."""
    checks.check_metric(metric)
    array, sizes = _checked_distances(distances, lengths)
    checks.check_lam(lam)
    module = native()
    if module is None or array.dtype == np.float64:
        with np.errstate(over="ignore", invalid="ignore"):
            costs = numpy_reference.align(metric, array, lam, bidirectional, sizes)
        return _finite(costs, "distances")
    out = np.empty(array.shape[:-2], dtype=np.float32)
    module.align_forward(
        metric,
        _address(array),
        _address(sizes),
        out.size,
        array.shape[-2],
        array.shape[-1],
        lam,
        bidirectional,
        _address(out),
    )
    return _finite(out, "distances")


def _finite(costs: Array, name: str) -> Array:
    """Refuses costs that are no numbers: looked at here because they are fewer than what gave them.

    Raises:
        InputError: An input is not finite, or so large that a sum over its frames is not.
    """
    if not np.isfinite(costs).all():
        raise InputError(
            f"{name} must be finite, and so must their sums over a clip's frames in "
            f"{costs.dtype}; got values that give NaN or infinity"
        )
    return costs


def otam(
    distances: Any, lam: float = 0.5, bidirectional: bool = True, lengths: Any = None
) -> Array:
    """See `mafsar.kernels.otam`."""
    return align("otam", distances, lam, bidirectional, lengths)


def bimhm(distances: Any, lengths: Any = None) -> Array:
    """See `mafsar.kernels.bimhm`."""
    return align("bimhm", distances, 1.0, True, lengths)


def _checked_features(
    query: Any, prototypes: Any, query_lengths: Any = None, prototype_lengths: Any = None
) -> tuple[Array, Array, Array | None, Array | None]:
    left, right = np.asarray(query), np.asarray(prototypes)
    rows, columns = _as_lengths(query_lengths), _as_lengths(prototype_lengths)
    checks.check_features(left, right, rows, columns)
    if rows is not None:
        rows = _lengths("query_lengths", rows, left.shape[-2:-1])
    if columns is not None:
        columns = _lengths("prototype_lengths", columns, right.shape[-2:-1])
    return _computing(left), _computing(right), rows, columns


def match(
    metric: AlignmentMetric,
    query: Any,
    prototypes: Any,
    lam: float,
    query_lengths: Any,
    prototype_lengths: Any,
) -> Array:
    """The cost of every query to every prototype in the named metric; see `otam_match`."""
    checks.check_metric(metric)
    left, right, rows, columns = _checked_features(
        query, prototypes, query_lengths, prototype_lengths
    )
    checks.check_lam(lam)
    module = native()
    if module is None or left.dtype == np.float64:
        with np.errstate(over="ignore", invalid="ignore"):
            costs = numpy_reference.match(metric, left, right, lam, rows, columns)
        return _finite(costs, "query and prototypes")
    *lead, videos, frames, width = left.shape
    out = np.empty((*lead, videos, right.shape[-3]), dtype=np.float32)
    module.match_forward(
        metric,
        _address(left),
        _address(right),
        _address(rows),
        _address(columns),
        math.prod(lead),
        videos,
        right.shape[-3],
        frames,
        right.shape[-2],
        width,
        lam,
        _address(out),
    )
    return _finite(out, "query and prototypes")


def otam_match(
    query: Any,
    prototypes: Any,
    lam: float = 0.5,
    query_lengths: Any = None,
    prototype_lengths: Any = None,
) -> Array:
    """See `mafsar.kernels.otam_match`."""
    return match("otam", query, prototypes, lam, query_lengths, prototype_lengths)


def bimhm_match(
    query: Any, prototypes: Any, query_lengths: Any = None, prototype_lengths: Any = None
) -> Array:
    """See `mafsar.kernels.bimhm_match`."""
    return match("bimhm", query, prototypes, 1.0, query_lengths, prototype_lengths)


def mean_match(query: Any, prototypes: Any) -> Array:
    """See `mafsar.kernels.mean_match`."""
    left, right, _, _ = _checked_features(query, prototypes)
    with np.errstate(over="ignore", invalid="ignore"):
        costs = numpy_reference.mean_match(left, right)
    return _finite(costs, "query and prototypes")


def frame_distances(query: Any, prototypes: Any) -> Array:
    """See `mafsar.kernels.frame_distances`."""
    left, right, _, _ = _checked_features(query, prototypes)
    with np.errstate(over="ignore", invalid="ignore"):
        distances = numpy_reference.frame_distances(left, right)
    return _finite(distances, "query and prototypes")


def otam_alignment(distances: Any, lam: float = 0.5) -> Array:
    """See `mafsar.kernels.otam_alignment`."""
    array, _ = _checked_distances(distances, None)
    checks.check_lam(lam)
    module = native()
    if module is None or array.dtype == np.float64:
        with np.errstate(over="ignore", invalid="ignore"):
            return _finite(numpy_reference.otam_gradient(array, lam), "distances")
    ones = np.ones(array.shape[:-2], dtype=np.float32)
    out = np.empty_like(array)
    module.align_backward(
        "otam",
        _address(ones),
        _address(array),
        0,
        ones.size,
        array.shape[-2],
        array.shape[-1],
        lam,
        True,
        _address(out),
    )
    return _finite(out, "distances")
