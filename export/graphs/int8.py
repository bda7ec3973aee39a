"""A float32 graph as an int8 graph for CPUs: static, QDQ, per channel (no torch).

Every product of a weight and a computed value, in the towers and the adapters, reads uint8
activations and int8 weights. ONNX Runtime makes one kernel of a product and what surrounds it only
in certain forms, and anything else becomes slower than float32:

- A linear layer is written as a Gemm of rank 2 with an int32 bias: it becomes a QGemm with a float
  result. A MatMul and an Add become a float Gemm, or the bias a pass of its own.
- A convolution becomes a QLinearConv only where its result is quantised too. A stem therefore stays
  in uint8 from its first convolution to its last; its ReLUs vanish in the ranges.

LayerNorm, softmax, attention's own products, GELU, the residual stream and the module behind the
towers stay float32. Weights have 7 bits: a CPU without VNNI adds two products in 16 bits, and
2 × 255 × 64 still fits, so that the graph gives the same answers on every CPU.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from mafsar.export.graphs.int8_ranges import Seen
from mafsar.export.graphs.weight_store import WeightStore
from mafsar.model.names import graph_file, weights_file

LARGEST_WEIGHT = 64  # see above
_LEAST_SCALE = 1e-4  # of the largest channel's: a channel of zeros still has a scale for its bias
_PARTS = ("visual.", "adapters.")  # of the network's parameters


@dataclass(frozen=True)
class Product:
    """One node that int8 can compute.

    Attributes:
        node: A MatMul, or a Conv.
        last: The node whose result is the product's: an Add of its bias, a ReLU, or itself.
        weight: Name of its weight, after the network's parameter.
        moving: Name of the value that it is multiplied with.
        result: Name of the result.
    """

    node: ir.Node
    last: ir.Node
    weight: str
    moving: str
    result: str


def products(graph: ir.Graph) -> list[Product]:
    """The products that int8 can compute, in the graph's order."""
    found = []
    for node in graph:
        if node.op_type not in ("MatMul", "Conv"):
            continue
        moving, weight = _two(node)
        if weight.const_value is None or not _name(weight).startswith(_PARTS):
            continue
        last = _follower(node)
        result = last.outputs[0]
        if not any(result is value for value in graph.outputs):
            found.append(Product(node, last, _name(weight), _name(moving), _name(result)))
    return found


def values_to_see(graph: ir.Graph) -> dict[str, int]:
    """Names of the values that become uint8, and the axis along which their channels lie."""
    axes = {}
    for product in products(graph):
        axis = 1 if product.node.op_type == "Conv" else -1
        axes[product.moving] = axis
        if product.node.op_type == "Conv":
            axes[product.result] = axis
    return axes


def write_int8_graphs(
    source: Path,
    seen: Mapping[str, Mapping[str, Seen]],
    folder: Path,
    keep: Collection[str] = (),
) -> list[str]:
    """Writes the int8 graphs of a bundle and the weights file that they share.

    Args:
        source: A folder with the float32 graphs.
        seen: What calibration saw in each branch's graph.
        folder: Where the files go.
        keep: Weights whose products stay float32.

    Returns:
        Names of the files written.
    """
    names = [weights_file("int8")]
    with WeightStore(folder, "int8") as store:
        for branch, values in seen.items():
            model = to_int8(ir.load(source / graph_file(branch)), values, keep)
            names.append(store.write(model, graph_file(branch, "int8")).name)
    return names


