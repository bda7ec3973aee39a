"""The checks of every op, shared by the numpy and torch entry points and by the fake kernels.

The checks read only shapes, dtype names and devices, so they serve torch tensors, numpy arrays and
fake tensors alike. Order: type, dimensions, shape, dtype, device, then values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

from mafsar.choices import check_choice, is_finite
from mafsar.errors import ArgumentTypeError, InputError, MismatchError, shown

FLOAT_KINDS = ("float16", "bfloat16", "float32", "float64")
INTEGER_KINDS = ("int8", "int16", "int32", "int64", "uint8")

AlignmentMetric = Literal["otam", "bimhm"]
"""The metrics that compare frame by frame. `Metric` has "mean" too, which needs no alignment."""

ALIGNMENT_METRICS: tuple[AlignmentMetric, ...] = get_args(AlignmentMetric)

# The adapter's weights in the order of its arguments.
WEIGHTS = (
    "norm_weight",
    "norm_bias",
    "qkv_weight",
    "qkv_bias",
    "out_weight",
    "out_bias",
    "down_weight",
    "down_bias",
    "up_weight",
    "up_bias",
)


def dtype_name(dtype: object) -> str:
    """Name of a torch or numpy dtype without its library: ``float32``."""
    return str(dtype).removeprefix("torch.")


def check_metric(metric: object) -> None:
    """Refuse a metric that has no alignment kernel."""
    if metric not in ALIGNMENT_METRICS:
        check_choice("metric", metric, ALIGNMENT_METRICS)


def check_lam(lam: float) -> None:
    """Refuse a soft-min temperature that is not a positive finite number."""
    if not (is_finite(lam) and lam > 0.0):
        raise InputError(f"lam must be finite and > 0, got {shown(lam)[:60]}")


def check_floating(name: str, dtype: object) -> None:
    """Refuse every dtype but the four floating ones."""
    if dtype_name(dtype) not in FLOAT_KINDS:
        raise ArgumentTypeError(
            f"{name} must be one of {', '.join(FLOAT_KINDS)}, got {dtype_name(dtype)}"
        )


def check_integer(name: str, dtype: object) -> None:
    """Refuse every dtype but the integer ones."""
    if dtype_name(dtype) not in INTEGER_KINDS:
        raise ArgumentTypeError(f"{name} must be whole numbers, got {dtype_name(dtype)}")


def check_shape(name: str, shape: Sequence[int], expected: Sequence[int]) -> None:
    """Refuse every shape but the expected one."""
    if tuple(shape) != tuple(expected):
        raise InputError(f"{name} must have shape {tuple(expected)}, got {tuple(shape)}")


def check_range(name: str, smallest: int, largest: int, frames: int) -> None:
    """Refuse lengths outside 1 … frames."""
    if smallest < 1 or largest > frames:
        bad = smallest if smallest < 1 else largest
        raise InputError(f"{name} must be between 1 and {frames} frames, got {bad}")


def check_distances(distances: Any, lengths: Any) -> None:
    """Refuse distances that are not (..., Tq, Ts), or lengths that are not (..., 2) whole numbers.

    Both are arrays of any library; only their shape and dtype are read.
    """
    shape = distances.shape
    if len(shape) < 2:
        raise InputError(f"distances must have shape (..., Tq, Ts), got {tuple(shape)}")
    if shape[-1] < 1 or shape[-2] < 1:
        raise InputError(f"distances must have Tq ≥ 1 and Ts ≥ 1, got shape {tuple(shape)}")
    check_floating("distances", distances.dtype)
    if lengths is not None:
        check_shape("lengths", lengths.shape, (*shape[:-2], 2))
        check_integer("lengths", lengths.dtype)


def check_features(query: Any, prototypes: Any, query_lengths: Any, prototype_lengths: Any) -> None:
    """Refuse features that are not (..., Q, Tq, E) and (..., C, Ts, E) with equal leading sizes.

    Where lengths are given, they are whole numbers, one for each video.
    """
    both = (("query", query, query_lengths), ("prototypes", prototypes, prototype_lengths))
    for name, features, _ in both:
        shape = features.shape
        if len(shape) < 3:
            raise InputError(f"{name} must have shape (..., videos, T, E), got {tuple(shape)}")
        if shape[-2] < 1 or shape[-1] < 1:
            raise InputError(f"{name} must have T ≥ 1 and E ≥ 1, got shape {tuple(shape)}")
    lead, width = query.shape[:-3], query.shape[-1]
    if tuple(prototypes.shape[:-3]) != tuple(lead) or prototypes.shape[-1] != width:
        raise InputError(
            f"prototypes must have the leading sizes {tuple(lead)} and the E = {width} of query, "
            f"got shape {tuple(prototypes.shape)}"
        )
    check_floating("query", query.dtype)
    check_floating("prototypes", prototypes.dtype)
    if prototypes.dtype != query.dtype:
        raise ArgumentTypeError(
            f"prototypes must be {dtype_name(query.dtype)} as query is, "
            f"got {dtype_name(prototypes.dtype)}"
        )
    for name, features, lengths in both:
        if lengths is not None:
            name = "query_lengths" if name == "query" else "prototype_lengths"
            check_shape(name, lengths.shape, features.shape[:-2])
            check_integer(name, lengths.dtype)


def check_tensor_features(
    query: Any, prototypes: Any, query_lengths: Any, prototype_lengths: Any
) -> None:
    """`check_features` for torch tensors, which must also be on one device."""
    check_features(query, prototypes, query_lengths, prototype_lengths)
    if prototypes.device != query.device:
        raise MismatchError(
            f"prototypes must be on {query.device} as query is, got {prototypes.device}"
        )


def check_gradient(grad: Any, shape: Sequence[int]) -> None:
    """Refuse an incoming gradient that is not floating or not of the result's shape."""
    check_floating("grad", grad.dtype)
    check_shape("grad", grad.shape, shape)


