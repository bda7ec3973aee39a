"""A frozen convolutional stem, whose maps the patch embedding reads instead of pixels.

A small tower trained on rendered pictures only does not work on photographs; the first layers of a
network trained on photographs help. Batch norms are folded in: each convolution has a bias.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mafsar.model.stem_table import COARSE_BLOCKS, FINE_BLOCKS, FIRST_WIDTH, InvertedBottleneck


class SamePadConv(nn.Conv2d):
    """A convolution with TensorFlow's padding for even sizes: an odd pixel is added right and below."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        # With stride 1 the padding is symmetric, which the convolution does by itself.
        super().__init__(
            in_channels, out_channels, kernel, stride,
            padding=kernel // 2 if stride == 1 else 0, groups=groups,
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        if self.stride[0] > 1:
            total = self.kernel_size[0] - self.stride[0]
            before, after = total // 2, total - total // 2
            x = F.pad(x, (before, after, before, after))
        return super().forward(x)


class CentredConv(nn.Conv2d):
    """A convolution with the same padding on all sides."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel, stride, padding=kernel // 2, groups=groups
        )


class InvertedBottleneckBlock(nn.Module):
    """An inverted bottleneck with ReLU6 and, if the sizes allow, a skip connection."""

    def __init__(
        self,
        sizes: InvertedBottleneck,
        conv: type[SamePadConv | CentredConv] = SamePadConv,
    ) -> None:
        super().__init__()
        hidden = sizes.hidden
        self.expand = None if sizes.expand == 1 else conv(sizes.in_channels, hidden, 1)
        self.depthwise = conv(hidden, hidden, sizes.kernel, sizes.stride, groups=hidden)
        self.project = conv(hidden, sizes.out_channels, 1)
        self.skip = sizes.stride == 1 and sizes.in_channels == sizes.out_channels

    def forward(self, x: Tensor) -> Tensor:
        wide = x if self.expand is None else F.relu6(self.expand(x))
        y: Tensor = self.project(F.relu6(self.depthwise(wide)))
        return x + y if self.skip else y


class ConvStem(nn.Module):
    """EfficientNet-Lite0 up to stride 16, concatenated with its map of stride 8."""

    def __init__(self) -> None:
        super().__init__()
        self.first = SamePadConv(3, FIRST_WIDTH, 3, 2)
        self.fine = nn.ModuleList(InvertedBottleneckBlock(sizes) for sizes in FINE_BLOCKS)
        self.coarse = nn.ModuleList(InvertedBottleneckBlock(sizes) for sizes in COARSE_BLOCKS)

    def forward(self, images: Tensor) -> Tensor:
        """Maps pictures to feature maps.

        Args:
            images: Normalised pixels, (M, 3, S, S), S a multiple of 16.

        Returns:
            (M, STEM_CHANNELS, S / 16, S / 16): channels of the coarse map, then those of the fine
            map's 2×2 cells.
        """
        fine, coarse = self.maps(images)
        cells = F.pixel_unshuffle(fine, 2)  # (M, 4·40, S/16, S/16)
        return torch.cat([coarse, cells], dim=1)

    def maps(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The maps of stride 8, (M, 40, S/8, S/8), and of stride 16, (M, 112, S/16, S/16)."""
        fine: Tensor = F.relu6(self.first(images))
        for block in self.fine:
            fine = block(fine)
        coarse = fine
        for block in self.coarse:
            coarse = block(coarse)
        return fine, coarse
