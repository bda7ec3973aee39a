"""Finds the first node where a graph of reduced precision departs from fp32 (no torch)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from mafsar.errors import InputError
from mafsar.export.bundle_draft import branches_of
from mafsar.export.bundle_folder import unwritable
from mafsar.export.graphs.sessions import open_altered
from mafsar.export.thresholds import LARGEST_HALF
from mafsar.model.names import graph_file
from mafsar.runtime.engines.bundle import Bundle
from mafsar.runtime.engines.parity import compare
from mafsar.runtime.engines.probe import LIMITS, read_probe

# Smallest cosine inside a graph. int8 values are noisier there than at the outputs: a softmax near a
# tie amplifies noise, down to 0.94 in correct graphs. Faults lie far below.
_LEAST = LIMITS | {"int8": 0.9}
_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)


@dataclass(frozen=True)
class Departure:
    """The node that bisecting found in one graph.

    Attributes:
        graph: The file of reduced precision.
        node: The first node whose result departs; where none does, the one with the smallest
            cosine. Operator and result, such as `MatMul val_12`.
        departs: Whether its result departs.
        cosine: Between its whole result and fp32's.
        largest: Largest magnitude in its result.
        limit: Smallest cosine that does not count as a departure.
        position: Its index among the nodes compared.
        nodes: Number of nodes compared.
    """

    graph: str
    node: str
    departs: bool
    cosine: float
    largest: float
    limit: float
    position: int
    nodes: int


def bisect(bundle: Bundle, precision: str = "fp16") -> Iterator[Departure]:
    """Compares every value of each branch's graphs on one clip of the probe, in graph order.

    Args:
        bundle: Holds fp32 graphs, graphs of `precision` and a probe.
        precision: "fp16" or "int8".

    Yields:
        One departure, or the nearest to one, per branch.

    Raises:
        UnavailableError: The bundle has no graphs of this precision.
        MissingError: The bundle has no probe.
    """
    probe = read_probe(bundle)
    for branch in branches_of(bundle.spec):
        inputs: dict[str, NDArray[Any]] = {"frames": probe["frames"][:1]}
        if branch == "support":
            inputs["text"] = probe["class_text"][probe["owners"][:1]]
        full, reduced = bundle.graph(branch, "fp32"), bundle.graph(branch, precision)
        yield _first(full, reduced, inputs, _LEAST[precision], graph_file(branch, precision))


def _first(
    full: Path, reduced: Path, inputs: Mapping[str, NDArray[Any]], limit: float, name: str
) -> Departure:
    wanted, found = _values(full, inputs), _values(reduced, inputs)
    kinds = _kinds(reduced)
    shared = [value for value in wanted if value in found]
    if not shared:
        raise InputError(f"{reduced}: shares no value with {full.name}; export the bundle again")
    worst: Departure | None = None
    for position, value in enumerate(shared):
        a, b = wanted[value].ravel(), found[value].ravel()
        cosine = compare(a, b).min_cosine if a.any() or b.any() else 1.0
        largest = float(np.abs(b).max(initial=0))
        operator, is_half = kinds[value]
        # The CPU computes half-precision values in float32, where 70000 does not overflow; on a GPU
        # it does.
        departs = not cosine >= limit or (is_half and not largest <= LARGEST_HALF)
        seen = Departure(
            name, f"{operator} {value}", departs, cosine, largest, limit, position, len(shared)
        )
        if departs:
            return seen
        if worst is None or cosine < worst.cosine:
            worst = seen
    assert worst is not None
    return worst


def _typed(path: Path) -> onnx.ModelProto:
    return onnx.shape_inference.infer_shapes(onnx.load(str(path), load_external_data=False))


def _kinds(path: Path) -> dict[str, tuple[str, bool]]:
    """For every value of a graph: its operator, and whether it is half precision."""
    graph = _typed(path).graph
    half = {
        value.name
        for value in graph.value_info
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT16
    }
    return {name: (node.op_type, name in half) for node in graph.node for name in node.output}


def _values(path: Path, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Every float value that a graph computes from the inputs, in node order."""
    model = _typed(path)
    graph = model.graph
    floats = {
        value.name
        for value in (*graph.value_info, *graph.output)
        if value.type.tensor_type.elem_type in _FLOATS
    }
    names = [name for node in graph.node for name in node.output if name in floats]
    del graph.output[:]
    for index, name in enumerate(names):
        wide = f"bisect_{index}"
        graph.node.append(onnx.helper.make_node("Cast", [name], [wide], to=onnx.TensorProto.FLOAT))
        graph.output.append(onnx.helper.make_tensor_value_info(wide, onnx.TensorProto.FLOAT, None))
    try:
        session = open_altered(path, lambda copy: copy.write_bytes(model.SerializeToString()))
    except OSError as error:
        raise unwritable(path.parent, error, "copy the bundle to a folder of yours") from error
    return dict(zip(names, session.run(None, dict(inputs)), strict=True))
