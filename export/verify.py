"""Whether two engines give the same features: measured, never assumed (no torch)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray


@dataclass(frozen=True)
class Parity:
    """How far two results are apart.

    Attributes:
        max_error: Largest absolute difference.
        min_cosine: Smallest cosine between rows of the last axis.
    """

    max_error: float = 0.0
    min_cosine: float = 1.0

    def worse(self, other: Parity) -> Parity:
        """The worse of both, each figure by itself."""
        return Parity(max(self.max_error, other.max_error), min(self.min_cosine, other.min_cosine))

    def __str__(self) -> str:
        return f"smallest cosine {self.min_cosine:.6f}, largest error {self.max_error:.2g}"


def compare(reference: NDArray[Any], found: NDArray[Any]) -> Parity:
    """Compares results of one shape, (…, E), in float64; NaN counts as cosine −1."""
    if reference.shape != found.shape:
        raise ValueError(f"shapes differ: {reference.shape} and {found.shape}")
    a, b = reference.astype(np.float64), found.astype(np.float64)
    norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    cosines = (a * b).sum(axis=-1) / np.maximum(norms, 1e-30)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return Parity(max_error=float("inf"), min_cosine=-1.0)
    return Parity(float(np.abs(a - b).max(initial=0)), float(cosines.min(initial=1)))


def run_graph(path: Path, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Runs a graph once on ONNX Runtime's CPU provider, outputs by name."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    session = onnxruntime.InferenceSession(
        str(path), sess_options=options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))
