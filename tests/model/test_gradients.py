"""The parameters that training tunes, and no others, get a gradient."""

from __future__ import annotations

import torch

from mafsar.model.class_scores import class_scores
from mafsar.model.network import TUNABLE_PREFIXES
from mafsar.model.prototypes import class_prototypes


def episode_loss(network):
    """One 2-way 1-shot episode through both branches and both scores."""
    config = network.config
    side = config.vision.image_size
    generator = torch.Generator().manual_seed(1)
    shape = (4, config.frames, 3, side, side)
    x = torch.randn(shape, generator=generator).to(network.logit_scale.dtype)
    with torch.no_grad():
        text = network.encode_text(torch.tensor([[1, 2, 19, 0, 0, 0, 0], [3, 19, 0, 0, 0, 0, 0]]))
    support, _ = network.encode_support(x[:2], text)
    query, pooled = network.encode_query(x[2:])
    prototypes = class_prototypes(support, torch.tensor([0, 1]), 2)
    scores = class_scores(query, prototypes, config.match, pooled=pooled, text=text * 0.01)
    # With text_scale 100 the softmax saturates on random features; logits keep the gradient.
    return -scores.visual_logits.log_softmax(-1)[:, 0].sum() + 0.01 * scores.text_logits[:, 0].sum()


def test_gradients_reach_the_tuned_parameters_and_no_others(small_config, make_network):
    network = make_network(small_config)
    episode_loss(network).backward()
    names = [name for name, _ in network.named_parameters()]
    for kind in (".gta.", ".lma.adapter.", ".text_fc.", ".joint.", "temporal_embedding", "tpcm."):
        assert any(kind in name for name in names), kind
    for name, parameter in network.named_parameters():
        if name.startswith(TUNABLE_PREFIXES):
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            # A bias of keys shifts all scores of a softmax equally: its gradient is only rounding.
            if name == "tpcm.attn.in_proj_bias":
                width = small_config.embed_dim
                assert parameter.grad[:width].abs().max() > 0
                assert parameter.grad[2 * width :].abs().max() > 0
            else:
                assert parameter.grad.abs().max() > 1e-9, name
        else:
            assert not parameter.requires_grad, name
            assert parameter.grad is None, name


def test_tunable_and_frozen_parameters_are_the_whole_network(small_config, make_network):
    network = make_network(small_config)
    tuned, frozen = network.tunable_parameters(), network.frozen_parameters()
    assert not tuned.keys() & frozen.keys()
    assert tuned.keys() | frozen.keys() == {name for name, _ in network.named_parameters()}
    assert all(p.requires_grad for p in tuned.values())
    assert not any(p.requires_grad for p in frozen.values())


def test_the_first_step_of_a_new_network_changes_weights(small_config):
    from mafsar.model.network import build_network

    network = build_network(small_config)
    episode_loss(network).backward()
    moved = {name for name, p in network.tunable_parameters().items() if p.grad.abs().max() > 0}
    # Adapters start off: only their second layer has a gradient in the first step.
    assert "adapters.blocks.0.gta.adapter.up.weight" in moved
    assert "adapters.blocks.0.gta.adapter.down.weight" not in moved
    assert "adapters.blocks.0.lma.text_fc.weight" in moved
    assert "adapters.temporal_embedding" in moved
    assert "tpcm.attn.out_proj.weight" in moved
    worst = max(p.grad.abs().max() for p in network.tunable_parameters().values())
    assert worst < 1e4
