"""Differences between two arrays of features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Parity:
    """How much two results differ.

    Attributes:
        max_error: Largest absolute difference.
        min_cosine: Smallest cosine between rows of the last axis.
    """

    max_error: float = 0.0
    min_cosine: float = 1.0

    def worse(self, other: Parity) -> Parity:
        """The larger error and the smaller cosine of two."""
        return Parity(max(self.max_error, other.max_error), min(self.min_cosine, other.min_cosine))

    def __str__(self) -> str:
        return f"smallest cosine {self.min_cosine:.6f}, largest error {self.max_error:.2g}"


def compare(reference: NDArray[Any], found: NDArray[Any]) -> Parity:
    """Compares two arrays of one shape, (…, E), in float64.

    Returns:
        The differences; error ∞ and cosine −1 if a number is not finite.

    Raises:
        ValueError: The shapes differ.
    """
    if reference.shape != found.shape:
        raise ValueError(f"shapes differ: {reference.shape} and {found.shape}")
    a, b = reference.astype(np.float64), found.astype(np.float64)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return Parity(max_error=float("inf"), min_cosine=-1.0)
    norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    cosines = (a * b).sum(axis=-1) / np.maximum(norms, 1e-30)
    return Parity(float(np.abs(a - b).max(initial=0)), float(cosines.min(initial=1)))
