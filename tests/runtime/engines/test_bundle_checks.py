"""A bundle's manifest is believed only where it fits its table, and its files only by their hash."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mafsar.errors import InputError, MafsarError, MismatchError
from mafsar.model.names import SHIPPED_BUNDLE
from mafsar.runtime.engines.bundle import Bundle
from mafsar.runtime.engines.loading import load_model
from mafsar.runtime.engines.onnx_encoder import OnnxEncoder


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "copy.mafsar"
    shutil.copytree(SHIPPED_BUNDLE, path)
    for file in path.iterdir():
        file.chmod(0o644)
    return path


def change(bundle: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    path = bundle / "bundle.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    edit(manifest)
    path.write_text(json.dumps(manifest), encoding="utf-8")


@pytest.mark.parametrize(
    ("where", "opens"), [("tokenizer.json", True), ("other.bin", False), ("../x.bin", False)]
)
def test_weights_come_from_listed_files_only(bundle: Path, where: str, opens: bool) -> None:
    """A graph that names another file for its weights would run what no hash vouches for."""
    path = bundle / "query-fp32.onnx"
    entry = b"\x0a\x08location\x12" + bytes([len(where)]) + where.encode()
    # An unknown field of the protocol is skipped by whoever loads the graph.
    data = path.read_bytes() + b"\xfa\x3e" + bytes([len(entry)]) + entry
    path.write_bytes(data)
    listed = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    change(bundle, lambda manifest: manifest["files"].update({path.name: listed}))
    if opens:
        Bundle.open(bundle)
    else:
        with pytest.raises(MismatchError, match="takes weights from"):
            Bundle.open(bundle)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("frames", 0),
        ("frames", 10**7),
        ("frames", "8"),
        ("frames", 8.0),
        ("frames", None),
        ("image_size", -1),
        ("image_size", 10**9),
        ("embed_dim", 0),
        ("preprocess.mean", [0.5, 0.5]),
        ("preprocess.mean", [0.5, 0.5, "0.5"]),
        ("preprocess.std", [0, 0, 0]),
        ("preprocess.std", None),
        ("preprocess.size", 113),
        ("preprocess", []),
        ("name", ""),
        ("name", None),
        ("adapters", "perhaps"),
        ("text", "yes"),
        ("prompts", []),
        ("prompts", "a {}"),
        ("known_words", "all"),
        ("match.lam", 0),
        ("match.lam", -1.0),
        ("match.visual_scale", -5),
        ("match.metric", "dtw"),
        ("match.alpha", 1.5),
        ("match", {}),
        ("weights_sha256", "x"),
        ("parameters_total", -1),
        ("files", []),
        ("files", {"a": 1}),
        ("files.text.onnx", None),
        ("tokenizer", None),
        ("tokenizer.file", "../tokenizer.json"),
        ("tokenizer.context_length", 0),
        ("tokenizer.cleaning", "hard"),
    ],
)
def test_entries_that_are_not_what_they_should_be(bundle: Path, place: str, value: Any) -> None:
    def edit(manifest: dict[str, Any]) -> None:
        if place == "files.text.onnx":
            manifest["files"]["text.onnx"] = value
            return
        *folders, last = place.split(".")
        for name in folders:
            manifest = manifest[name]
        manifest[last] = value

    change(bundle, edit)
    with pytest.raises(InputError, match=r"bundle\.json: damaged manifest") as caught:
        Bundle.open(bundle)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "{" * 9, "", "[]", "null", '"a"', '{"schema": 1}', '{"schema": NaN}',
             '{"schema": ' + "9" * 5000 + "}"],
    ids=range(9),
)  # fmt: skip
def test_manifests_that_are_no_manifest(bundle: Path, text: str) -> None:
    (bundle / "bundle.json").write_text(text, encoding="utf-8")
    with pytest.raises(MafsarError) as caught:
        Bundle.open(bundle)
    assert "\n" not in str(caught.value)


def _with_graph(bundle: Path, edit: Callable[[Any], None]) -> OnnxEncoder:
    """The bundle with another query graph, whose hash its manifest has."""
    onnx = pytest.importorskip("onnx", reason="the graph is changed with the onnx package")
    path = bundle / "query-fp32.onnx"
    model = onnx.load(str(path), load_external_data=False)
    edit(model.graph)
    onnx.save(model, str(path))
    data = path.read_bytes()
    listed = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    change(bundle, lambda manifest: manifest["files"].update({path.name: listed}))
    return OnnxEncoder(Bundle.open(bundle), device="cpu")


def _after(graph: Any, output: str, operator: str, *constants: np.ndarray, **options: Any) -> None:
    """Puts one node behind an output."""
    from onnx import helper, numpy_helper

    for node in graph.node:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                if name == output:
                    names[i] = f"{output}_before"
    names = [f"{output}_constant_{i}" for i in range(len(constants))]
    for name, constant in zip(names, constants, strict=True):
        graph.initializer.append(numpy_helper.from_array(constant, name))
    graph.node.append(helper.make_node(operator, [f"{output}_before", *names], [output], **options))


def _black(encoder: Any) -> np.ndarray:
    size = encoder.spec.image_size
    return np.zeros((1, encoder.spec.frames, size, size, 3), np.uint8)


@pytest.mark.parametrize("output", ["features", "pooled"])
def test_features_that_are_not_finite(bundle: Path, output: str) -> None:
    nan = np.full(1, np.nan, np.float32)
    encoder = _with_graph(bundle, lambda graph: _after(graph, output, "Add", nan))
    with pytest.raises(MismatchError, match="not finite"):
        encoder.encode_query(_black(encoder))


def test_features_of_another_number_of_frames(bundle: Path) -> None:
    def edit(graph: Any) -> None:
        (output,) = (each for each in graph.output if each.name == "features")
        output.type.tensor_type.shape.dim[1].Clear()
        bounds = [np.array([value], np.int64) for value in (0, 4, 1)]
        _after(graph, "features", "Slice", *bounds)

    encoder = _with_graph(bundle, edit)
    width = encoder.spec.embed_dim
    with pytest.raises(
        MismatchError, match=rf"shape \(1, 4, {width}\), its manifest says \(1, 8, {width}\)"
    ):
        encoder.encode_query(_black(encoder))


def test_a_pipe_is_no_model(tmp_path: Path) -> None:
    """Opening one waits for a writer that never comes."""
    run = tmp_path / "run"
    run.mkdir()
    pipe, inner = tmp_path / "pipe.safetensors", run / "adapters.safetensors"
    os.mkfifo(pipe)
    os.mkfifo(inner)
    for name in (pipe, run):
        with pytest.raises(InputError, match="is a pipe"):
            load_model(name)
