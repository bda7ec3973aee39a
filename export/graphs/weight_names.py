"""Names the weights of a graph after the network's parameters (no torch)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from mafsar.model.weight_forms import weight_forms

_Key = tuple[int, bytes, bytes]  # of an array: its size, first and last values
_KEY_VALUES = 16
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
    waiting: dict[_Key, list[tuple[str, tuple[str, str], NDArray[Any]]]] = defaultdict(list)
    for name, parameter in state.items():
        for form, part, array in weight_forms(name, parameter):
            if array.ndim:
                waiting[_key(array)].append((form, (name, part), array))
    ordered = list(model.graph.initializers.values())
    taken: set[tuple[str, str]] = set()
    nameless = []
    for value in filter(_is_float, ordered):
        assert value.const_value is not None
        name = (value.name or "").removeprefix(_PREFIX)
        if name in state and _same(value.const_value.numpy(), state[name]):
            value.name = name
            taken.add((name, ""))
        elif name in state:  # the exporter folded a batch norm into a convolution
            value.name = f"{name}.folded"
        else:
            nameless.append(value)
    for value in nameless:
        assert value.const_value is not None
        array = value.const_value.numpy()
        for form, key, other in waiting[_key(array)]:
            if key not in taken and _same(array, other):
                value.name = form
                taken.add(key)
                break
    # Renaming moved tensors to the end; restore the order in which the layers use them.
    for value in ordered:
        model.graph.initializers.pop(value.name or "")
        model.graph.register_initializer(value)


def _is_float(value: ir.Value) -> bool:
    return value.const_value is not None and value.const_value.dtype is ir.DataType.FLOAT


def _key(array: NDArray[Any]) -> _Key:
    """Equal for equal arrays, and rarely for others; a reshape does not change it."""
    return array.size, array.flat[:_KEY_VALUES].tobytes(), array.flat[-_KEY_VALUES:].tobytes()


def _same(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Whether two arrays hold the same bytes in row-major order, whatever their shapes."""
    return a.nbytes == b.nbytes and a.tobytes() == b.tobytes()
