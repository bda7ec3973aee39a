"""Random crops and colours for batches of clips, and motion in front of places."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def augment(
    frames: Tensor,
    points: Tensor | None,
    generator: torch.Generator,
    *,
    zoom: float = 0.15,
    shift: float = 0.08,
    colour: float = 0.15,
) -> tuple[Tensor, Tensor | None]:
    """Zoom, shift, tint, blur and add noise to each clip.

    Args:
        frames: uint8 (B, T, S, S, 3).
        points: Picture fractions (B, T, P, 2), which move with the picture, or None.
        generator: Draws everything.
        zoom: Largest relative change of scale.
        shift: Largest displacement, fractions of the picture.
        colour: Largest relative change of each colour and of brightness.

    Returns:
        float32 (B, T, 3, S, S) in [0, 255], and the moved points.
    """
    batch, time, size = frames.shape[:3]

    def draw(*shape: int, spread: float) -> Tensor:
        return (2 * torch.rand(*shape, generator=generator) - 1) * spread

    pixels = frames.permute(0, 1, 4, 2, 3).reshape(batch, time * 3, size, size).float()
    scale = 1 + draw(batch, spread=zoom)  # of the window
    centre = draw(batch, 2, spread=2 * shift)  # in grid units, [-1, 1]
    theta = torch.zeros(batch, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = scale
    theta[:, :, 2] = centre
    grid = F.affine_grid(theta, [batch, 1, size, size], align_corners=False)
    pixels = F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    pixels = pixels.view(batch, time, 3, size, size)
    gain = 1 + draw(batch, 1, 3, 1, 1, spread=colour) + draw(batch, 1, 1, 1, 1, spread=colour)
    contrast = 1 + draw(batch, 1, 1, 1, 1, spread=colour)
    mean = pixels.mean(dim=(1, 2, 3, 4), keepdim=True)
    pixels = (pixels - mean) * contrast + mean
    pixels = (pixels * gain).clamp(0, 255)
    if points is not None:
        window = (2 * points - 1 - centre[:, None, None]) / scale[:, None, None, None]
        points = (window + 1) / 2
    return pixels, points


def disguise(takes: Tensor, generator: torch.Generator) -> Tensor:
    """Blend places and remix their colours, alike in all takes, for more kinds of pictures.

    Args:
        takes: uint8 (2, places, T, S, S, 3).
        generator: Draws the blends.

    Returns:
        uint8, as ``takes``.
    """
    places = takes.shape[1]

    def draw(*shape: int) -> Tensor:
        return torch.rand(places, *shape, generator=generator)

    share = 0.5 * draw(1, 1, 1, 1)
    mixed = (1 - share) * takes + share * takes.roll(1, dims=1)
    remix = (3 * draw(3, 3)).softmax(dim=-1)
    strength = draw(1, 1)
    matrix = (1 - strength) * torch.eye(3) + strength * remix
    coloured = torch.einsum("kptxyc,pdc->kptxyd", mixed, matrix)
    middle = coloured.mean(dim=(0, 2, 3, 4, 5))[:, None, None, None, None]
    contrast, bias = 0.5 + 0.8 * draw(1, 1, 1, 1), 80 * draw(1, 1, 1, 3) - 40
    return ((coloured - middle) * contrast + middle + bias).clamp(0, 255).byte()


def cover(places: Tensor, others: Tensor, rng: np.random.Generator) -> Tensor:
    """Lay a window of another clip over each place, as motion in front of it.

    Args:
        places: Maps (n, T, C, g, g).
        others: Maps to show in the windows, of the same shape.
        rng: Draws the windows, half to all of the height and a third to all of the width, and
            their opacity.

    Returns:
        Maps (n, T, C, g, g).
    """
    side = places.shape[-1]
    solid = torch.zeros(len(places), 1, 1, side, side)
    for window in solid:
        high = int(rng.integers(side // 2, side + 1))
        wide = int(rng.integers(max(1, side // 3), side + 1))
        top, left = int(rng.integers(side - high + 1)), int(rng.integers(side - wide + 1))
        window[..., top : top + high, left : left + wide] = rng.uniform(0.5, 1.0)
    return places * (1 - solid) + others * solid
