"""The layers of the convolutional stem as a table: sizes and exact parameter counts (no torch).

EfficientNet-Lite0 (Tan and Le 2019, the Lite variant of 2020: no squeeze-and-excitation, ReLU6) cut
at stride 16, with its batch norms folded into the convolutions.
"""

from __future__ import annotations

from dataclasses import dataclass

STEM_NAMES = ("efficientnet-lite0",)
STEM_STRIDE = 16  # side of a token's cell, pixels
FIRST_WIDTH = 32  # channels after the first convolution, 3×3 with stride 2


@dataclass(frozen=True)
class InvertedBottleneck:
    """Sizes of a block: 1×1 to `expand` times the channels (left out if 1), depthwise k×k, 1×1."""

    in_channels: int
    out_channels: int
    kernel: int
    stride: int
    expand: int

    @property
    def hidden(self) -> int:
        """Channels of the depthwise convolution."""
        return self.in_channels * self.expand

    @property
    def parameters(self) -> int:
        """Number of weights and biases."""
        expand = 0 if self.expand == 1 else (self.in_channels + 1) * self.hidden
        return expand + (self.kernel**2 + 1) * self.hidden + (self.hidden + 1) * self.out_channels


def stage(
    in_channels: int, out_channels: int, kernel: int, stride: int, expand: int, repeats: int
) -> list[InvertedBottleneck]:
    """Blocks of one width; the first changes the number of channels and has the stride."""
    first = InvertedBottleneck(in_channels, out_channels, kernel, stride, expand)
    rest = InvertedBottleneck(out_channels, out_channels, kernel, 1, expand)
    return [first, *[rest] * (repeats - 1)]


FINE_BLOCKS = (
    *stage(32, 16, 3, 1, 1, 1),
    *stage(16, 24, 3, 2, 6, 2),
    *stage(24, 40, 5, 2, 6, 2),
)
COARSE_BLOCKS = (*stage(40, 80, 3, 2, 6, 3), *stage(80, 112, 5, 1, 6, 3))

# A token reads its cell of the coarse map and the four cells of the fine map at the same place.
STEM_CHANNELS = COARSE_BLOCKS[-1].out_channels + 4 * FINE_BLOCKS[-1].out_channels


def stem_parameters() -> int:
    """Number of parameters of the stem; none of them is tuned."""
    first = (3 * 3**2 + 1) * FIRST_WIDTH
    return first + sum(block.parameters for block in (*FINE_BLOCKS, *COARSE_BLOCKS))