def to_int8(model: ir.Model, seen: Mapping[str, Seen], keep: Collection[str] = ()) -> ir.Model:
    """Rewrites a float32 graph as an int8 graph, in place.

    Args:
        model: Of the operators that the exporter writes, in topological order.
        seen: What calibration saw of each of `values_to_see`.
        keep: Weights whose products stay float32; `Int8Maker` chooses them.

    Returns:
        `model`.
    """
    rewrite = _Rewrite(model.graph, seen)
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
    def __init__(self, graph: ir.Graph, seen: Mapping[str, Seen]) -> None:
        self._graph, self._seen = graph, seen
        self._weights: dict[ir.Value, list[ir.Value]] = {}
        self._twins: dict[ir.Value, ir.Value] = {}  # a value → what is left of it after uint8

    def linear(self, product: Product) -> None:
        """A MatMul and its bias as a Gemm; the Gemm's result has the name of theirs."""
        node, old = product.node, product.last.outputs[0]
        moving, weight = _two(node)
        bias = None
        if product.last is not node:
            bias = next(value for value in product.last.inputs if value is not node.outputs[0])
        seen = self._seen[product.moving]
        rows = self._twin(moving, seen, before=node, width=seen.shape[-1])
        gemm = ir.node("Gemm", [rows, *self._constants(weight, bias, seen, node, axis=1)])
        self._graph.insert_before(node, gemm)
        made = gemm.outputs[0]
        made.name, old.name = old.name, f"{old.name}_float"
        if len(seen.shape) > 1:
            assert weight.const_value is not None
            shape = np.array([-1, *seen.shape[:-1], weight.const_value.shape[-1]], np.int64)
            made = self._reshape(made, shape, f"{made.name}_back", before=node)
        old.replace_all_uses_with(made)
        self._graph.remove([node] if product.last is node else [product.last, node], safe=True)

    def convolution(self, product: Product) -> None:
        """A Conv between uint8 and uint8; what reads its result reads that too."""
        node = product.node
        moving, weight = _two(node)
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        seen = self._seen[product.moving]
        twin = self._twin(moving, seen, before=node)
        inputs = [twin, *self._constants(weight, bias, seen, node, axis=0)]
        convolution = ir.Node("", "Conv", inputs, node.attributes.values())
        old, made = node.outputs[0], convolution.outputs[0]
        made.name, old.name = old.name, f"{old.name}_float"
        self._graph.insert_before(node, convolution)
        old.replace_all_uses_with(made)
        last = convolution if product.last is node else product.last
        self._graph.remove(node, safe=True)
        self._twin(last.outputs[0], self._seen[product.result], before=_after(self._graph, last))

    def _twin(
        self, value: ir.Value, seen: Seen, *, before: ir.Node, width: int | None = None
    ) -> ir.Value:
        """A value through uint8, once; in rows of `width` numbers, or in its place everywhere."""
        if value in self._twins:
            return self._twins[value]
        name = _name(value)
        moving = value
        if width is not None and len(seen.shape) > 1:
            shape = np.array([-1, width], np.int64)
            moving = self._reshape(value, shape, f"{name}_rows", before=before)
        scale = self._constant(f"{name}_scale", np.asarray(seen.scale))
        zero = self._constant(f"{name}_zero", np.asarray(seen.zero_point))
        quantise = ir.node("QuantizeLinear", [moving, scale, zero])
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
        self, weight: ir.Value, bias: ir.Value | None, seen: Seen, node: ir.Node, *, axis: int
    ) -> list[ir.Value]:
        """Weight and bias of a product, dequantised; channels lie along `axis` of the weight."""
        assert weight.const_value is not None
        name, exact = _name(weight), weight.const_value.numpy()
        held, scales = quantise_weight(exact, axis)
        if weight not in self._weights:
            self._weights[weight] = [
                self._constant(f"{name}_int8", held),
                self._constant(f"{name}_scale", scales),
                self._constant(f"{name}_zero", np.zeros(len(scales), np.int8)),
            ]
        # Rounding a weight shifts the mean of the result; that part is known and goes into the bias.
        rounded = held * scales.reshape([-1 if i == axis else 1 for i in range(held.ndim)])
        shift = mean_product(exact.astype(np.float64) - rounded, seen.means)
        whole = shift if bias is None else shift + _array(bias)
        # ONNX Runtime adds it to the sums of products, whose step this is.
        steps = scales * seen.scale
        limits = np.iinfo(np.int32)
        whole = np.clip(np.rint(whole / steps), limits.min, limits.max).astype(np.int32)
        name = f"{_name(node.outputs[0])}_bias"
        parts = [self._constant(f"{name}_int32", whole), self._constant(f"{name}_scale", steps)]
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
        """Drops constants that no node reads any more."""
        for name, value in list(self._graph.initializers.items()):
            if not value.uses():
                del self._graph.initializers[name]


def quantise_weight(
    weight: NDArray[np.float32], axis: int
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Rounds a weight to whole steps of its channels.

    Args:
        weight: Any shape.
        axis: Along which its channels lie.

    Returns:
        Steps in the weight's shape, −64 to 64, and the size of each channel's step.
    """
    others = tuple(i for i in range(weight.ndim) if i != axis)
    scales = np.abs(weight).max(axis=others) / LARGEST_WEIGHT
    scales = np.maximum(scales, _LEAST_SCALE * scales.max()).astype(np.float32)
    scales[scales == 0] = 1.0  # a weight of zeros
    shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
    steps = np.rint(weight / scales.reshape(shape))
    return np.clip(steps, -LARGEST_WEIGHT, LARGEST_WEIGHT).astype(np.int8), scales


def mean_product(weight: NDArray[np.float64], means: NDArray[np.float64]) -> NDArray[np.float64]:
    """What a product makes of an input that is everywhere at its channels' means.

    Args:
        weight: Of a linear layer, (K, N), or of a convolution, (O, I / groups, h, w).
        means: One a channel of the input.

    Returns:
        One number a channel of the result, (N,) or (O,); padding is not looked at.
    """
    if weight.ndim == 2:
        return np.asarray(means @ weight)
    outputs, inputs = weight.shape[:2]
    groups = len(means) // inputs
    own = means.reshape(groups, inputs).repeat(outputs // groups, axis=0)  # (O, I / groups)
    return np.asarray((weight.sum(axis=(2, 3)) * own).sum(axis=1))


def _follower(node: ir.Node) -> ir.Node:
    """The bias or the ReLU that alone reads a product, or the product itself."""
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


def _two(node: ir.Node) -> tuple[ir.Value, ir.Value]:
    first, second = node.inputs[:2]
    assert first is not None
    assert second is not None
    return first, second


def _name(value: ir.Value) -> str:
    assert value.name is not None
    return value.name
