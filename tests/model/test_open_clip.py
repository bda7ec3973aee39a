"""Plain CLIP against open_clip's own forward pass, and loading its weights by name."""

from __future__ import annotations

import dataclasses
import json

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from mafsar.errors import InputError, MismatchError, UnavailableError
from mafsar.model import sources
from mafsar.model.config import named_config
from mafsar.model.network import empty_network
from mafsar.model.open_clip_config import from_open_clip_json
from mafsar.model.sources import create_network
from mafsar.model.weights import from_open_clip

TINY = {
    "embed_dim": 32,
    "quick_gelu": True,
    "vision_cfg": {
        "image_size": 32,
        "layers": 3,
        "width": 48,
        "head_width": 16,
        "patch_size": 8,
        "mlp_ratio": 2.0,
    },
    "text_cfg": {"context_length": 12, "vocab_size": 60, "width": 32, "heads": 4, "layers": 2},
}


def tiny_open_clip(quick_gelu=True):
    return randomised(open_clip.CLIP(**{**TINY, "quick_gelu": quick_gelu}))


def randomised(model, seed=0):
    """Draws all parameters at random, also LayerNorms and biases, which start as ones and zeros."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def loaded(config, state):
    network = empty_network(config.plain())
    network.load_state_dict(from_open_clip(state, config), assign=True)
    return network.eval()


def relative_error(got, want):
    return float((got - want).abs().max() / want.abs().max())


def assert_same_features(network, theirs, tokens):
    config = network.config
    side = config.vision.image_size
    clips = torch.randn(2, config.frames, 3, side, side, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        features, pooled = network.encode_query(clips)
        want = theirs.encode_image(clips.flatten(0, 1)).unflatten(0, (2, config.frames))
        assert relative_error(features, want) <= 1e-5
        assert relative_error(pooled, want.mean(1)) <= 1e-5
        assert relative_error(network.encode_text(tokens), theirs.encode_text(tokens)) <= 1e-5


@pytest.mark.parametrize("quick_gelu", [True, False])
def test_a_tiny_clip_matches_open_clip(quick_gelu):
    theirs = tiny_open_clip(quick_gelu)
    config = from_open_clip_json(TINY | {"quick_gelu": quick_gelu}, "t")
    tokens = torch.randint(0, 59, (3, 12), generator=torch.Generator().manual_seed(0))
    tokens[torch.arange(3), torch.tensor([4, 11, 1])] = 59
    assert_same_features(loaded(config, theirs.state_dict()), theirs, tokens)


def test_vit_b_32_matches_open_clip():
    theirs = randomised(open_clip.create_model("ViT-B-32-quickgelu", pretrained=None))
    config = dataclasses.replace(named_config("vit-b-32"), frames=2)
    network = loaded(config, theirs.state_dict())
    tokens = open_clip.get_tokenizer("ViT-B-32-quickgelu")(["a photo of juggling", "a"])
    assert_same_features(network, theirs, tokens)


def test_the_wrong_activation_gives_other_features():
    theirs = tiny_open_clip(quick_gelu=True)
    network = loaded(from_open_clip_json(TINY | {"quick_gelu": False}, "t"), theirs.state_dict())
    images = torch.randn(2, 8, 3, 32, 32)
    with torch.inference_mode():
        want = theirs.encode_image(images.flatten(0, 1)).unflatten(0, (2, 8))
        assert relative_error(network.encode_query(images)[0], want) > 1e-3


def variants(state):
    text = ("transformer.", "token_embedding.", "ln_final.", "positional_", "text_projection")
    yield {f"text.{k}" if k.startswith(text) else k: v for k, v in state.items()}
    yield {f"module.{k}": v for k, v in state.items()}
    yield state | {"attn_mask": torch.zeros(12, 12), "context_length": torch.tensor(12)}
    yield {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    split = {}
    for key, value in state.items():
        if ".attn.in_proj_" in key:
            for part, piece in zip("qkv", value.chunk(3), strict=True):
                split[key.replace("in_proj_", f"{part}_proj.")] = piece
        else:
            split[key] = value
    yield split


@pytest.mark.parametrize("index", range(5))
def test_each_form_of_a_state_dict_is_read(index):
    state = tiny_open_clip().state_dict()
    config = from_open_clip_json(TINY, "t")
    want = from_open_clip(state, config)
    got = from_open_clip(list(variants(state))[index], config)
    assert got.keys() == want.keys()
    for name, value in got.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, want[name], rtol=1e-3, atol=1e-3)


def test_missing_and_extra_keys_are_listed():
    state = tiny_open_clip().state_dict()
    config = from_open_clip_json(TINY, "t")
    del state["visual.ln_pre.weight"], state["transformer.resblocks.1.mlp.c_fc.bias"]
    state["visual.head.weight"] = torch.zeros(1)
    with pytest.raises(MismatchError) as raised:
        from_open_clip(state, config)
    message = str(raised.value)
    assert "2 missing: " in message
    assert "visual.ln_pre.weight" in message
    assert "text.transformer.resblocks.1.mlp.c_fc.bias" in message
    assert "1 extra: visual.head.weight" in message
    assert "\n" not in message


def test_a_tensor_of_another_shape_is_named():
    state = tiny_open_clip().state_dict()
    state["visual.proj"] = torch.zeros(48, 31)
    with pytest.raises(MismatchError, match=r"visual\.proj has shape \(48, 31\), needs \(48, 32\)"):
        from_open_clip(state, from_open_clip_json(TINY, "t"))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("vit-b-32:laion2b_s34b_b79k", "trained with gelu; use ViT-B-32:laion2b_s34b_b79k"),
        ("ViT-B-32:openai", "trained with quickgelu; use ViT-B-32-quickgelu:openai"),
        ("vit-b-32:opnai", "did you mean openai?"),
    ],
)
def test_a_tag_that_does_not_fit_is_an_error(name, words):
    with pytest.raises(InputError) as raised:
        create_network(name)
    assert words in str(raised.value)


def test_without_a_network_one_line_says_what_to_do(monkeypatch):
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(sources, "_resolves", lambda _: False)
    monkeypatch.setattr("urllib.request.getproxies", dict)
    with pytest.raises(UnavailableError) as raised:
        create_network("vit-b-32")
    message = str(raised.value)
    assert "vit-b-32:/path/" in message
    assert "vit-b-32:random" in message
    assert "\n" not in message


def test_a_local_open_clip_folder_is_loaded(tmp_path):
    theirs = tiny_open_clip()
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": TINY}))
    with pytest.raises(FileNotFoundError, match="found none"):
        create_network(f"local-dir:{tmp_path}")
    save_file(theirs.state_dict(), tmp_path / "open_clip_model.safetensors")
    network = create_network(f"local-dir:{tmp_path}")
    assert network.config.adapters is None
    match = network.config.match
    assert (match.metric, match.lam, match.views) == ("otam", 0.1, 0.8)
    # exp(log(1 / 0.07)), the initial value of open_clip.
    assert network.config.match.text_scale == pytest.approx(1 / 0.07, rel=1e-4)
    tokens = torch.tensor([[1, 59] + [0] * 10])
    assert_same_features(network, theirs, tokens)
    with_adapters = create_network(f"local-dir:{tmp_path}", adapters=True)
    assert len(with_adapters.tunable_parameters()) > 0
    assert torch.equal(with_adapters.visual.proj, network.visual.proj)
