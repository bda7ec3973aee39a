"""Rewrites a float32 graph as an int8 graph for CPUs: static, QDQ, per channel (no torch).

Every product of a weight and a computed value, in the towers and the adapters, reads uint8
activations and int8 weights. ONNX Runtime fuses a product with the nodes around it only in certain
forms; any other form runs slower than float32:

- A linear layer is written as a Gemm of rank 2 with an int32 bias, which becomes a QGemm with a
  float result. A MatMul followed by an Add would become a float Gemm, or a separate pass for the
  bias.
- A convolution becomes a QLinearConv only where its result is quantised too. A convolutional stem
  therefore stays in uint8 from its first convolution to its last; the ranges absorb its ReLUs.

LayerNorm, softmax, attention's own products, GELU, the residual stream and the prototype module
after the towers stay float32. Weights have 7 bits: a CPU without VNNI adds two products in 16 bits,
and 2 × 255 × 64 still fits, so the graph gives the same answers on every CPU.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from mafsar.export.graphs.int8_ranges import ValueRange
from mafsar.export.graphs.weight_store import WeightStore
from mafsar.model.names import graph_file, weights_file

LARGEST_WEIGHT = 64  # of 7 bits, see above
_LEAST_SCALE = 1e-4  # of the largest channel's: a channel of zeros still needs a scale for its bias
# Prefixes of the parameters that become int8. A photo embedding is left out: its convolutions do not
# pass verification in int8.
_PARTS = ("visual.", "adapters.")


@dataclass(frozen=True)
class Product:
    """One product of a weight and an activation that int8 can compute.

    Attributes:
        node: A MatMul or a Conv.
        last: The node that gives the result: the Add of the bias, a ReLU, or `node` itself.
        weight: Name of the weight, which is that of the network's parameter.
        activation: Name of the value that the weight is multiplied with.
        result: Name of the result.
    """

    node: ir.Node
    last: ir.Node
    weight: str
    activation: str
    result: str


def products(graph: ir.Graph) -> list[Product]:
    """The products that int8 can compute, in the graph's order."""
    found = []
    for node in graph:
        if node.op_type not in ("MatMul", "Conv"):
            continue
        activation, weight = _operands(node)
        if weight.const_value is None or not _name(weight).startswith(_PARTS):
            continue
        last = _follower(node)
        result = last.outputs[0]
        if not any(result is value for value in graph.outputs):
            found.append(Product(node, last, _name(weight), _name(activation), _name(result)))
    return found


def values_to_measure(graph: ir.Graph) -> dict[str, int]:
    """Names of the values that become uint8, and the axis of their channels."""
    axes = {}
    for product in products(graph):
        axis = 1 if product.node.op_type == "Conv" else -1
        axes[product.activation] = axis
        if product.node.op_type == "Conv":
            axes[product.result] = axis
    return axes


def write_int8_graphs(
    source: Path,
    ranges: Mapping[str, Mapping[str, ValueRange]],
    folder: Path,
    keep: Collection[str] = (),
) -> list[str]:
    """Writes the int8 graphs of a bundle and the weights file that they share.

    Args:
        source: A folder with the float32 graphs.
        ranges: By branch, the ranges that calibration found for `values_to_measure`.
        folder: Where to write the files.
        keep: Weights whose products stay float32.

    Returns:
        Names of the files written.
    """
    names = [weights_file("int8")]
    with WeightStore(folder, "int8") as store:
        for branch, values in ranges.items():
            model = to_int8(ir.load(source / graph_file(branch)), values, keep)
            names.append(store.write(model, graph_file(branch, "int8")).name)
    return names


def to_int8(
    model: ir.Model, ranges: Mapping[str, ValueRange], keep: Collection[str] = ()
) -> ir.Model:
    """Rewrites a float32 graph as an int8 graph, in place.

    Args:
        model: Contains the operators that the exporter writes, in topological order.
        ranges: What calibration found for each of `values_to_measure`.
        keep: Weights whose products stay float32.

    Returns:
        `model`.
    """
    rewrite = _Rewrite(model.graph, ranges)
    for product in products(model.graph):
        if product.weight in keep:
            continue
        if product.node.op_type == "Conv":
            rewrite.convolution(product)
        else:
            rewrite.linear(product)
    rewrite.tidy()
    return model


