"""CLIP's ResNet: against open_clip's own forward pass, its counts, and what it refuses."""

from __future__ import annotations

import dataclasses

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from mafsar.errors import InputError, MismatchError
from mafsar.model.config import (
    AdapterConfig,
    ModelConfig,
    ResNetConfig,
    named_config,
    parameter_counts,
)
from mafsar.model.network import MafsarNetwork, build_network, empty_network
from mafsar.model.open_clip_config import from_open_clip_json
from mafsar.model.sources import create_network
from mafsar.model.weights import from_open_clip
from mafsar.runtime.report.describe import describe

SMALL = {
    "embed_dim": 24,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 64, "layers": [2, 1, 3, 1], "width": 8, "head_width": 32},
    "text_cfg": {"context_length": 12, "vocab_size": 60, "width": 32, "heads": 4, "layers": 1},
}


def randomised(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Draws all values at random, also batch norms with their statistics, which start as 1 and 0."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.ndim == 1 and value.is_floating_point():
                noise = torch.randn(value.shape, generator=generator)
                value.add_(0.1 * noise.abs() if name.endswith("running_var") else 0.1 * noise)
            if name.endswith("bn3.weight"):
                value.add_(1)
    return model.eval()


def loaded(config: ModelConfig, state: dict[str, torch.Tensor]) -> MafsarNetwork:
    network = empty_network(config.plain())
    network.load_state_dict(from_open_clip(state, config), assign=True)
    return network.eval()


def relative_error(got: torch.Tensor, want: torch.Tensor) -> float:
    return float((got - want).abs().max() / want.abs().max())


def assert_same_features(network: MafsarNetwork, theirs: torch.nn.Module, clips: int) -> None:
    config = network.config
    side = config.vision.image_size
    shape = (clips, config.frames, 3, side, side)
    pixels = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        features, pooled = network.encode_query(pixels)
        want = theirs.encode_image(pixels.flatten(0, 1)).unflatten(0, shape[:2])
    assert relative_error(features, want) <= 1e-5
    assert relative_error(pooled, want.mean(1)) <= 1e-5


def test_a_small_resnet_matches_open_clip() -> None:
    theirs = randomised(open_clip.CLIP(**SMALL))
    config = from_open_clip_json(SMALL, "small")
    assert config.vision == ResNetConfig((2, 1, 3, 1), 8, 64, 32)
    network = loaded(config, theirs.state_dict())
    assert_same_features(network, theirs, clips=2)
    count = sum(p.numel() for p in theirs.parameters())
    assert parameter_counts(config.plain()) == (count, 0)


def test_rn50_matches_open_clip() -> None:
    theirs = randomised(open_clip.create_model("RN50-quickgelu", pretrained=None))
    config = dataclasses.replace(named_config("rn50"), frames=2)
    assert_same_features(loaded(config, theirs.state_dict()), theirs, clips=1)


def test_the_sizes_of_rn50_match_the_paper() -> None:
    """E = 1024, a fully tuned tower and a prototype module, nothing else."""
    network = empty_network(named_config("rn50"))
    total = sum(value.numel() for value in network.parameters())
    tuned = sum(value.numel() for value in network.tunable_parameters().values())
    assert (total, tuned) == parameter_counts(named_config("rn50"))
    prototypes = 12 * 1024**2 + 9 * 1024
    assert tuned == 38_316_896 + prototypes
    assert {name.split(".")[0] for name in network.tunable_parameters()} == {"visual", "tpcm"}
    facts = describe("rn50")
    assert (facts["parameters_total"], facts["parameters_tunable"]) == (total, tuned)
    assert (facts["embed_dim"], facts["adapters"], facts["tuned"]) == (1024, "none", "none")


def test_features_do_not_depend_on_neighbouring_clips_in_training() -> None:
    config = from_open_clip_json(SMALL, "small")
    network = build_network(config, seed=1).train()
    pixels = torch.randn(3, 8, 3, 64, 64)
    before = {name: value.clone() for name, value in network.named_buffers()}
    alone, _ = network.encode_query(pixels[:1])
    together, _ = network.encode_query(pixels)
    torch.testing.assert_close(together[:1], alone, rtol=1e-4, atol=1e-5)
    together.square().mean().backward()
    tuned = network.tunable_parameters()
    assert all(value.grad is not None for name, value in tuned.items() if "visual" in name)
    assert all(torch.equal(value, before[name]) for name, value in network.named_buffers())
    # The text changes the prototypes, as in a transformer's support branch.
    support, _ = network.encode_support(pixels[:1], torch.randn(1, 24))
    assert not torch.allclose(support, alone)


def test_recomputing_gives_the_same_gradients() -> None:
    config = from_open_clip_json(SMALL, "small")
    gradients = []
    for recompute in (False, True):
        network = build_network(config, seed=1)
        network.recompute = recompute
        pixels = torch.randn(1, 8, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        network.encode_query(pixels)[0].square().mean().backward()
        gradients.append({k: v.grad for k, v in network.tunable_parameters().items()})
    for name, value in gradients[0].items():
        if value is not None:
            torch.testing.assert_close(gradients[1][name], value, rtol=1e-5, atol=1e-7)


def test_weights_come_by_name_from_a_folder(tmp_path) -> None:
    import json

    theirs = randomised(open_clip.CLIP(**SMALL))
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": SMALL}))
    state = {name: value.contiguous() for name, value in theirs.state_dict().items()}
    save_file(state, tmp_path / "open_clip_model.safetensors")
    assert_same_features(create_network(f"local-dir:{tmp_path}"), theirs, clips=1)
    del state["visual.layer3.1.bn2.running_mean"]
    with pytest.raises(MismatchError, match=r"1 missing: visual\.layer3\.1\.bn2\.running_mean"):
        from_open_clip(state, from_open_clip_json(SMALL, "small"))


def test_a_resnet_has_no_adapters() -> None:
    config = named_config("rn50")
    with pytest.raises(InputError, match="has no tokens to adapt"):
        dataclasses.replace(config, adapters=AdapterConfig())
    assert ModelConfig.from_json(config.to_json()) == config
    with pytest.raises(InputError, match="multiple of 32"):
        ResNetConfig((3, 4, 6, 3), 64, 225)
