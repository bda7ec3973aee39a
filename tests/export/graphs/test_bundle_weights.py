"""A bundle gives back its network bit by bit, or is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from mafsar.errors import MismatchError, MissingError, UnavailableError
from mafsar.export.graphs.network_bundle import export_bundle
from mafsar.model.bundle_weights import load_bundle_network
from mafsar.model.network import MafsarNetwork
from mafsar.model.sources import load_trained
from mafsar.model.weights import weights_sha256
from mafsar.runtime.engines.loading import load_model


def same(a: MafsarNetwork, b: MafsarNetwork) -> bool:
    left, right = a.state_dict(), b.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def test_the_network_comes_back_bit_by_bit(
    small: Path, make_network: Callable[..., MafsarNetwork]
) -> None:
    network = load_bundle_network(small)
    assert same(network, make_network())
    assert same(load_trained(small), network)
    assert not network.training


def test_plain_clip_comes_back(
    make_network: Callable[..., MafsarNetwork], tokenizer: Path, tmp_path: Path
) -> None:
    plain = make_network(make_network().config.plain(), seed=2)
    again = load_bundle_network(export_bundle(plain, tokenizer, tmp_path / "p.mafsar"))
    assert same(again, plain)
    assert again.config == plain.config


def test_a_bundle_runs_on_torch_as_on_onnx_runtime(small: Path) -> None:
    by_onnx, by_torch = (load_model(small, engine=name, device="cpu") for name in ("onnx", "torch"))
    assert by_torch.spec == by_onnx.spec
    assert by_torch.spec.known_words == {"a"}
    clips = np.random.default_rng(0).integers(0, 256, (3, 4, 32, 32, 3), dtype=np.uint8)
    text = by_onnx.encode_text(["a", "b", "a"])
    np.testing.assert_allclose(by_torch.encode_text(["a", "b", "a"]), text, rtol=1e-5, atol=1e-5)
    for words in (None, text):
        wanted, found = (e.encode_support(clips, words) for e in (by_onnx, by_torch))
        np.testing.assert_allclose(found.frames, wanted.frames, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(found.pooled, wanted.pooled, rtol=1e-4, atol=1e-4)


def test_every_graph_names_its_weights(small: Path) -> None:
    """Only small constants have no parameter's name."""
    names = set(load_bundle_network(small).state_dict())
    for path in small.glob("*.onnx"):
        for tensor in onnx.load(str(path)).graph.initializer:
            if tensor.data_type == onnx.TensorProto.FLOAT and np.prod(tensor.dims) > 64:
                bare = tensor.name.removesuffix(".T")
                assert bare in names or bare.rpartition(".")[0] in names or bare == "triu"


def test_other_weights_are_refused(bundle_copy: Path) -> None:
    """A tensor with the right name and shape in which one bit differs."""
    path = bundle_copy / "text.onnx"
    model = onnx.load(str(path), load_external_data=False)
    (tensor,) = (t for t in model.graph.initializer if t.name == "text.ln_final.bias")
    values = onnx.numpy_helper.to_array(tensor).copy()
    values[3] = np.nextafter(values[3], 2)
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    path.write_bytes(model.SerializeToString())
    with pytest.raises(MismatchError, match="differ from its manifest"):
        load_bundle_network(bundle_copy)


def test_graphs_without_names_are_refused(bundle_copy: Path) -> None:
    path = bundle_copy / "query-fp32.onnx"
    (bundle_copy / "support-fp32.onnx").unlink()
    model = onnx.load(str(path), load_external_data=False)
    for tensor in model.graph.initializer:
        if tensor.name == "visual.transformer.resblocks.0.mlp.c_fc.weight.T":
            tensor.name = "val_291"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UnavailableError, match=r"do not contain visual\.\S+c_fc\.weight by name"):
        load_bundle_network(bundle_copy)


def test_a_folder_that_is_not_a_bundle_is_refused(tmp_path: Path, small: Path) -> None:
    with pytest.raises(MissingError, match="not a complete bundle"):
        load_bundle_network(tmp_path)
    (tmp_path / "bundle.json").write_text((small / "bundle.json").read_text())
    with pytest.raises(MissingError, match="contains no graphs"):
        load_bundle_network(tmp_path)
    manifest = json.loads((small / "bundle.json").read_text())
    assert manifest["weights_sha256"] == weights_sha256(load_bundle_network(small))
