"""The versions of what made a bundle, as its manifest keeps them (no torch)."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import mafsar
from mafsar.export.verify.compare import LARGEST_DROP, LIMITS

# What writes and checks graphs; `onnxruntime` goes by the name of the package that is installed.
GRAPHS = ("numpy", "onnx", "onnxscript", "onnx-ir", "onnxruntime-gpu", "onnxruntime", "safetensors")
NETWORK = ("torch", "tokenizers")
CLIP = ("open_clip_torch",)  # its vocabulary, and the weights of its tags


def made_by(*packages: str) -> dict[str, str]:
    """Versions of this package, of Python and of those packages that are installed."""
    found = {"mafsar": mafsar.__version__, "python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def thresholds() -> dict[str, Any]:
    """What a bundle's answers and artefacts are held to: `bundle.json`'s `thresholds`.

    Returns:
        `p_none`: above it a match answers none; None, because a bank's own clips calibrate it.
        `min_cosine`: of an artefact to its reference, by precision. `accuracy_drop`: points.
    """
    return {"p_none": None, "min_cosine": dict(LIMITS), "accuracy_drop": LARGEST_DROP}
