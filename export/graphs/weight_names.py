"""Names the weights of a graph after the network's parameters (no torch)."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from mafsar.model.weight_forms import weight_forms

_PREFIX = "network."  # the attribute of the traced module that holds the network


def name_weights(model: ir.Model, state: Mapping[str, NDArray[Any]]) -> None:
    """Renames the float tensors of a graph after the parameters whose bytes they hold.

    Constant folding leaves slices and transposes of parameters with numbers for names. They are
    found by value, because the exporter does not document which number a parameter gets. Where
    several parameters are equal, any assignment is right.

    Args:
        model: With folded constants; changed in place.
        state: The network's parameters by name, float32.
    """
    waiting: dict[str, list[tuple[str, tuple[str, str]]]] = defaultdict(list)
    for name, parameter in state.items():
        for form, part, array in weight_forms(name, parameter):
            if array.ndim:
                waiting[_digest(array)].append((form, (name, part)))
    ordered = list(model.graph.initializers.values())
    taken: set[tuple[str, str]] = set()
    nameless = []
    for value in filter(_is_float, ordered):
        assert value.const_value is not None
        name = (value.name or "").removeprefix(_PREFIX)
        if name in state and _digest(value.const_value.numpy()) == _digest(state[name]):
            value.name = name
            taken.add((name, ""))
        elif name in state:  # the exporter folded a batch norm into a convolution
            value.name = f"{name}.folded"
        else:
            nameless.append(value)
    for value in nameless:
        assert value.const_value is not None
        forms = waiting[_digest(value.const_value.numpy())]
        free = [(form, key) for form, key in forms if key not in taken]
        if free:
            value.name = free[0][0]
            taken.add(free[0][1])
    # Renaming moved tensors to the end; restore the order in which the layers use them.
    for value in ordered:
        model.graph.initializers.pop(value.name or "")
        model.graph.register_initializer(value)


def _is_float(value: ir.Value) -> bool:
    return value.const_value is not None and value.const_value.dtype is ir.DataType.FLOAT


def _digest(array: NDArray[Any]) -> str:
    """Hash of the bytes alone: an added axis of length 1 does not change it."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