class _Rewrite:
    def __init__(self, graph: ir.Graph, ranges: Mapping[str, ValueRange]) -> None:
        self._graph, self._ranges = graph, ranges
        self._weights: dict[ir.Value, list[ir.Value]] = {}
        self._twins: dict[ir.Value, ir.Value] = {}  # a value → itself after uint8 and back

    def linear(self, product: Product) -> None:
        """Replaces a MatMul and its bias by a Gemm, which takes over the name of the result."""
        node, old = product.node, product.last.outputs[0]
        activation, weight = _operands(node)
        bias = None
        if product.last is not node:
            bias = next(value for value in product.last.inputs if value is not node.outputs[0])
        measured = self._ranges[product.activation]
        rows = self._twin(activation, measured, before=node, width=measured.shape[-1])
        gemm = ir.node("Gemm", [rows, *self._constants(weight, bias, measured, node, axis=1)])
        self._graph.insert_before(node, gemm)
        made = gemm.outputs[0]
        made.name, old.name = old.name, f"{old.name}_float"
        if len(measured.shape) > 1:
            assert weight.const_value is not None
            shape = np.array([-1, *measured.shape[:-1], weight.const_value.shape[-1]], np.int64)
            made = self._reshape(made, shape, f"{made.name}_back", before=node)
        old.replace_all_uses_with(made)
        self._graph.remove([node] if product.last is node else [product.last, node], safe=True)

    def convolution(self, product: Product) -> None:
        """Replaces a Conv by one with uint8 input and output."""
        node = product.node
        activation, weight = _operands(node)
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        measured = self._ranges[product.activation]
        twin = self._twin(activation, measured, before=node)
        inputs = [twin, *self._constants(weight, bias, measured, node, axis=0)]
        convolution = ir.Node("", "Conv", inputs, node.attributes.values())
        old, made = node.outputs[0], convolution.outputs[0]
        made.name, old.name = old.name, f"{old.name}_float"
        self._graph.insert_before(node, convolution)
        old.replace_all_uses_with(made)
        last = convolution if product.last is node else product.last
        self._graph.remove(node, safe=True)
        self._twin(last.outputs[0], self._ranges[product.result], before=_after(self._graph, last))

    def _twin(
        self, value: ir.Value, measured: ValueRange, *, before: ir.Node, width: int | None = None
    ) -> ir.Value:
        """A value quantised to uint8 and back, made once for each value.

        Args:
            value: The float value.
            measured: Its range.
            before: The new nodes are inserted before this one.
            width: Reshape the value to rows of this many numbers first; None keeps its shape and
                makes every reader of the value read its twin instead.
        """
        if value in self._twins:
            return self._twins[value]
        name = _name(value)
        source = value
        if width is not None and len(measured.shape) > 1:
            shape = np.array([-1, width], np.int64)
            source = self._reshape(value, shape, f"{name}_rows", before=before)
        scale = self._constant(f"{name}_scale", np.asarray(measured.scale))
        zero = self._constant(f"{name}_zero", np.asarray(measured.zero_point))
        quantise = ir.node("QuantizeLinear", [source, scale, zero])
        restore = ir.node("DequantizeLinear", [quantise.outputs[0], scale, zero])
        twin = restore.outputs[0]
        quantise.outputs[0].name, twin.name = f"{name}_uint8", f"{name}_twin"
        self._graph.insert_before(before, [quantise, restore])
        if width is None:
            for user, index in list(value.uses()):
                if user is not quantise:
                    user.replace_input_with(index, twin)
            self._twins[twin] = twin
        self._twins[value] = twin
        return twin

    def _constants(
        self,
        weight: ir.Value,
        bias: ir.Value | None,
        measured: ValueRange,
        node: ir.Node,
        *,
        axis: int,
    ) -> list[ir.Value]:
        """Weight and bias of a product, dequantised; `axis` is that of the weight's channels."""
        assert weight.const_value is not None
        name, exact = _name(weight), weight.const_value.numpy()
        steps, scales = quantise_weight(exact, axis)
        if weight not in self._weights:
            self._weights[weight] = [
                self._constant(f"{name}_int8", steps),
                self._constant(f"{name}_scale", scales),
                self._constant(f"{name}_zero", np.zeros(len(scales), np.int8)),
            ]
        # Rounding a weight shifts the mean of the result; the bias takes that known part back.
        rounded = steps * scales.reshape([-1 if i == axis else 1 for i in range(steps.ndim)])
        shift = mean_product(exact.astype(np.float64) - rounded, measured.means)
        exact_bias = shift if bias is None else shift + _array(bias)
        # ONNX Runtime adds the bias to the integer sums of products, so it has their step size.
        bias_scales = scales * measured.scale
        limits = np.iinfo(np.int32)
        bias_steps = np.clip(np.rint(exact_bias / bias_scales), limits.min, limits.max)
        name = f"{_name(node.outputs[0])}_bias"
        parts = [
            self._constant(f"{name}_int32", bias_steps.astype(np.int32)),
            self._constant(f"{name}_scale", bias_scales),
        ]
        label = f"{_name(node.outputs[0])}_weight"
        return [
            self._restored(self._weights[weight], label, axis, before=node),
            self._restored(parts, name, 0, before=node),
        ]

    def _restored(
        self, stored: list[ir.Value], name: str, axis: int, *, before: ir.Node
    ) -> ir.Value:
        node = ir.node("DequantizeLinear", stored, {"axis": axis})
        node.outputs[0].name = name
        self._graph.insert_before(before, node)
        return node.outputs[0]

    def _reshape(
        self, value: ir.Value, shape: NDArray[np.int64], name: str, *, before: ir.Node
    ) -> ir.Value:
        node = ir.node("Reshape", [value, self._constant(f"{name}_shape", shape)])
        node.outputs[0].name = name
        self._graph.insert_before(before, node)
        return node.outputs[0]

    def _constant(self, name: str, array: NDArray[np.generic]) -> ir.Value:
        value = ir.Value(name=name, const_value=ir.tensor(array, name=name))
        self._graph.register_initializer(value)
        return value

    def tidy(self) -> None:
        """Removes constants that no node reads any more."""
        for name, value in list(self._graph.initializers.items()):
            if not value.uses():
                del self._graph.initializers[name]


