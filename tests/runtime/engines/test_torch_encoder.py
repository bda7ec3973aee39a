"""The torch engine behind the encoder protocol."""

from __future__ import annotations

import dataclasses

import numpy as np
import open_clip
import pytest
import torch

from mafsar.errors import InputError, UnavailableError
from mafsar.model.network import build_network
from mafsar.model.sources import create_network
from mafsar.model.weights import save_weights, weights_sha256
from mafsar.runtime.encoder import Encoder
from mafsar.runtime.engines.torch_encoder import TorchEncoder, load_torch_encoder


@pytest.fixture
def clips(small_config):
    side = small_config.vision.image_size
    shape = (3, small_config.frames, side, side, 3)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_it_follows_the_protocol_and_gives_the_network_s_features(
    small_config, make_network, clips
):
    network = make_network(small_config, dtype=torch.float32)
    encoder = TorchEncoder(network, device="cpu")
    assert isinstance(encoder, Encoder)
    text = np.random.default_rng(1).normal(size=(3, 16)).astype(np.float32)
    with torch.inference_mode():
        query = network.encode_query(torch.from_numpy(clips))
        support = network.encode_support(torch.from_numpy(clips), torch.from_numpy(text))
    for features, want in (
        (encoder.encode_query(clips), query),
        (encoder.encode_support(clips, None), query),
        (encoder.encode_support(clips, text), support),
    ):
        np.testing.assert_array_equal(features.frames, want[0].numpy())
        np.testing.assert_array_equal(features.pooled, want[1].numpy())
        assert features.frames.dtype == np.float32
    spec = encoder.spec
    assert (spec.adapters, spec.text_in_support, spec.scoring.metric) == ("trained", True, "otam")
    assert spec.weights_sha256 == weights_sha256(network)


def test_long_calls_are_split(small_config, make_network, clips, monkeypatch):
    encoder = TorchEncoder(make_network(small_config, dtype=torch.float32), device="cpu")
    whole = encoder.encode_query(clips)
    monkeypatch.setattr("mafsar.runtime.engines.torch_encoder._MAX_BATCH", 2)
    parts = encoder.encode_query(clips)
    np.testing.assert_allclose(parts.frames, whole.frames, rtol=1e-5, atol=1e-5)


def test_a_clip_model_by_name_runs_without_adapters(capsys):
    encoder = load_torch_encoder("tiny:random", device="cpu")
    spec = encoder.spec
    assert (spec.name, spec.backbone, spec.adapters) == ("tiny:random", "tiny", "none")
    assert spec.scoring.metric == "mean"
    assert "random weights" in (spec.notice or "")
    assert spec.parameters_tunable > 0  # what training would tune
    with pytest.raises(InputError, match="no support branch"):
        encoder.encode_support(
            np.zeros((1, 8, spec.image_size, spec.image_size, 3), np.uint8),
            np.zeros((1, spec.embed_dim), np.float32),
        )
    assert capsys.readouterr().out == ""


def test_trained_adapters_are_loaded_from_a_folder(tmp_path):
    network = create_network("tiny:random", adapters=True)
    save_weights(network, tmp_path / "adapters.safetensors", tunable_only=True)
    encoder = load_torch_encoder(str(tmp_path), device="cpu")
    assert encoder.spec.adapters == "trained"
    assert encoder.spec.path == str(tmp_path.resolve())
    assert encoder.spec.weights_sha256 == weights_sha256(network)


def test_text_is_the_mean_over_the_prompts_by_open_clip_s_tokenizer(small_config):
    text = dataclasses.replace(small_config.text, vocab_size=49408, context_length=77)
    config = dataclasses.replace(small_config, text=text, prompts=("a photo of {}", "{}, again"))
    network = build_network(config)
    encoder = TorchEncoder(network, device="cpu")
    got = encoder.encode_text(["Café &amp; bar", "running"])
    tokenize = open_clip.get_tokenizer("ViT-B-32-quickgelu")
    for row, words in zip(got, ["Café &amp; bar", "running"], strict=True):
        tokens = tokenize([f"a photo of {words}", f"{words}, again"])
        with torch.inference_mode():
            want = network.encode_text(tokens).mean(0).numpy()
        np.testing.assert_allclose(row, want, rtol=1e-5, atol=1e-6)
    assert encoder.encode_text([]).shape == (0, config.embed_dim)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"device": "gpu"}, InputError, "auto, cpu, cuda or cuda:N, got 'gpu'"),
        ({"device": "cuda:99"}, UnavailableError, "device='cuda:99': torch sees"),
        ({"precision": "fp16"}, UnavailableError, "precision='fp16'"),
        ({"precision": "int8"}, UnavailableError, "precision='int8'"),
        ({"threads": 0}, InputError, "threads must be ≥ 1"),
    ],
)
def test_unavailable_choices_are_errors(options, error, words):
    with pytest.raises(error) as raised:
        load_torch_encoder("tiny:random", **{"device": "cpu", **options})
    assert words in str(raised.value)


def test_a_network_without_a_tokenizer_is_an_error(small_config, make_network):
    encoder = TorchEncoder(make_network(small_config, dtype=torch.float32), device="cpu")
    with pytest.raises(UnavailableError, match="no tokenizer for its 20 tokens"):
        encoder.encode_text(["running"])


def test_an_empty_batch_is_an_error(small_config, make_network, clips):
    encoder = TorchEncoder(make_network(small_config, dtype=torch.float32), device="cpu")
    with pytest.raises(InputError, match="at least one clip"):
        encoder.encode_query(clips[:0])
    with pytest.raises(
        InputError, match="the number of frames and the size are fixed by the model"
    ):
        encoder.encode_query(clips[:, :2])
