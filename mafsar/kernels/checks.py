"""The one set of checks of the matching ops, shared by every door and by the fake kernels.

They look at shapes, numbers and dtype names only, so that they serve torch tensors, numpy arrays
and fake tensors alike. Order: kind, dimensions, shape, dtype, then values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

FLOAT_KINDS = ("float16", "bfloat16", "float32", "float64")
INTEGER_KINDS = ("int8", "int16", "int32", "int64", "uint8")


def dtype_name(dtype: object) -> str:
    """Name of a torch or numpy dtype without its library: ``float32``."""
    return str(dtype).removeprefix("torch.")


def check_lam(lam: float) -> None:
    """Refuse a soft-min temperature that is not a positive finite number."""
    if not (math.isfinite(lam) and lam > 0.0):
        raise ValueError(f"lam must be finite and > 0, got {lam}")


def check_floating(name: str, dtype: object) -> None:
    """Refuse anything but the four floating dtypes."""
    if dtype_name(dtype) not in FLOAT_KINDS:
        raise TypeError(f"{name} must be one of {', '.join(FLOAT_KINDS)}, got {dtype_name(dtype)}")


def check_integer(name: str, dtype: object) -> None:
    """Refuse anything but whole numbers."""
    if dtype_name(dtype) not in INTEGER_KINDS:
        raise TypeError(f"{name} must be whole numbers, got {dtype_name(dtype)}")


def check_shape(name: str, shape: Sequence[int], expected: Sequence[int]) -> None:
    """Refuse any other shape than the expected one."""
    if tuple(shape) != tuple(expected):
        raise ValueError(f"{name} must have shape {tuple(expected)}, got {tuple(shape)}")


def check_range(name: str, smallest: int, largest: int, frames: int) -> None:
    """Refuse lengths outside 1 … frames."""
    if smallest < 1 or largest > frames:
        bad = smallest if smallest < 1 else largest
        raise ValueError(f"{name} must be between 1 and {frames} frames, got {bad}")


def check_distances(distances: Any, lengths: Any) -> None:
    """Refuse distances that are not (..., Tq, Ts), or lengths that are not (..., 2) whole numbers.

    Both are arrays of any library; only their shape and dtype are looked at.
    """
    shape = distances.shape
    if len(shape) < 2:
        raise ValueError(f"distances must have shape (..., Tq, Ts), got {tuple(shape)}")
    if shape[-1] < 1 or shape[-2] < 1:
        raise ValueError(f"distances must have Tq ≥ 1 and Ts ≥ 1, got shape {tuple(shape)}")
    check_floating("distances", distances.dtype)
    if lengths is not None:
        check_shape("lengths", lengths.shape, (*shape[:-2], 2))
        check_integer("lengths", lengths.dtype)


def check_features(query: Any, prototypes: Any, query_lengths: Any, prototype_lengths: Any) -> None:
    """Refuse features that are not (..., Q, Tq, E) and (..., C, Ts, E) with equal leading sizes.

    Lengths, where given, are whole numbers, one for each video.
    """
    both = (("query", query, query_lengths), ("prototypes", prototypes, prototype_lengths))
    for name, features, _ in both:
        shape = features.shape
        if len(shape) < 3:
            raise ValueError(f"{name} must have shape (..., videos, T, E), got {tuple(shape)}")
        if shape[-2] < 1 or shape[-1] < 1:
            raise ValueError(f"{name} must have T ≥ 1 and E ≥ 1, got shape {tuple(shape)}")
    lead, width = query.shape[:-3], query.shape[-1]
    if tuple(prototypes.shape[:-3]) != tuple(lead) or prototypes.shape[-1] != width:
        raise ValueError(
            f"prototypes must have the leading sizes {tuple(lead)} and the E = {width} of query, "
            f"got shape {tuple(prototypes.shape)}"
        )
    check_floating("query", query.dtype)
    check_floating("prototypes", prototypes.dtype)
    if prototypes.dtype != query.dtype:
        raise TypeError(
            f"prototypes must be {dtype_name(query.dtype)} as query is, "
            f"got {dtype_name(prototypes.dtype)}"
        )
    for name, features, lengths in both:
        if lengths is not None:
            name = "query_lengths" if name == "query" else "prototype_lengths"
            check_shape(name, lengths.shape, features.shape[:-2])
            check_integer(name, lengths.dtype)


def check_gradient(grad: Any, shape: Sequence[int]) -> None:
    """Refuse an incoming gradient that is not floating or not of the result's shape."""
    check_floating("grad", grad.dtype)
    check_shape("grad", grad.shape, shape)
