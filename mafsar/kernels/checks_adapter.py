"""The checks of the temporal adapter, shared by its door and its fake kernels."""

from __future__ import annotations

import math
from typing import Any

from mafsar.kernels.checks import check_floating, dtype_name

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


def check_temporal_adapter(c: Any, weights: tuple[Any, ...], heads: int, eps: float) -> None:
    """Refuse tokens that are not (B, T, D), and weights that do not fit them."""
    shape = tuple(c.shape)
    if len(shape) != 3:
        raise ValueError(f"c must have shape (B, T, D), got {shape}")
    width = shape[-1]
    if shape[1] < 1 or width < 1:
        raise ValueError(f"c must have T ≥ 1 and D ≥ 1, got shape {shape}")
    check_floating("c", c.dtype)
    if heads < 1 or width % heads:
        raise ValueError(f"heads must divide D = {width}, got {heads}")
    if not (math.isfinite(eps) and eps >= 0.0):
        raise ValueError(f"eps must be finite and ≥ 0, got {eps}")
    down = tuple(weights[6].shape)
    if len(down) != 2 or down[0] < 1 or down[1] != width:
        raise ValueError(f"down_weight must have shape (h, {width}) with h ≥ 1, got {down}")
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
        if tuple(weight.shape) != wanted:
            raise ValueError(f"{name} must have shape {wanted}, got {tuple(weight.shape)}")
        if weight.dtype != c.dtype:
            raise TypeError(
                f"{name} must be {dtype_name(c.dtype)} as c is, got {dtype_name(weight.dtype)}"
            )
        if weight.device != c.device:
            raise RuntimeError(f"{name} must be on {c.device} as c is, got {weight.device}")
