"""Every block and the whole encoder against the float64 restatement of the method."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from mafsar.errors import InputError
from mafsar.model.adapters import VideoAdapters
from mafsar.model.config import AdapterConfig
from mafsar.model.encoder import adapted_block, encode_frames

CLOSE = {"rtol": 1e-9, "atol": 1e-9}  # float64 on both sides


def sizes(config):
    vision = config.vision
    return {"layers": vision.layers, "heads": vision.heads, "act": vision.activation}


def clips(config, batch=2, seed=0):
    side = config.vision.image_size
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, config.frames, 3, side, side, generator=generator).double()


def texts(config, batch=2, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, config.embed_dim, generator=generator).double()


@pytest.mark.parametrize("branch", ["query", "support"])
@pytest.mark.parametrize("activation", ["quickgelu", "gelu"])
def test_each_block_matches_the_restatement(
    branch, activation, small_config, make_network, weights_of, restatement
):
    vision = dataclasses.replace(small_config.vision, activation=activation)
    config = dataclasses.replace(small_config, vision=vision)
    network = make_network(config)
    weights = weights_of(network)
    batch, tokens = 2, vision.patches + 1
    z = torch.randn(
        batch * config.frames, tokens, vision.width, generator=torch.Generator().manual_seed(5)
    ).double()
    text = texts(config) if branch == "support" else None
    for index, block in enumerate(network.visual.transformer.resblocks):
        parts = network.adapters.blocks[index]
        for last in (False, True):
            with torch.no_grad():
                got = adapted_block(block, parts, z, text, frames=config.frames, last=last)
            for video in range(batch):
                frames = slice(video * config.frames, (video + 1) * config.frames)
                word = None if text is None else text[video].numpy()
                want = restatement.adapted_block(
                    z[frames].numpy(), word, weights, index, vision.heads, activation, 0.5
                )
                want = want[:, :1] if last else want
                np.testing.assert_allclose(got[frames].numpy(), want, **CLOSE)


@pytest.mark.parametrize("branch", ["query", "support"])
def test_the_whole_network_matches_the_restatement(
    branch, small_config, make_network, weights_of, restatement
):
    network = make_network(small_config)
    weights = weights_of(network)
    x = clips(small_config)
    text = texts(small_config) if branch == "support" else None
    with torch.no_grad():
        raw = encode_frames(network.visual, network.adapters, x, text)
        features, pooled = network.encode_support(x, text)
    for video in range(len(x)):
        word = None if text is None else text[video].numpy()
        want = restatement.encode_video(x[video].numpy(), word, weights, **sizes(small_config))
        np.testing.assert_allclose(raw[video].numpy(), want, **CLOSE)
        np.testing.assert_allclose(pooled[video].numpy(), want.mean(0), **CLOSE)
        mixed = restatement.tpcm(want, word, weights, heads=8)
        np.testing.assert_allclose(features[video].numpy(), mixed, **CLOSE)


def test_a_plain_clip_matches_the_restatement(small_config, make_network, weights_of, restatement):
    network = make_network(small_config.plain())
    x = clips(small_config)
    with torch.no_grad():
        features, pooled = network.encode_query(x)
    for video in range(len(x)):
        want = restatement.encode_video(
            x[video].numpy(), None, weights_of(network), **sizes(small_config), plain=True
        )
        np.testing.assert_allclose(features[video].numpy(), want, **CLOSE)
        np.testing.assert_allclose(pooled[video].numpy(), want.mean(0), **CLOSE)


def test_the_text_tower_matches_the_restatement(
    small_config, make_network, weights_of, restatement
):
    network = make_network(small_config)
    # 19, the highest id, is the end token, where each sentence is read.
    tokens = torch.tensor([[1, 5, 19, 0, 0, 0, 0], [1, 2, 3, 4, 5, 6, 19], [19, 0, 0, 0, 0, 0, 0]])
    with torch.no_grad():
        got = network.encode_text(tokens).numpy()
    for row, sentence in enumerate(tokens.numpy()):
        want = restatement.encode_text(
            sentence, weights_of(network), layers=2, heads=2, act="quickgelu"
        )
        np.testing.assert_allclose(got[row], want, **CLOSE)


def test_float32_is_near_the_restatement(small_config, make_network, weights_of, restatement):
    network = make_network(small_config, dtype=torch.float32)
    x, text = clips(small_config).float(), texts(small_config).float()
    with torch.no_grad():
        features, _ = network.encode_support(x, text)
    weights = weights_of(network)
    for video in range(len(x)):
        word = text[video].double().numpy()
        raw = restatement.encode_video(
            x[video].double().numpy(), word, weights, **sizes(small_config)
        )
        want = restatement.tpcm(raw, word, weights, heads=8)
        error = np.abs(features[video].numpy() - want).max() / np.abs(want).max()
        assert error < 1e-5


def test_uint8_frames_are_normalised_as_clip_does(small_config, make_network):
    network = make_network(small_config)
    side, frames = small_config.vision.image_size, small_config.frames
    pixels = torch.randint(0, 256, (1, frames, side, side, 3), dtype=torch.uint8)
    by_hand = np.empty((1, frames, 3, side, side))
    for channel in range(3):
        mean, std = small_config.mean[channel], small_config.std[channel]
        by_hand[:, :, channel] = (pixels[..., channel].numpy() / 255 - mean) / std
    with torch.no_grad():
        got, _ = network.encode_query(pixels)
        want, _ = network.encode_query(torch.from_numpy(by_hand))
    # The constants are stored in float32.
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)


def test_support_with_text_is_not_the_query_branch(small_config, make_network):
    network = make_network(small_config)
    x, text = clips(small_config), texts(small_config)
    with torch.no_grad():
        query, pooled_query = network.encode_query(x)
        support, pooled_support = network.encode_support(x, text)
        other, _ = network.encode_support(x, text.flip(0))
        off, _ = network.encode_support(x, None)
    assert (query - support).abs().max() > 1e-3
    assert (pooled_query - pooled_support).abs().max() > 1e-3
    assert (other - support).abs().max() > 1e-3
    assert torch.equal(off, query)


def test_the_order_of_frames_matters_through_the_temporal_embedding(small_config, make_network):
    network = make_network(small_config)
    x = clips(small_config)
    order = torch.tensor([2, 0, 3, 1])
    with torch.no_grad():
        straight, _ = network.encode_query(x)
        shuffled, _ = network.encode_query(x[:, order])
        assert (shuffled - straight[:, order]).abs().max() > 1e-3
        network.adapters.temporal_embedding.zero_()
        straight, _ = network.encode_query(x)
        shuffled, _ = network.encode_query(x[:, order])
    # Without it a permutation of the frames only permutes the features.
    torch.testing.assert_close(shuffled, straight[:, order])


def test_clips_of_a_batch_are_independent(small_config, make_network):
    network = make_network(small_config)
    x, text = clips(small_config, batch=3), texts(small_config, batch=3)
    with torch.no_grad():
        together, _ = network.encode_support(x, text)
        alone = [network.encode_support(x[i : i + 1], text[i : i + 1])[0] for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone))


@pytest.mark.parametrize("part", ["gta", "lma", "lma_text", "joint", "temporal", "tpcm"])
def test_each_part_can_be_switched_off(part, small_config, make_network):
    whole = make_network(small_config)
    parts = dataclasses.replace(AdapterConfig(), **{part: False})
    less = make_network(dataclasses.replace(small_config, adapters=parts))
    kept = {k: v for k, v in whole.state_dict().items() if k in less.state_dict()}
    less.load_state_dict(kept)
    assert len(kept) < len(whole.state_dict())
    x, text = clips(small_config), texts(small_config)
    with torch.no_grad():
        assert (
            less.encode_support(x, text)[0] - whole.encode_support(x, text)[0]
        ).abs().max() > 1e-4
        query = (less.encode_query(x)[0] - whole.encode_query(x)[0]).abs().max()
    assert query == 0 if part == "lma_text" else query > 1e-4


def test_with_every_part_off_it_is_plain_clip(small_config, make_network):
    parts = AdapterConfig(
        gta=False, lma=False, lma_text=False, joint=False, temporal=False, tpcm=False
    )
    off = make_network(dataclasses.replace(small_config, adapters=parts))
    plain = make_network(small_config.plain())
    x = clips(small_config)
    with torch.no_grad():
        torch.testing.assert_close(off.encode_query(x), plain.encode_query(x))


def test_a_fresh_adapter_is_off_but_the_extra_tokens_are_not(small_config):
    from mafsar.model.network import build_network

    fresh, plain = build_network(small_config), build_network(small_config.plain())
    assert isinstance(fresh.adapters, VideoAdapters)
    x = clips(small_config).float()
    z = torch.randn(2, 5, 24)
    with torch.no_grad():
        for parts in fresh.adapters.blocks:
            assert not parts.lma.adapter(z).any()
            assert parts.lma.text_fc.weight.any()
        # Every attention has one more key, so zero adapters do not give plain CLIP.
        assert (fresh.encode_query(x)[0] - plain.encode_query(x)[0]).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("shape", "dtype", "words"),
    [
        ((1, 5, 12, 12, 3), torch.uint8, "fixed by the model"),
        ((1, 4, 12, 13, 3), torch.uint8, "(1, 4, 12, 13, 3)"),
        ((1, 4, 12, 12, 3), torch.float32, "(B, 4, 3, 12, 12)"),
        ((4, 12, 12, 3), torch.uint8, "(B, 4, 12, 12, 3)"),
        ((1, 4, 12, 12, 3), torch.int64, "int64"),
    ],
)
def test_wrong_frames_are_refused(shape, dtype, words, small_config, make_network):
    with pytest.raises(InputError) as raised:
        make_network(small_config).encode_query(torch.zeros(shape, dtype=dtype))
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_wrong_text_and_tokens_are_refused(small_config, make_network):
    network = make_network(small_config)
    with pytest.raises(InputError, match=r"text must have shape \(2, 16\)"):
        network.encode_support(clips(small_config), torch.zeros(1, 16).double())
    with pytest.raises(InputError, match=r"tokens must have shape \(B, 7\)"):
        network.encode_text(torch.zeros(1, 8, dtype=torch.int64))