def check_temporal_adapter(c: Any, weights: tuple[Any, ...], heads: int, eps: float) -> None:
    """Refuse tokens that are not (B, T, D), and weights that do not fit them."""
    shape = tuple(c.shape)
    if len(shape) != 3:
        raise InputError(f"c must have shape (B, T, D), got {shape}")
    width = shape[-1]
    if shape[1] < 1 or width < 1:
        raise InputError(f"c must have T ≥ 1 and D ≥ 1, got shape {shape}")
    check_floating("c", c.dtype)
    if heads < 1 or width % heads:
        raise InputError(f"heads must divide D = {width}, got {heads}")
    if not (is_finite(eps) and eps >= 0.0):
        raise InputError(f"eps must be finite and ≥ 0, got {eps}")
    down = tuple(weights[6].shape)
    if len(down) != 2 or down[0] < 1 or down[1] != width:
        raise InputError(f"down_weight must have shape (h, {width}) with h ≥ 1, got {down}")
    hidden = down[0]
    expected: tuple[tuple[int, ...], ...] = (
        *((width,), (width,), (3 * width, width), (3 * width,), (width, width), (width,)),
        *((hidden, width), (hidden,), (width, hidden), (width,)),
    )
    fits = (c.dtype, c.device)
    if all(
        w.shape == wanted and (w.dtype, w.device) == fits
        for w, wanted in zip(weights, expected, strict=True)
    ):
        return
    for name, weight, wanted in zip(WEIGHTS, weights, expected, strict=True):
        check_shape(name, weight.shape, wanted)
        if weight.dtype != c.dtype:
            raise ArgumentTypeError(
                f"{name} must be {dtype_name(c.dtype)} as c is, got {dtype_name(weight.dtype)}"
            )
        if weight.device != c.device:
            raise MismatchError(f"{name} must be on {c.device} as c is, got {weight.device}")
