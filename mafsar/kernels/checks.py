"""The one set of checks of the matching ops, shared by every door and by the fake kernels.

They look at shapes, numbers and dtype names only, so that they serve torch tensors, numpy arrays
and fake tensors alike. Order: kind, dimensions, shape, dtype, then values.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

FLOAT_KINDS = ("float16", "bfloat16", "float32", "float64")
INTEGER_KINDS = ("int8", "int16", "int32", "int64", "uint8")


@functools.cache
def dtype_name(dtype: object) -> str:
    """Name of a torch or numpy dtype without its library: ``float32``."""
    # Cached: the name of a dtype takes longer to write than a small alignment.
    return str(dtype).removeprefix("torch.")


def check_lam(lam: float) -> None:
    """Refuse a soft-min temperature that is not a positive finite number."""
    if not (math.isfinite(lam) and lam > 0.0):
        raise ValueError(f"lam must be finite and > 0, got {lam}")


def check_floating(name: str, dtype: object) -> None:
    """Refuse anything but the four floating dtypes."""
    if dtype_name(dtype) not in FLOAT_KINDS:
        raise TypeError(f"{name} must be one of {', '.join(FLOAT_KINDS)}, got {dtype_name(dtype)}")


def check_distances(shape: Sequence[int], dtype: object) -> None:
    """Refuse distances that are not (..., Tq, Ts) with at least one frame on each side."""
    if len(shape) < 2:
        raise ValueError(f"distances must have shape (..., Tq, Ts), got {tuple(shape)}")
    if shape[-1] < 1 or shape[-2] < 1:
        raise ValueError(f"distances must have Tq ≥ 1 and Ts ≥ 1, got shape {tuple(shape)}")
    check_floating("distances", dtype)


def check_pair_lengths(shape: Sequence[int], dtype: object, distances_shape: Sequence[int]) -> None:
    """Refuse lengths that are not whole numbers of shape (..., 2), one (tq, ts) for each pair."""
    expected = (*distances_shape[:-2], 2)
    if tuple(shape) != tuple(expected):
        raise ValueError(f"lengths must have shape {tuple(expected)}, got {tuple(shape)}")
    check_integer("lengths", dtype)


def check_integer(name: str, dtype: object) -> None:
    """Refuse anything but whole numbers."""
    if dtype_name(dtype) not in INTEGER_KINDS:
        raise TypeError(f"{name} must be whole numbers, got {dtype_name(dtype)}")


def check_range(name: str, smallest: int, largest: int, frames: int) -> None:
    """Refuse lengths outside 1 … frames."""
    if smallest < 1 or largest > frames:
        bad = smallest if smallest < 1 else largest
        raise ValueError(f"{name} must be between 1 and {frames} frames, got {bad}")


def check_features(
    query_shape: Sequence[int],
    query_dtype: object,
    prototypes_shape: Sequence[int],
    prototypes_dtype: object,
) -> None:
    """Refuse features that are not (..., Q, Tq, E) and (..., C, Ts, E) with equal leading sizes."""
    for name, shape in (("query", query_shape), ("prototypes", prototypes_shape)):
        if len(shape) < 3:
            raise ValueError(f"{name} must have shape (..., videos, T, E), got {tuple(shape)}")
        if shape[-2] < 1 or shape[-1] < 1:
            raise ValueError(f"{name} must have T ≥ 1 and E ≥ 1, got shape {tuple(shape)}")
    if tuple(prototypes_shape[:-3]) != tuple(query_shape[:-3]):
        raise ValueError(
            f"prototypes must have the leading sizes {tuple(query_shape[:-3])} of query, "
            f"got shape {tuple(prototypes_shape)}"
        )
    if prototypes_shape[-1] != query_shape[-1]:
        raise ValueError(
            f"prototypes must have E = {query_shape[-1]} as query has, "
            f"got shape {tuple(prototypes_shape)}"
        )
    check_floating("query", query_dtype)
    check_floating("prototypes", prototypes_dtype)
    if dtype_name(prototypes_dtype) != dtype_name(query_dtype):
        raise TypeError(
            f"prototypes must be {dtype_name(query_dtype)} as query is, "
            f"got {dtype_name(prototypes_dtype)}"
        )


def check_video_lengths(
    name: str, shape: Sequence[int], dtype: object, features_shape: Sequence[int]
) -> None:
    """Refuse lengths that are not whole numbers, one for each video."""
    expected = tuple(features_shape[:-2])
    if tuple(shape) != expected:
        raise ValueError(f"{name} must have shape {expected}, got {tuple(shape)}")
    check_integer(name, dtype)
