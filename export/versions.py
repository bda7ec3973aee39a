"""Versions of the packages that made a bundle, as its manifest records them (no torch)."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from mafsar.version import __version__

# These write and check graphs. ONNX Runtime is installed under one of two names.
GRAPHS = ("numpy", "onnx", "onnxscript", "onnx-ir", "onnxruntime-gpu", "onnxruntime", "safetensors")
NETWORK = ("torch", "tokenizers")
CLIP = ("open_clip_torch",)  # carries CLIP's vocabulary and knows where its weights are


def made_by(*packages: str) -> dict[str, str]:
    """Versions of mafsar, Python and those of the packages that are installed."""
    found = {"mafsar": __version__, "python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
