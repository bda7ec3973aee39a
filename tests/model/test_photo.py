"""The frozen photo embedding beside the tower, against plain statements of its parts."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from mafsar.errors import InputError
from mafsar.model.config import ModelConfig, named_config, parameter_counts
from mafsar.model.network import build_network
from mafsar.model.photo import running_sums
from mafsar.model.photo_table import PEOPLE_BLOCKS, PHOTO_SIZE, PhotoConfig

TINY = named_config("tiny")
WIDE = dataclasses.replace(TINY, photo=PhotoConfig(things=12, people=5, sums=3.0))


@pytest.fixture(scope="module")
def network():
    return build_network(WIDE, seed=3)


@pytest.fixture(scope="module")
def frames():
    return torch.randint(0, 256, (1, 8, PHOTO_SIZE, PHOTO_SIZE, 3), dtype=torch.uint8)


def _convolve(x, layer, stride=1, groups=1, before=None):
    """A convolution with zeros around: `before` on the left and above, the rest on the other sides."""
    kernel = layer.weight.shape[-1]
    before = kernel // 2 if before is None else before
    after = kernel - stride - before if stride > 1 and before != kernel // 2 else kernel // 2
    x = F.pad(x, (before, after, before, after))
    return F.conv2d(x, layer.weight, layer.bias, stride, groups=groups)


def test_people_are_seen_by_blazeposes_backbone(network):
    people, x = network.photo.people, torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        wanted = _convolve(x, people.first, 2).clamp(0, 6)
        for block, sizes in zip(people.blocks, PEOPLE_BLOCKS, strict=True):
            inner = wanted if sizes.expand == 1 else _convolve(wanted, block.expand).clamp(0, 6)
            inner = _convolve(inner, block.depthwise, sizes.stride, inner.shape[1]).clamp(0, 6)
            inner = _convolve(inner, block.project)
            same = sizes.stride == 1 and sizes.in_channels == sizes.out_channels
            wanted = wanted + inner if same else inner
        wanted = _convolve(wanted, people.expand).clamp(0, 6)
        for layer in (people.mix, people.look):
            wanted = _convolve(wanted, layer, groups=576).clamp(0, 6)
        wanted = _convolve(wanted, people.project).clamp(0, 6)
        torch.testing.assert_close(people(x), wanted)
    assert wanted.shape == (2, 192, 2, 2)


def test_the_photo_embedding_is_behind_the_towers_features(network, frames):
    plain = build_network(TINY)
    state = network.state_dict()
    plain.load_state_dict({name: state[name] for name in plain.state_dict()})
    pixels = frames.float().permute(0, 1, 4, 2, 3)
    half = F.avg_pool2d(pixels.flatten(0, 1), 2).unflatten(0, (1, 8))
    with torch.no_grad():
        features, pooled = network.encode_query(frames)
        wanted, means = plain.encode_query(plain.scale_pixels(half))
    assert features.shape == (1, 8, 128 + 29)
    assert pooled.shape == (1, 128 + 29)
    torch.testing.assert_close(features[..., :128], wanted, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(pooled[:, :128], means, atol=1e-4, rtol=1e-4)
    assert not pooled[:, 128:].any(), "no text belongs to the photo embedding"


def test_cells_of_the_maps_are_means_over_overlapping_squares(network, frames):
    photo, stem = network.photo, network.visual.stem
    pixels = frames[0, :1].permute(0, 3, 1, 2) / 255
    images = network.scale_pixels(pixels * 255)
    with torch.no_grad():
        things, people = photo.pooled(images, pixels, stem)
        coarse = stem.maps(images)[1]
        for block in photo.things:
            coarse = block(coarse)
        seen = photo.people(pixels)
    cells = things.reshape(320, 3, 3)
    torch.testing.assert_close(cells[:, 2, 0], coarse[0, :, 4:7, 0:3].mean((1, 2)))
    corners = people.reshape(192, 2, 2)
    torch.testing.assert_close(corners[:, 0, 1], seen[0, :, 0:4, 3:7].mean((1, 2)))


def test_running_sums_of_things_are_behind_the_others(network, frames):
    with torch.no_grad():
        features, _ = network.encode_query(frames)
    things, sums = features[0, :, 128:140].double(), features[0, :, 145:].double()
    wanted, so_far = [], torch.zeros(12, dtype=torch.float64)
    for row in things:
        so_far = so_far + row - things.mean(dim=0)
        wanted.append(3 * so_far / 8)
    torch.testing.assert_close(sums, torch.stack(wanted), atol=1e-5, rtol=1e-4)


def test_running_sums_change_their_sign_backwards():
    forth = torch.rand(2, 6, 4, dtype=torch.float64)
    there, back = running_sums(forth), running_sums(forth.flip(1))
    # After k frames backwards, what is summed is what the first T − k frames lack.
    torch.testing.assert_close(back[:, :-1], -there[:, :-1].flip(1))


def test_without_running_sums_frames_are_seen_apart(frames):
    config = dataclasses.replace(WIDE, photo=PhotoConfig(things=12, people=5, sums=0.0))
    network = build_network(config, seed=3)
    with torch.no_grad():
        there, _ = network.encode_query(frames)
        back, _ = network.encode_query(frames.flip(1))
    assert config.feature_dim == there.shape[-1] == 145
    torch.testing.assert_close(there[..., 128:], back[..., 128:].flip(1), atol=1e-4, rtol=1e-4)


def test_frames_of_the_support_branch_are_seen_alike(network, frames):
    with torch.no_grad():
        texts = network.encode_text(torch.ones(1, 32, dtype=torch.int64))
        query, _ = network.encode_query(frames)
        support, _ = network.encode_support(frames, texts)
    assert texts.shape == (1, 157)
    assert not texts[:, 128:].any()
    torch.testing.assert_close(query[..., 128:], support[..., 128:])


def test_parameters_are_counted_and_none_is_tuned(network):
    total, tunable = parameter_counts(WIDE)
    assert total == sum(one.numel() for one in network.parameters())
    assert tunable == sum(one.numel() for one in network.tunable_parameters().values())
    assert not any(name.startswith("photo.") for name in network.tunable_parameters())


def test_the_configuration_is_kept_and_absent_where_there_is_none():
    assert ModelConfig.from_json(WIDE.to_json()) == WIDE
    assert "photo" not in TINY.to_json()
    assert (WIDE.feature_dim, WIDE.input_size) == (157, 224)


@pytest.mark.parametrize("widths", [{"things": 0}, {"people": 769}, {"sums": -1.0}])
def test_impossible_widths_are_refused(widths):
    with pytest.raises(InputError, match="photo"):
        PhotoConfig(**widths)


def test_a_tower_without_a_stem_has_no_photo_embedding():
    with pytest.raises(InputError, match="stem"):
        dataclasses.replace(named_config("vit-b-32"), photo=PhotoConfig())
