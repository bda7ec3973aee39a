"""A ResNet in graphs: batch norms folded, its convolutions in half precision."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from mafsar.errors import UnavailableError
from mafsar.export.graphs.half import write_half_graphs
from mafsar.export.graphs.int8 import values_to_measure, write_int8_graphs
from mafsar.export.graphs.int8_ranges import observe
from mafsar.export.graphs.network_bundle import export_bundle
from mafsar.export.graphs.sessions import run_graph
from mafsar.model.bundle_weights import load_bundle_network
from mafsar.model.config import AdapterConfig, ModelConfig, ResNetConfig, TextConfig
from mafsar.model.network import MafsarNetwork, build_network
from mafsar.runtime.engines.parity import compare

HALF, FLOAT = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
BRANCHES = ("query", "support")


@pytest.fixture(scope="module")
def network() -> MafsarNetwork:
    """A network in which batch-norm statistics, initially ones and zeros, are random as well."""
    config = ModelConfig(
        name="small",
        embed_dim=32,
        vision=ResNetConfig((1, 2, 1, 1), 8, 64, 32),  # type: ignore[arg-type]
        text=TextConfig(width=64, layers=1, heads=2, context_length=9, vocab_size=50),
        frames=4,
        adapters=AdapterConfig().prototypes_only(),
        fully_tuned=True,
    )
    made = build_network(config, seed=0).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in made.state_dict().items():
            noise = 0.05 * torch.randn(value.shape, generator=generator)
            value.add_(noise.abs() if name.endswith("running_var") else noise)
    return made


@pytest.fixture(scope="module")
def bundle(
    network: MafsarNetwork, tokenizer: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("resnet") / "small.mafsar"
    export_bundle(network, tokenizer, folder)
    write_half_graphs(folder, BRANCHES, folder)
    return folder


@pytest.mark.parametrize("branch", BRANCHES)
def test_features_are_those_of_the_network(branch: str, bundle: Path, network) -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (3, 4, 64, 64, 3), dtype=np.uint8)
    inputs = {"frames": frames}
    if branch == "support":
        inputs["text"] = rng.standard_normal((3, 32)).astype(np.float32)
    with torch.no_grad():
        encode = getattr(network.double(), f"encode_{branch}")
        given = [torch.from_numpy(value) for value in inputs.values()]
        truth = encode(given[0], *(value.double() for value in given[1:]))
        network.float()
    for precision, type_ in (("fp32", np.float32), ("fp16", np.float16)):
        session = onnxruntime.InferenceSession(
            str(bundle / f"{branch}-{precision}.onnx"), providers=["CPUExecutionProvider"]
        )
        for got, wanted in zip(session.run(None, inputs), truth, strict=True):
            reference = wanted.numpy()
            error = np.abs(got - reference).max() / np.abs(reference).max()
            assert 0 < error < 32 * np.finfo(type_).eps, precision


def test_convolutions_are_half_and_residual_sums_float(bundle: Path, tmp_path: Path) -> None:
    path = bundle / "query-fp16.onnx"
    onnx.shape_inference.infer_shapes_path(
        str(path), str(tmp_path / "typed.onnx"), check_type=True, strict_mode=True
    )
    graph = onnx.load(str(tmp_path / "typed.onnx"), load_external_data=False).graph
    types = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.output)}
    types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 3 + 5 * 3 + 4  # the stem, five bottlenecks, four shortcuts
    for node in convolutions:
        assert {types[name] for name in (*node.input, *node.output)} == {HALF}
    stored = {tensor.name for tensor in graph.initializer}
    sums = [n for n in graph.node if n.op_type == "Add" and not stored & set(n.input)]
    assert len(sums) >= 5  # bottlenecks and shortcuts
    assert {types[name] for node in sums for name in node.output} == {FLOAT}
    assert not any(node.op_type == "BatchNormalization" for node in graph.node)


def test_a_folded_tensor_has_its_own_name(bundle: Path, network: MafsarNetwork) -> None:
    """A bundle with folded batch norms gives no network back."""
    state = network.state_dict()
    folded = 0
    for tensor in onnx.load(str(bundle / "query-fp32.onnx")).graph.initializer:
        folded += tensor.name.endswith(".folded")
        if tensor.name in state:
            held = onnx.numpy_helper.to_array(tensor)
            assert np.array_equal(held, state[tensor.name].numpy()), tensor.name
    assert folded >= 22
    with pytest.raises(UnavailableError, match=r"batch norms are folded.*use engine='onnx'"):
        load_bundle_network(bundle)


def test_int8_leaves_no_convolution_in_float(bundle: Path, tmp_path: Path) -> None:
    """Convolutions have uint8 input and output, and ranges absorb their ReLUs."""
    out = Path(shutil.copytree(bundle, tmp_path / "int8"))
    graph = ir.load(out / "query-fp32.onnx").graph
    rng = np.random.default_rng(0)
    clips = rng.integers(0, 256, (4, 1, 4, 64, 64, 3), dtype=np.uint8)
    runs = [{"frames": clip} for clip in clips]
    ranges = {"query": observe(out / "query-fp32.onnx", values_to_measure(graph), runs)}
    write_int8_graphs(out, ranges, out)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        str(out / "query-int8.onnx"), options, providers=["CPUExecutionProvider"]
    )
    fused = onnx.load(str(tmp_path / "optimised.onnx"), load_external_data=False).graph
    kinds = Counter(node.op_type for node in fused.node)
    assert kinds["QLinearConv"] == sum(node.op_type == "Conv" for node in graph)
    assert not kinds["Conv"]
    assert not kinds["FusedConv"]
    for clip in clips:
        wanted = run_graph(out / "query-fp32.onnx", {"frames": clip})["features"]
        found = session.run(["features"], {"frames": clip})[0]
        assert compare(wanted, found).min_cosine > 0.98
