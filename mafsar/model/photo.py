"""Frozen embeddings of frames by networks that were trained on photographs, beside the tower's own.

A small tower that learned from rendered clips tells movements apart, but knows little of real
people and things. What it lacks is joined to its features: the last map of EfficientNet-Lite0, and
a map of BlazePose's backbone, each pooled to a few cells and projected to its main components.

These see one frame at a time. Running sums over time of what changes put the order of the frames
into every frame, as rank pooling does for a whole clip (Fernando et al. 2015): played backwards, a
clip's sums change their sign.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mafsar.model.photo_table import (
    PEOPLE_BLOCKS,
    PEOPLE_CHANNELS,
    PEOPLE_FIRST,
    PEOPLE_HIDDEN,
    PEOPLE_WIDTH,
    THINGS_BLOCKS,
    THINGS_WIDTH,
    PhotoConfig,
)
from mafsar.model.stem import CentredConv, ConvStem, InvertedBottleneckBlock


class PeopleNetwork(nn.Module):
    """The backbone of BlazePose lite, up to the first map of its pose head."""

    def __init__(self) -> None:
        super().__init__()
        hidden = PEOPLE_HIDDEN
        self.first = CentredConv(3, PEOPLE_FIRST, 3, 2)
        self.blocks = nn.ModuleList(
            InvertedBottleneckBlock(sizes, CentredConv) for sizes in PEOPLE_BLOCKS
        )
        self.expand = CentredConv(PEOPLE_BLOCKS[-1].out_channels, hidden, 1)
        self.mix = CentredConv(hidden, hidden, 3, groups=hidden)
        self.look = CentredConv(hidden, hidden, 3, groups=hidden)
        self.project = CentredConv(hidden, PEOPLE_CHANNELS, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        """Maps pictures in 0–1, (M, 3, S, S), to (M, PEOPLE_CHANNELS, S/32, S/32)."""
        x = F.relu6(self.first(pixels))
        for block in self.blocks:
            x = block(x)
        for layer in (self.expand, self.mix, self.look, self.project):
            x = F.relu6(layer(x))
        return x


class PhotoEmbedding(nn.Module):
    """What frozen networks see in a frame: things and people, as numbers beside the tower's."""

    def __init__(self, config: PhotoConfig) -> None:
        super().__init__()
        self.things = nn.ModuleList(InvertedBottleneckBlock(sizes) for sizes in THINGS_BLOCKS)
        self.people = PeopleNetwork()
        self.things_proj = nn.Linear(THINGS_WIDTH, config.things)
        self.people_proj = nn.Linear(PEOPLE_WIDTH, config.people)
        self.sums = config.sums

    def forward(self, images: Tensor, pixels: Tensor, stem: ConvStem, frames: int) -> Tensor:
        """Embeds the frames of clips.

        Args:
            images: Frames as the stem reads them, (B·T, 3, 224, 224).
            pixels: The same frames in 0–1.
            stem: The tower's stem, whose blocks are the first of EfficientNet-Lite0.
            frames: T.

        Returns:
            (B, T, config.width): things, people, and the running sums of things.
        """
        things, people = (
            torch.unflatten(layer(pooled), 0, (-1, frames))
            for layer, pooled in zip(
                (self.things_proj, self.people_proj),
                self.pooled(images, pixels, stem),
                strict=True,
            )
        )
        parts = [things, people]
        if self.sums:
            parts.append(self.sums * running_sums(things))
        return torch.cat(parts, dim=-1)

    def pooled(self, images: Tensor, pixels: Tensor, stem: ConvStem) -> tuple[Tensor, Tensor]:
        """The pooled maps before their projections, (M, THINGS_WIDTH) and (M, PEOPLE_WIDTH)."""
        _, things = stem.maps(images)
        for block in self.things:
            things = block(things)
        people = self.people(pixels)
        # 7×7 in overlapping cells: 3×3 of 3, and 2×2 of 4.
        return (
            F.avg_pool2d(things, 3, stride=2).flatten(1),
            F.avg_pool2d(people, 4, stride=3).flatten(1),
        )


def running_sums(features: Tensor) -> Tensor:
    """Sums over the frames so far of how far each is from its clip's mean, divided by T.

    Args:
        features: (B, T, W).

    Returns:
        (B, T, W); the last frame's is 0.
    """
    frames = features.shape[1]
    # A product with a constant matrix runs on every engine; not all have a cumulative sum.
    earlier = torch.ones(frames, frames, dtype=features.dtype, device=features.device).tril()
    return earlier @ (features - features.mean(dim=1, keepdim=True)) / frames
