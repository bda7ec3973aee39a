"""Initial weights: the tuned parts as docs/method.md says, random towers as CLIP's."""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor, nn


def random_state(
    network: nn.Module, seed: int, *, prefixes: tuple[str, ...] = ("",)
) -> dict[str, Tensor]:
    """Draws the parameters of a network, float32 on the CPU.

    Each parameter has its own generator, seeded by `seed` and its name, so the values do not depend
    on other parameters, on their order or on the global generator.

    Args:
        network: Only names and shapes are read; it may be on `meta`.
        seed: Any integer.
        prefixes: Draw only parameters whose names start with one of these.
    """
    return {
        name: _draw(name, tuple(value.shape), seed)
        for name, value in network.state_dict().items()
        if name.startswith(prefixes)
    }


def _draw(name: str, shape: tuple[int, ...], seed: int) -> Tensor:
    if name == "logit_scale":
        return torch.tensor(math.log(100.0))
    value = torch.zeros(shape)
    scale = _standard_deviation(name, shape)
    if scale is None:
        return value.fill_(1.0) if name.endswith((".weight", ".running_var")) else value
    if scale == 0:
        return value
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
    return value.normal_(0, scale, generator=generator)


def _standard_deviation(name: str, shape: tuple[int, ...]) -> float | None:
    """Standard deviation of a parameter; 0 for zeros; None for a norm's scale (1) or a bias (0)."""
    if name.endswith("temporal_embedding"):
        return 0
    if len(shape) == 1:
        return 1 / math.sqrt(shape[0]) if name.endswith("class_embedding") else None
    if name.startswith("adapters."):
        # Off at the start, but not all zero: the gradient of the LayerNorm of a zero text token is
        # unbounded.
        return 0 if name.endswith(".up.weight") else 0.02
    if name.startswith("tpcm.") and name.endswith((".out_proj.weight", ".c_proj.weight")):
        return 0
    if "embedding" in name and name.startswith("text."):
        return 0.02
    if name.endswith(("positional_embedding", ".proj", "text_projection")):
        # proj and text_projection map from their first dimension, positions live in their second.
        return 1 / math.sqrt(shape[1 if name.endswith("embedding") else 0])
    fan_in = math.prod(shape[1:])
    # The factor 2 keeps the scale through the stem's thirty layers of ReLU6 (He et al. 2015).
    return math.sqrt((2 if ".stem." in name or name.startswith("photo.") else 1) / fan_in)
