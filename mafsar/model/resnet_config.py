"""Sizes and parameter counts of CLIP's ResNet tower (no torch)."""

from __future__ import annotations

from dataclasses import dataclass

from mafsar.errors import InputError

EXPANSION = 4  # output channels of a bottleneck / its inner channels
_STRIDE = 32  # pixels of one cell of the last feature map
_STAGES = 4


@dataclass(frozen=True)
class ResNetConfig:
    """A ResNet with a stem of three convolutions and attention as its last pooling."""

    stages: tuple[int, ...]  # bottlenecks of each of the four stages
    width: int  # channels of the first stage's bottlenecks
    image_size: int  # pixels, square
    head_width: int = 64  # of the pooling's attention

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages", tuple(self.stages))  # JSON has lists
        if len(self.stages) != _STAGES or min(self.stages) < 1:
            raise InputError(f"vision.stages must be four counts ≥ 1, got {self.stages}")
        if self.image_size % _STRIDE:
            raise InputError(
                f"vision.image_size must be a multiple of {_STRIDE}, got {self.image_size}"
            )
        if self.features % self.head_width:
            raise InputError(
                f"vision.width must give a multiple of head_width {self.head_width}, got "
                f"{self.features} features"
            )

    @property
    def stem(self) -> None:
        """Always None: a ResNet has no frozen stem."""
        return None

    @property
    def features(self) -> int:
        """Channels of the last feature map."""
        return self.width * (1 << _STAGES - 1) * EXPANSION

    @property
    def heads(self) -> int:
        """Heads of the pooling's attention."""
        return self.features // self.head_width

    @property
    def cells(self) -> int:
        """Cells of the last feature map."""
        return (self.image_size // _STRIDE) ** 2

    def parameters(self, embed_dim: int) -> int:
        """Counts the tower's parameters in closed form, without the statistics of batch norms."""
        half, width = self.width // 2, self.width
        count = 9 * (3 * half + half * half + half * width) + 2 * (half + half + width)
        inputs = width
        for stage, blocks in enumerate(self.stages):
            inner = width * 2**stage
            outputs = inner * EXPANSION
            for block in range(blocks):
                count += inputs * inner + 9 * inner**2 + inner * outputs
                count += 2 * (inner + inner + outputs)
                if block == 0:  # the shortcut changes its width
                    count += inputs * outputs + 2 * outputs
                inputs = outputs
        f = self.features
        return count + (self.cells + 1) * f + 3 * (f * f + f) + f * embed_dim + embed_dim
