"""Rewrites a float32 graph as an FP16 graph, with the precision in the graph's types (no torch).

Matrix products and convolutions read half-precision inputs and weights. Everything that sums many
terms or divides stays float32: LayerNorm (one operator, float32 weights, its result cast to half),
softmax, the residual stream, means. Inputs and outputs keep their types. TensorRT builds such a
graph strongly typed; it refuses a LayerNorm of a half-precision input with float32 scales.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir

from mafsar.errors import MismatchError, option
from mafsar.export.graphs.weight_store import WeightStore
from mafsar.model.names import graph_file, weights_file

_HALF, _FLOAT = ir.DataType.FLOAT16, ir.DataType.FLOAT
_PRODUCTS = {"MatMul", "Gemm"}
# Operators whose result has the type of their input.
_FOLLOWERS = {
    "AveragePool", "Clip", "Erf", "Expand", "Flatten", "Gather", "Gelu", "Identity", "Neg", "Pad",
    "Relu", "Reshape", "Sigmoid", "Slice", "SpaceToDepth", "Squeeze", "Tanh", "Transpose",
    "Unsqueeze",
}  # fmt: skip
_ELEMENTWISE = {"Add", "Div", "Mul", "Sub"}
_FLOAT_ISLANDS = {"LayerNormalization", "Softmax", "ReduceMean", "ReduceSum", "Sqrt", "Pow"}
_LARGEST_HALF = float(np.finfo(np.float16).max)


def write_half_graphs(source: Path, branches: tuple[str, ...], folder: Path) -> list[str]:
    """Writes the FP16 graphs of a bundle and the weights file that they share.

    Args:
        source: A folder with the float32 graphs.
        branches: The visual branches.
        folder: Where to write the files.

    Returns:
        Names of the files written.

    Raises:
        MismatchError: A weight does not fit into half precision.
    """
    names = [weights_file("fp16")]
    with WeightStore(folder, "fp16") as store:
        for branch in branches:
            model = to_half(ir.load(source / graph_file(branch)))
            names.append(store.write(model, graph_file(branch, "fp16")).name)
    return names


def to_half(model: ir.Model) -> ir.Model:
    """Rewrites a float32 graph as an FP16 graph, in place.

    Args:
        model: Contains the operators that the exporter writes, in topological order.

    Returns:
        `model`.

    Raises:
        MismatchError: A weight exceeds the largest half-precision number, 65504.
    """
    rewrite = _Rewrite(model.graph)
    for node in list(model.graph):
        rewrite.node(node)
    rewrite.outputs()
    rewrite.tidy()
    return model


class _Rewrite:
    """One pass over a graph, which tracks the float type of every value so far."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._types: dict[ir.Value, ir.DataType] = {}
        self._casts: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}
        self._halves: dict[ir.Value, ir.Value] = {}
        for value in graph.inputs:
            if value.dtype is not None:
                self._types[value] = value.dtype

    def node(self, node: ir.Node) -> None:
        """Sets the types of a node's inputs and outputs by its operator."""
        kind = node.op_type
        if kind == "Cast":
            self._types[node.outputs[0]] = ir.DataType(node.attributes["to"].as_int())
        elif kind in _PRODUCTS:
            self._set_inputs(node, _HALF)
        elif kind == "Conv":
            self._set_inputs(node, _HALF)
            (maps,) = node.outputs
            uses = list(maps.uses())
            if all(user.op_type in ("Clip", "Relu") for user, _ in uses):
                return  # the next convolution reads it in half precision
            # Patches start the residual stream and a bottleneck's result joins it, in float32.
            cast = self._cast(maps, _FLOAT, after=node)
            for user, index in uses:
                user.replace_input_with(index, cast)
        elif kind in _FLOAT_ISLANDS:
            self._set_inputs(node, _FLOAT)
        elif kind in _ELEMENTWISE:
            self._set_inputs(node, self._elementwise(node))
        elif kind in _FOLLOWERS or kind == "Concat":
            found = {self._type(value) for value in node.inputs if self._is_computed(value)} - {
                None
            }
            if found:
                self._set_inputs(node, _HALF if found == {_HALF} else _FLOAT)

    def outputs(self) -> None:
        """Casts outputs of the graph that became half precision back to float32."""
        for index, value in enumerate(self._graph.outputs):
            if self._types.get(value) is _HALF:
                cast = self._cast(value, _FLOAT, after=value.producer())
                cast.name, value.name = value.name, f"{value.name}_half"
                cast.shape, cast.type = value.shape, value.type
                value.type = ir.TensorType(_HALF)
                self._graph.outputs[index] = cast

    def _elementwise(self, node: ir.Node) -> ir.DataType:
        """Type of an elementwise node: half where its inputs are, except for residual sums.

        A sum of two computed values is one of the residual stream, which stays float32.
        """
        computed = [value for value in node.inputs if self._is_computed(value)]
        found = {self._type(value) for value in computed} - {None}
        if found != {_HALF}:
            return _FLOAT
        return _FLOAT if len(computed) > 1 and node.op_type in ("Add", "Sub") else _HALF

    def _set_inputs(self, node: ir.Node, dtype: ir.DataType) -> None:
        for index, value in enumerate(node.inputs):
            if value is None or self._type(value) in (None, dtype):
                continue
            if self._is_computed(value):
                key = (value, dtype)
                if key not in self._casts:
                    self._casts[key] = self._cast(value, dtype, after=value.producer())
                node.replace_input_with(index, self._casts[key])
            elif dtype is _HALF:
                node.replace_input_with(index, self._half(value))
        if any(self._type(value) is not None for value in node.inputs):
            for out in node.outputs:
                self._types[out] = dtype

    def _is_computed(self, value: ir.Value | None) -> bool:
        return value is not None and value.const_value is None

    def _type(self, value: ir.Value | None) -> ir.DataType | None:
        """The float type of a value; None for integers and for an absent input."""
        if value is None:
            return None
        if value.const_value is not None:
            found: ir.DataType | None = value.const_value.dtype
        else:
            found = self._types.get(value)
        return found if found in (_HALF, _FLOAT) else None

    def _cast(self, value: ir.Value, dtype: ir.DataType, *, after: ir.Node | None) -> ir.Value:
        node = ir.node("Cast", [value], {"to": int(dtype)})
        node.outputs[0].name = f"{value.name}_{'half' if dtype is _HALF else 'float'}"
        if after is None:
            self._graph.insert_before(self._graph[0], node)
        else:
            self._graph.insert_after(after, node)
        self._types[node.outputs[0]] = dtype
        return node.outputs[0]

    def _half(self, value: ir.Value) -> ir.Value:
        """A half-precision copy of a constant."""
        if value not in self._halves:
            assert value.const_value is not None
            array = value.const_value.numpy()
            if np.abs(array).max(initial=0) > _LARGEST_HALF:
                raise MismatchError(
                    f"{self._graph.name}: weight {value.name} is beyond half precision "
                    f"(largest {np.abs(array).max():.3g}); use ",
                    option(precision="fp32"),
                )
            name = f"{value.name}_half"
            twin = ir.Value(name=name, const_value=ir.tensor(array.astype(np.float16), name=name))
            self._graph.register_initializer(twin)
            self._halves[value] = twin
        return self._halves[value]

    def tidy(self) -> None:
        """Removes constants that no node reads any more."""
        for name, value in list(self._graph.initializers.items()):
            if not value.uses():
                del self._graph.initializers[name]
