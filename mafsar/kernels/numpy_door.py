"""The numpy door: checks once, makes arrays contiguous, calls the native module or the twin."""

from __future__ import annotations

from typing import Any

import numpy as np

from mafsar.kernels import checks, numpy_twin
from mafsar.kernels.dispatch import native
from mafsar.kernels.numpy_twin import Array


def _computing(array: Any) -> Array:
    """Contiguous float32, or float64 for float64: half precision is computed in float32."""
    dtype = np.float64 if array.dtype == np.float64 else np.float32
    return np.ascontiguousarray(array, dtype=dtype)


def _address(array: Array | None) -> int:
    """Address of the first element, 0 for None. The caller keeps the array alive."""
    return 0 if array is None else int(array.__array_interface__["data"][0])


def _lengths(name: str, lengths: Any, frames: tuple[int, ...]) -> Array:
    """Lengths as int64, each column (or all) within 1 … frames."""
    array = np.ascontiguousarray(lengths, dtype=np.int64)
    if array.size:
        columns = array.reshape(-1, len(frames))
        for column, most in zip(columns.T, frames, strict=True):
            checks.check_range(name, int(column.min()), int(column.max()), most)
    return array


def _checked_distances(distances: Any, lengths: Any) -> tuple[Array, Array | None]:
    array = np.asarray(distances)
    checks.check_distances(array.shape, array.dtype)
    if lengths is None:
        return _computing(array), None
    lengths = np.asarray(lengths)
    checks.check_pair_lengths(lengths.shape, lengths.dtype, array.shape)
    return _computing(array), _lengths("lengths", lengths, array.shape[-2:])


def otam(
    distances: Any, lam: float = 0.5, bidirectional: bool = True, lengths: Any = None
) -> Array:
    """See `mafsar.kernels.otam`."""
    array, sizes = _checked_distances(distances, lengths)
    checks.check_lam(lam)
    module = native()
    if module is None or array.dtype == np.float64:
        return numpy_twin.otam(array, lam, bidirectional, sizes)
    out = np.empty(array.shape[:-2], dtype=np.float32)
    module.otam_forward(
        _address(array),
        _address(sizes),
        out.size,
        array.shape[-2],
        array.shape[-1],
        lam,
        bidirectional,
        _address(out),
    )
    return out


def bimhm(distances: Any, lengths: Any = None) -> Array:
    """See `mafsar.kernels.bimhm`."""
    array, sizes = _checked_distances(distances, lengths)
    module = native()
    if module is None or array.dtype == np.float64:
        return numpy_twin.bimhm(array, sizes)
    out = np.empty(array.shape[:-2], dtype=np.float32)
    module.bimhm_forward(
        _address(array),
        _address(sizes),
        out.size,
        array.shape[-2],
        array.shape[-1],
        _address(out),
    )
    return out


def _checked_features(
    query: Any, prototypes: Any, query_lengths: Any = None, prototype_lengths: Any = None
) -> tuple[Array, Array, Array | None, Array | None]:
    left, right = np.asarray(query), np.asarray(prototypes)
    checks.check_features(left.shape, left.dtype, right.shape, right.dtype)
    sizes: list[Array | None] = []
    for name, lengths, features in (
        ("query_lengths", query_lengths, left),
        ("prototype_lengths", prototype_lengths, right),
    ):
        if lengths is None:
            sizes.append(None)
            continue
        lengths = np.asarray(lengths)
        checks.check_video_lengths(name, lengths.shape, lengths.dtype, features.shape)
        sizes.append(_lengths(name, lengths, features.shape[-2:-1]))
    return _computing(left), _computing(right), sizes[0], sizes[1]


def _match(
    metric: str, query: Any, prototypes: Any, lam: float, query_lengths: Any, prototype_lengths: Any
) -> Array:
    left, right, rows, columns = _checked_features(
        query, prototypes, query_lengths, prototype_lengths
    )
    checks.check_lam(lam)
    module = native()
    if module is None or left.dtype == np.float64:
        return numpy_twin.match(metric, left, right, lam, rows, columns)
    out = np.empty((*left.shape[:-2], right.shape[-3]), dtype=np.float32)
    module.match_forward(
        metric,
        _address(left),
        _address(right),
        _address(rows),
        _address(columns),
        int(np.prod(left.shape[:-3], dtype=np.int64)),
        left.shape[-3],
        right.shape[-3],
        left.shape[-2],
        right.shape[-2],
        left.shape[-1],
        lam,
        _address(out),
    )
    return out


def otam_match(
    query: Any,
    prototypes: Any,
    lam: float = 0.5,
    query_lengths: Any = None,
    prototype_lengths: Any = None,
) -> Array:
    """See `mafsar.kernels.otam_match`."""
    return _match("otam", query, prototypes, lam, query_lengths, prototype_lengths)


def bimhm_match(
    query: Any, prototypes: Any, query_lengths: Any = None, prototype_lengths: Any = None
) -> Array:
    """See `mafsar.kernels.bimhm_match`."""
    return _match("bimhm", query, prototypes, 1.0, query_lengths, prototype_lengths)


def mean_match(query: Any, prototypes: Any) -> Array:
    """See `mafsar.kernels.mean_match`."""
    left, right, _, _ = _checked_features(query, prototypes)
    return numpy_twin.mean_match(left, right)


def frame_distances(query: Any, prototypes: Any) -> Array:
    """See `mafsar.kernels.frame_distances`."""
    left, right, _, _ = _checked_features(query, prototypes)
    return numpy_twin.frame_distances(left, right)


def otam_alignment(distances: Any, lam: float = 0.5) -> Array:
    """See `mafsar.kernels.otam_alignment`."""
    array, _ = _checked_distances(distances, None)
    checks.check_lam(lam)
    module = native()
    if module is None or array.dtype == np.float64:
        return numpy_twin.otam_gradient(array, lam)
    ones = np.ones(array.shape[:-2], dtype=np.float32)
    out = np.empty_like(array)
    module.otam_backward(
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
    return out
