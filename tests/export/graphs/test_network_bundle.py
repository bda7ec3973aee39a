"""Exported bundles, compared with the network on ONNX Runtime and by the content of their files."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from mafsar.errors import InputError, MismatchError, MissingError
from mafsar.export.graphs import network_bundle as exporter
from mafsar.export.graphs.trace import example_inputs, graph_specs
from mafsar.model.config import AdapterConfig, ModelConfig, TextConfig, VisionConfig
from mafsar.model.names import graph_file
from mafsar.model.network import build_network
from mafsar.model.weights import weights_sha256
from mafsar.runtime.engines.bundle import Bundle
from mafsar.runtime.engines.parity import Parity, compare

LAYERS, TEXT_LAYERS = 2, 1
CONFIG = ModelConfig(
    name="small",
    embed_dim=64,
    vision=VisionConfig(width=96, layers=LAYERS, heads=3, patch_size=8, image_size=32),
    text=TextConfig(width=64, layers=TEXT_LAYERS, heads=2, context_length=9, vocab_size=50),
    frames=4,
    adapters=AdapterConfig(),
)


def random_network(config, seed=0):
    network = build_network(config, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return network


@pytest.fixture(scope="module")
def network():
    return random_network(CONFIG)


@pytest.fixture(scope="module")
def bundle(small):
    return small


@pytest.fixture(scope="module")
def plain(tokenizer, tmp_path_factory):
    out = tmp_path_factory.mktemp("bundles") / "plain.mafsar"
    return exporter.export_bundle(random_network(CONFIG.plain()), tokenizer, out)


def run(path, inputs):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, inputs)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("index", [0, 1, 2])
def test_onnx_runtime_gives_torch_s_features(index, batch, network, bundle):
    spec = graph_specs(network)[index]
    inputs = example_inputs(network, spec, batch + 10)
    inputs = tuple(tensor[:batch] for tensor in inputs)
    exact = random_network(CONFIG).double()
    spec64 = graph_specs(exact)[index]
    with torch.no_grad():
        mine = spec.module(*inputs)
        truth = spec64.module(*(t.double() if t.is_floating_point() else t for t in inputs))
    mine, truth = (x if isinstance(x, tuple) else (x,) for x in (mine, truth))
    named = {k: v.numpy() for k, v in zip(spec.inputs, inputs, strict=True)}
    found = run(bundle / graph_file(spec.name), named)
    assert len(found) == len(spec.outputs)
    for got, ours, exactly in zip(found, mine, truth, strict=True):
        reference = exactly.numpy()
        assert got.shape == reference.shape
        assert got.dtype == np.float32
        eps = np.finfo(np.float32).eps
        # torch's own float32 error sets the scale; single rows of a small graph need some room.
        allowed = 2 * np.abs(ours.numpy() - reference).max() + 8 * eps * (
            1 + np.abs(reference).max()
        )
        assert np.abs(got - reference).max() <= allowed


def test_the_support_graph_reads_the_text(network, bundle):
    frames, text = (x.numpy() for x in example_inputs(network, graph_specs(network)[1], 2))
    with_text, _ = run(bundle / "support-fp32.onnx", {"frames": frames, "text": text})
    other, _ = run(bundle / "support-fp32.onnx", {"frames": frames, "text": text[::-1].copy()})
    query, _ = run(bundle / "query-fp32.onnx", {"frames": frames})
    assert np.abs(with_text - other).max() > 1e-2
    assert np.abs(with_text - query).max() > 1e-2


@pytest.mark.parametrize("name", ["query-fp32.onnx", "support-fp32.onnx", "text.onnx"])
def test_a_graph_is_portable(name, bundle):
    path = bundle / name
    onnx.checker.check_model(str(path))
    model = onnx.load(str(path), load_external_data=False)
    assert model.ir_version == 10
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 20)]
    assert {node.domain for node in model.graph.node} == {""}
    assert not model.functions
    for value in (*model.graph.input, *model.graph.output):
        shape = value.type.tensor_type.shape.dim
        assert shape[0].dim_param == "batch"
        assert all(dim.dim_value > 0 for dim in shape[1:])
    # No trace of the machine that made it.
    text = path.read_bytes().decode("latin1")
    for word in (str(Path.cwd()), "site-packages", ".py", "/home", "/root"):
        assert word not in text


def test_inputs_and_outputs_follow_the_contract(bundle):
    def signature(name):
        graph = onnx.load(str(bundle / name), load_external_data=False).graph
        kinds = {1: "f32", 2: "u8", 7: "i64"}
        return [
            (
                v.name,
                kinds[v.type.tensor_type.elem_type],
                *(d.dim_value for d in v.type.tensor_type.shape.dim[1:]),
            )
            for v in (*graph.input, *graph.output)
        ]

    frames, outputs = (
        ("frames", "u8", 4, 32, 32, 3),
        [("features", "f32", 4, 64), ("pooled", "f32", 64)],
    )
    assert signature("query-fp32.onnx") == [frames, *outputs]
    assert signature("support-fp32.onnx") == [frames, ("text", "f32", 64), *outputs]
    assert signature("text.onnx") == [("tokens", "i64", 9), ("embedding", "f32", 64)]


def test_layer_norms_are_single_operators_and_frames_are_cast_first(bundle):
    for name, norms in (
        # ln_pre, ln_post; LN1 of c, of Z, of c' (and of t); LN2
        ("query-fp32.onnx", 2 + 4 * LAYERS),
        ("support-fp32.onnx", 2 + 5 * LAYERS),
        ("text.onnx", 1 + 2 * TEXT_LAYERS),
    ):
        graph = onnx.load(str(bundle / name), load_external_data=False).graph
        ops = Counter(node.op_type for node in graph.node)
        assert ops["LayerNormalization"] == norms
        assert not ops.keys() & {"Pow", "Sqrt", "ReduceVariance", "Split"}
        # Weights are stored as they are used.
        stored = {tensor.name for tensor in graph.initializer}
        for node in graph.node:
            if node.op_type in ("Transpose", "Slice"):
                assert node.input[0] not in stored
            if "frames" in node.input:
                assert node.op_type in ("Cast", "Shape")


def test_the_graphs_share_one_weights_file(network, bundle):
    network_bytes = sum(4 * p.numel() for p in network.parameters())
    size = (bundle / "weights-fp32.bin").stat().st_size
    assert 0.9 * network_bytes < size < 1.02 * network_bytes
    places = {}
    for name in ("query-fp32.onnx", "support-fp32.onnx"):
        graph = onnx.load(str(bundle / name), load_external_data=False).graph
        found = set()
        for tensor in graph.initializer:
            entries = {entry.key: entry.value for entry in tensor.external_data}
            if entries:
                assert entries["location"] == "weights-fp32.bin"
                assert int(entries["offset"]) % 64 == 0
                found.add((int(entries["offset"]), int(entries["length"])))
            else:
                assert len(tensor.raw_data) < 1024
        places[name] = found
    assert places["query-fp32.onnx"] < places["support-fp32.onnx"]
    assert sum(f.stat().st_size for f in bundle.glob("*.onnx")) < 0.2 * size + 200_000


def test_the_runtime_reads_the_manifest(network, bundle, tokenizer):
    manifest = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
    for name, entry in manifest["files"].items():
        data = (bundle / name).read_bytes()
        assert entry == {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    on_disk = {path.name for path in bundle.iterdir()}
    assert on_disk == {*manifest["files"], "bundle.json"}
    assert (bundle / "tokenizer.json").read_bytes() == tokenizer.read_bytes()
    assert manifest["known_words"] == ["a"]
    assert manifest["temporal"]["moments"] == [0.125, 0.375, 0.625, 0.875]
    assert manifest["thresholds"]["min_cosine"] == {"fp32": 0.9999, "fp16": 0.999, "int8": 0.98}
    assert manifest["thresholds"]["p_none"] is None
    made_by = manifest["made_by"]
    assert made_by["torch"] == version("torch")
    assert made_by["onnxscript"] == version("onnxscript")
    assert {"mafsar", "python", "numpy", "onnx", "onnx-ir", "tokenizers"} <= made_by.keys()
    assert {"onnxruntime", "onnxruntime-gpu"} & made_by.keys()
    assert "open_clip_torch" not in made_by  # only where the vocabulary is CLIP's
    assert manifest["parity"]["min_cosine"] > 0.999999
    assert manifest["parity"]["max_error"] < 1e-3
    assert ModelConfig.from_json(manifest["config"]) == CONFIG
    spec = Bundle.open(bundle).spec
    assert (spec.name, spec.adapters, spec.frames, spec.image_size) == ("small", "trained", 4, 32)
    assert spec.weights_sha256 == weights_sha256(network)
    assert spec.parameters_total == sum(p.numel() for p in network.parameters())
    assert spec.parameters_tunable == sum(p.numel() for p in network.tunable_parameters().values())


def test_plain_clip_has_no_support_graph(plain):
    assert not (plain / "support-fp32.onnx").exists()
    spec = Bundle.open(plain).spec
    assert (spec.adapters, spec.text_in_support) == ("none", False)
    scoring = spec.scoring  # frozen CLIP is matched by views (docs/method.md)
    assert (scoring.metric, scoring.lam, scoring.views) == ("otam", 0.1, 0.8)
    assert spec.parameters_tunable > 0  # what training would tune


def test_the_same_network_gives_the_same_bytes_without_output(plain, tokenizer, tmp_path, capfd):
    network = random_network(CONFIG.plain()).train()
    again = exporter.export_bundle(network, tokenizer, tmp_path / "again.mafsar")
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")
    assert [path.name for path in tmp_path.iterdir()] == ["again.mafsar"]
    for path in plain.iterdir():
        assert (again / path.name).read_bytes() == path.read_bytes(), path.name
    assert network.training  # the caller's network is unchanged


def test_a_failed_export_leaves_the_folder_unchanged(tokenizer, tmp_path, monkeypatch):
    out = tmp_path / "x.mafsar"
    out.mkdir()
    (out / "old").write_text("kept")
    with pytest.raises(InputError, match="exists already"):
        exporter.export_bundle(random_network(CONFIG), tokenizer, out)
    with pytest.raises(MissingError, match="no such tokenizer file"):
        exporter.export_bundle(random_network(CONFIG), tmp_path / "no.json", out, overwrite=True)

    def fail(*_):
        raise MismatchError("planted")

    monkeypatch.setattr(exporter, "verify_bundle", fail)
    monkeypatch.setattr(exporter, "_write_graphs", lambda *_: None)
    with pytest.raises(MismatchError, match="planted"):
        exporter.export_bundle(random_network(CONFIG), tokenizer, out, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["x.mafsar"]
    assert (out / "old").read_text() == "kept"
    monkeypatch.setattr(exporter, "verify_bundle", lambda *_: Parity())
    exporter.export_bundle(random_network(CONFIG), tokenizer, out, overwrite=True)
    assert sorted(path.name for path in out.iterdir()) == ["bundle.json", "tokenizer.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["x.mafsar"]


def test_verification_detects_another_network(bundle):
    other = random_network(CONFIG, seed=1)
    with pytest.raises(MismatchError, match=r"query-fp32\.onnx: output features differs"):
        exporter.verify_bundle(other, bundle)
    worse = dataclasses.replace(CONFIG, mean=(0.0, 0.0, 0.0))
    with pytest.raises(MismatchError, match="smallest cosine"):
        exporter.verify_bundle(random_network(worse), bundle)


def test_parity_is_measured_row_by_row():
    a = np.array([[1.0, 0.0], [0.0, 2.0]])
    assert compare(a, a) == Parity(0.0, 1.0)
    b = a.copy()
    b[1] = [2.0, 0.0]
    assert compare(a, b) == Parity(2.0, 0.0)
    assert compare(a, np.full_like(a, np.nan)).min_cosine == -1
    assert Parity(1, 0.5).worse(Parity(0.5, 0.1)) == Parity(1, 0.1)
    with pytest.raises(ValueError, match="shapes differ"):
        compare(a, a[:1])
