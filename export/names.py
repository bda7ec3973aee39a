"""File names inside a bundle (neither torch nor onnx)."""

from __future__ import annotations


def weights_file(precision: str) -> str:
    """File name of the weights that the graphs of a precision share."""
    return f"weights-{precision}.bin"


def graph_file(branch: str, precision: str = "fp32") -> str:
    """File name of a graph in a bundle; the text tower runs once a class and has one precision."""
    return "text.onnx" if branch == "text" else f"{branch}-{precision}.onnx"
