"""Windows of an archive, kept as float16, against prototypes: views, products and alignment in one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mafsar.errors import ArgumentTypeError, InputError
from mafsar.kernels import checks
from mafsar.kernels.dispatch import native

_MOST_FRAMES = 64
_NATIVE_METRICS = ("otam", "bimhm")


@dataclass(frozen=True, eq=False)
class WindowViews:
    """What of a window's features is matched (docs/method.md, "Views").

    Attributes:
        mean: μ, (E,).
        floor: ε, the least norm that the change is divided by.
        weight: w, the weight of the change view, 0–1.
    """

    mean: npt.NDArray[np.float32]
    floor: float
    weight: float


def can_match_windows(metric: str, frames: int) -> bool:
    """Whether the native module matches windows of so many frames by a metric."""
    module = native()
    return (
        metric in _NATIVE_METRICS
        and frames <= _MOST_FRAMES
        and module is not None
        and hasattr(module, "windows_forward")
    )


def match_windows(
    metric: str,
    windows: npt.NDArray[np.float16],
    prototypes: npt.NDArray[np.float32],
    lam: float,
    views: WindowViews | None = None,
) -> npt.NDArray[np.float32]:
    """The metric between every window and every prototype; only where `can_match_windows`.

    Args:
        metric: "otam" or "bimhm".
        windows: Raw features, (n, T, E), float16; a mapped file is read in place.
        prototypes: What is matched of the classes, (C, S, 2E), or (C, S, E) without views.
        lam: Temperature λ of OTAM, > 0.
        views: What is matched of the windows; None = their features.

    Returns:
        Distances, (n, C); smaller is nearer.

    Raises:
        ArgumentTypeError: The windows are not float16.
        InputError: The shapes do not fit, or a distance is not finite.
    """
    if windows.dtype != np.float16:
        raise ArgumentTypeError(f"windows must be float16, got {windows.dtype}")
    count, frames, width = windows.shape
    classes, columns, depth = prototypes.shape
    if depth != width * (1 if views is None else 2) or 0 in (frames, columns, width):
        raise InputError(
            f"prototypes {prototypes.shape} do not fit windows {windows.shape}"
            f"{'' if views is None else ' by views'}"
        )
    checks.check_lam(lam)
    halves = np.ascontiguousarray(windows)
    against = np.ascontiguousarray(prototypes, np.float32)
    mean = None if views is None else np.ascontiguousarray(views.mean, np.float32)
    if mean is not None and mean.shape != (width,):
        raise InputError(f"mean has shape {mean.shape}, not ({width},)")
    weight = 0.0 if views is None else views.weight
    out = np.empty((count, classes), np.float32)
    native().windows_forward(
        metric,
        _address(halves),
        _address(against),
        0 if mean is None else _address(mean),
        0.0 if views is None else views.floor,
        math.sqrt(1.0 - weight),
        math.sqrt(weight),
        count,
        classes,
        frames,
        columns,
        width,
        lam,
        _address(out),
    )
    if not np.isfinite(out).all():
        raise InputError("windows and prototypes must be finite; got values that are not")
    return out


def _address(array: npt.NDArray[Any]) -> int:
    return int(array.__array_interface__["data"][0])
