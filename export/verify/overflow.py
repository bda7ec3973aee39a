"""How near the half values of an FP16 graph come to half's largest number (no torch).

ONNX Runtime's CPU provider has few half kernels: it computes most nodes in float32 and drops the
casts in between, so an overflow that a GPU would meet does not show in its outputs. Here every half
value is an output of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from mafsar.export.verify.compare import open_altered


def largest_half(path: Path, runs: Iterable[Mapping[str, NDArray[Any]]]) -> tuple[str, float]:
    """The half value of a graph that grows largest over some runs.

    Args:
        path: An FP16 graph; a scan of it is written beside it for a moment, since its weights
            file must lie there.
        runs: Inputs by name, any number of clips; they go through the graph one at a time, since
            every value is kept until the end of a run.

    Returns:
        The node that computes it, as `MatMul val_12`, and its largest magnitude.
    """
    model = onnx.shape_inference.infer_shapes(onnx.load(str(path), load_external_data=False))
    graph = model.graph
    made = {name: f"{node.op_type} {name}" for node in graph.node for name in node.output}
    values = [
        value.name
        for value in graph.value_info
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT16 and value.name in made
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
            # Not a number comes from an infinity further up.
            found = np.maximum(found, np.where(np.isfinite(run), run, np.inf))
    index = int(found.argmax())
    return made[values[index]], float(found[index])
