"""FP16 graphs: the type of each node, and the error of the features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from mafsar.export.graphs.half import to_half, write_half_graphs
from mafsar.export.graphs.weight_store import WeightStore

HALF, FLOAT = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT


@pytest.fixture(scope="module")
def halves(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("half")
    assert write_half_graphs(small, ("query", "support"), out) == [
        "weights-fp16.bin",
        "query-fp16.onnx",
        "support-fp16.onnx",
    ]
    return out


def types_of(path: Path, out: Path) -> tuple[onnx.GraphProto, dict[str, int]]:
    """The graph, and the element type of every value, by onnx's own strict inference."""
    onnx.checker.check_model(str(path))
    onnx.shape_inference.infer_shapes_path(str(path), str(out), check_type=True, strict_mode=True)
    graph = onnx.load(str(out), load_external_data=False).graph
    values = (*graph.value_info, *graph.input, *graph.output)
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    return graph, types


@pytest.mark.parametrize("branch", ["query", "support"])
def test_products_are_half_and_the_rest_is_float(branch: str, halves: Path) -> None:
    graph, types = types_of(halves / f"{branch}-fp16.onnx", halves / f"typed-{branch}.onnx")
    seen = {}
    for node in graph.node:
        kinds = {types[name] for name in (*node.input, *node.output) if name}
        seen.setdefault(node.op_type, set()).update(kinds & {HALF, FLOAT})
        if node.op_type in ("MatMul", "Gemm", "Conv"):
            assert kinds == {HALF}, node.op_type
        if node.op_type in ("LayerNormalization", "Softmax", "ReduceMean"):
            assert HALF not in kinds, node.op_type
    assert seen["Gelu"] == {HALF}
    stored = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        # The sum of two computed values is a residual.
        if node.op_type == "Add" and not stored & set(node.input):
            assert types[node.output[0]] in (FLOAT, onnx.TensorProto.INT64)
        # TensorRT accepts uint8 only as the input of a cast.
        if "frames" in node.input:
            assert node.op_type in ("Cast", "Shape")
    assert {types[value.name] for value in graph.output} == {FLOAT}
    # A value is cast once, not once per reader.
    casts = [(node.input[0], node.attribute[0].i) for node in graph.node if node.op_type == "Cast"]
    assert len(casts) == len(set(casts))


def test_weights_halve(small: Path, halves: Path) -> None:
    def weight_bytes(path: Path) -> int:
        total = 0
        for tensor in onnx.load(str(path), load_external_data=False).graph.initializer:
            entries = {entry.key: entry.value for entry in tensor.external_data}
            total += int(entries.get("length", len(tensor.raw_data)))
        return total

    for branch in ("query", "support"):
        half = weight_bytes(halves / f"{branch}-fp16.onnx")
        assert half <= 0.6 * weight_bytes(small / f"{branch}-fp32.onnx")
    both = weight_bytes(halves / "support-fp16.onnx")
    assert (halves / "weights-fp16.bin").stat().st_size < 1.1 * both  # shared by both graphs


@pytest.mark.parametrize("branch", ["query", "support"])
def test_features_differ_by_half_precision_rounding_only(branch: str, halves, make_network) -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (5, 4, 32, 32, 3), dtype=np.uint8)
    text = rng.standard_normal((5, 64)).astype(np.float32)
    inputs = {"frames": frames} | ({"text": text} if branch == "support" else {})
    session = onnxruntime.InferenceSession(
        str(halves / f"{branch}-fp16.onnx"), providers=["CPUExecutionProvider"]
    )
    found = session.run(["features", "pooled"], inputs)
    exact = make_network().double()
    with torch.no_grad():
        if branch == "query":
            truth = exact.encode_query(torch.from_numpy(frames))
        else:
            truth = exact.encode_support(torch.from_numpy(frames), torch.from_numpy(text).double())
    for got, wanted in zip(found, truth, strict=True):
        assert got.dtype == np.float32
        reference = wanted.numpy()
        error = np.abs(got - reference).max()
        assert 0 < error < 16 * np.finfo(np.float16).eps * np.abs(reference).max()


def test_a_weight_beyond_half_is_refused(small: Path) -> None:
    import onnx_ir as ir

    from mafsar.errors import MismatchError

    model = ir.load(small / "query-fp32.onnx")
    value = next(v for n in model.graph if n.op_type == "MatMul" for v in n.inputs if v.const_value)
    array = value.const_value.numpy().copy()
    array.flat[0] = 1e5
    value.const_value = ir.tensor(array, name=value.name)
    with pytest.raises(MismatchError, match=r"beyond half precision \(largest 1e\+05\)"):
        to_half(model)


def test_equal_weights_are_stored_once(tmp_path: Path, small: Path) -> None:
    import onnx_ir as ir

    with WeightStore(tmp_path, "fp32") as store:
        store.write(ir.load(small / "query-fp32.onnx"), "a.onnx")
        size = (tmp_path / "weights-fp32.bin").stat().st_size
        store.write(ir.load(small / "query-fp32.onnx"), "b.onnx")
    assert (tmp_path / "weights-fp32.bin").stat().st_size - size <= 1 << 16  # a buffer's flush
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