def quantise_weight(
    weight: NDArray[np.float32], axis: int
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Rounds a weight to whole steps, whose size differs by channel.

    Args:
        weight: Any shape.
        axis: Axis of its channels.

    Returns:
        Steps in the weight's shape, −64 to 64, and each channel's step size.
    """
    others = tuple(i for i in range(weight.ndim) if i != axis)
    scales = np.abs(weight).max(axis=others) / LARGEST_WEIGHT
    scales = np.maximum(scales, _LEAST_SCALE * scales.max()).astype(np.float32)
    scales[scales == 0] = 1.0  # a weight of zeros
    shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
    steps = np.rint(weight / scales.reshape(shape))
    return np.clip(steps, -LARGEST_WEIGHT, LARGEST_WEIGHT).astype(np.int8), scales


def mean_product(weight: NDArray[np.float64], means: NDArray[np.float64]) -> NDArray[np.float64]:
    """Result of a product for an input that equals its channels' means everywhere.

    Args:
        weight: Of a linear layer, (K, N), or of a convolution, (O, I / groups, h, w).
        means: One number per channel of the input.

    Returns:
        One number per channel of the result, (N,) or (O,); padding is ignored.
    """
    if weight.ndim == 2:
        return np.asarray(means @ weight)
    outputs, inputs = weight.shape[:2]
    groups = len(means) // inputs
    own = means.reshape(groups, inputs).repeat(outputs // groups, axis=0)  # (O, I / groups)
    return np.asarray((weight.sum(axis=(2, 3)) * own).sum(axis=1))


def _follower(node: ir.Node) -> ir.Node:
    """The Add of a bias or the ReLU that is the only reader of a product; else the product."""
    uses = list(node.outputs[0].uses())
    if len(uses) != 1:
        return node
    reader = uses[0][0]
    if node.op_type == "Conv":
        return reader if reader.op_type in ("Clip", "Relu") else node
    others = [value for value in reader.inputs if value is not node.outputs[0]]
    constant = others[0].const_value if len(others) == 1 and others[0] is not None else None
    is_bias = reader.op_type == "Add" and constant is not None and len(constant.shape) == 1
    return reader if is_bias else node


def _after(graph: ir.Graph, node: ir.Node) -> ir.Node:
    """The next node in the graph's order."""
    return graph[graph.index(node) + 1]


def _array(value: ir.Value) -> NDArray[np.float64]:
    assert value.const_value is not None
    return value.const_value.numpy().astype(np.float64)


def _operands(node: ir.Node) -> tuple[ir.Value, ir.Value]:
    first, second = node.inputs[:2]
    assert first is not None
    assert second is not None
    return first, second


def _name(value: ir.Value) -> str:
    assert value.name is not None
    return value.name
