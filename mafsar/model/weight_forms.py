"""The forms in which the graphs of a bundle contain a parameter, and their names (no torch).

A graph contains each matrix as it is used: transposed, and split into the projections of q, k and v.
The exporter names every such tensor after its parameter, so that a network can be built from its
bundle without storing weights twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

QKV = ("q", "k", "v")


def weight_forms(name: str, value: Array) -> Iterator[tuple[str, str, Array]]:
    """Yields the forms in which a graph may contain a parameter.

    Args:
        name: Name of the parameter.
        value: Its value, or any array of its shape.

    Yields:
        Name in the graph (`NAME`, `NAME.q`, …, each also with `.T`), the part of the parameter
        (empty: all of it), and the array.
    """
    pieces = {"": value}
    if name.endswith(("in_proj_weight", "in_proj_bias")):
        pieces |= dict(zip(QKV, np.split(value, len(QKV)), strict=True))
    for part, piece in pieces.items():
        form = f"{name}.{part}" if part else name
        yield form, part, piece
        if piece.ndim == 2:
            yield f"{form}.T", part, piece.T


def assembled(name: str, shape: tuple[int, ...], held: dict[str, Array]) -> Array | None:
    """Assembles a parameter from the forms that graphs contain.

    Args:
        name: Name of the parameter.
        shape: Its shape.
        held: Tensors by their names in the graphs.

    Returns:
        The parameter, float32, or None if a part of it is not in the graphs.
    """
    parts: dict[str, Array] = {}
    # Strides of 0: the template costs no memory.
    for form, part, template in weight_forms(name, np.broadcast_to(np.float32(0), shape)):
        if part not in parts and form in held and held[form].size == template.size:
            piece = held[form].reshape(template.shape)
            parts[part] = piece.T if form.endswith(".T") else piece
    if "" in parts:
        return np.array(parts[""], np.float32)
    if all(part in parts for part in QKV):
        return np.concatenate([parts[part] for part in QKV]).astype(np.float32)
    return None
