"""How close the half-precision values of an FP16 graph come to the largest one, 65504 (no torch).

ONNX Runtime's CPU provider has few half-precision kernels: it computes most nodes in float32 and
drops the casts in between, so an overflow that a GPU would meet does not show in the graph's
outputs. Here every half-precision value is made an output.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from mafsar.export.graphs.sessions import open_altered


def largest_half(path: Path, runs: Iterable[Mapping[str, NDArray[Any]]]) -> tuple[str, float]:
    """The half-precision value of a graph with the largest magnitude over some runs.

    Args:
        path: An FP16 graph.
        runs: Inputs by name, any number of clips each. Clips are run one at a time, because every
            value is kept until the end of a run.

    Returns:
        The node that computes it, such as `MatMul val_12`, and its largest magnitude; infinite
        where a value is not finite.
    """
    model = onnx.shape_inference.infer_shapes(onnx.load(str(path), load_external_data=False))
    graph = model.graph
    nodes = {name: f"{node.op_type} {name}" for node in graph.node for name in node.output}
    values = [
        value.name
        for value in graph.value_info
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT16 and value.name in nodes
    ]
    del graph.output[:]
    for index, name in enumerate(values):
        wide, size, largest = (f"scan_{index}_{part}" for part in ("wide", "size", "largest"))
        graph.node.append(onnx.helper.make_node("Cast", [name], [wide], to=onnx.TensorProto.FLOAT))
        graph.node.append(onnx.helper.make_node("Abs", [wide], [size]))
        graph.node.append(onnx.helper.make_node("ReduceMax", [size], [largest], keepdims=0))
        graph.output.append(onnx.helper.make_tensor_value_info(largest, onnx.TensorProto.FLOAT, []))
    session = open_altered(path, lambda copy: copy.write_bytes(model.SerializeToString()))
    found = np.zeros(len(values))
    for inputs in runs:
        for clip in range(len(next(iter(inputs.values())))):
            one = {name: array[clip : clip + 1] for name, array in inputs.items()}
            run = np.array(session.run(None, one), np.float64)
            # A NaN comes from an infinity earlier in the graph.
            found = np.maximum(found, np.where(np.isfinite(run), run, np.inf))
    index = int(found.argmax())
    return nodes[values[index]], float(found[index])
