"""CLIP's ResNet tower: it has no tokens to adapt, so it is fully tuned (docs/method.md).

Parameter names are open_clip's. Batch norms keep the statistics that they were trained with. With
the statistics of an episode's few, related clips, a clip's features would depend on its neighbours
and training would compute another function than evaluation.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mafsar.model.resnet_config import EXPANSION, ResNetConfig
from mafsar.model.towers import attend


class FixedBatchNorm(nn.Module):
    """Batch norm with fixed statistics; scale and shift are parameters."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.empty(channels))
        self.bias = nn.Parameter(torch.empty(channels))
        self.register_buffer("running_mean", torch.empty(channels))
        self.register_buffer("running_var", torch.empty(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
        )


class Bottleneck(nn.Module):
    """Three convolutions and a shortcut; an average pool takes the place of a stride."""

    def __init__(self, inputs: int, inner: int, stride: int) -> None:
        super().__init__()
        outputs = inner * EXPANSION
        self.conv1 = nn.Conv2d(inputs, inner, 1, bias=False)
        self.bn1 = FixedBatchNorm(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, padding=1, bias=False)
        self.bn2 = FixedBatchNorm(inner)
        self.avgpool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.conv3 = nn.Conv2d(inner, outputs, 1, bias=False)
        self.bn3 = FixedBatchNorm(outputs)
        self.downsample: nn.Module | None = None
        if stride > 1 or inputs != outputs:
            parts = OrderedDict[str, nn.Module]()
            parts["-1"] = nn.AvgPool2d(stride)
            parts["0"] = nn.Conv2d(inputs, outputs, 1, bias=False)
            parts["1"] = FixedBatchNorm(outputs)
            self.downsample = nn.Sequential(parts)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(self.avgpool(out)))
        shortcut: Tensor = x if self.downsample is None else self.downsample(x)
        return F.relu(out + shortcut)


class AttentionPool(nn.Module):
    """Attention pooling: the mean of a feature map attends to its cells and itself."""

    def __init__(self, config: ResNetConfig, embed_dim: int) -> None:
        super().__init__()
        width = config.features
        self.heads = config.heads
        self.positional_embedding = nn.Parameter(torch.empty(config.cells + 1, width))
        self.k_proj = nn.Linear(width, width)
        self.q_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.c_proj = nn.Linear(width, embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Maps a feature map (M, features, H, W) to (M, E)."""
        cells = x.flatten(2).transpose(1, 2)  # (M, cells, features)
        tokens = torch.cat([cells.mean(dim=1, keepdim=True), cells], dim=1)
        tokens = tokens + self.positional_embedding  # (M, cells + 1, features)
        # Only the output of the mean is used.
        q, k, v = self.q_proj(tokens[:, :1]), self.k_proj(tokens), self.v_proj(tokens)
        q, k, v = (
            torch.unflatten(part, -1, (self.heads, -1)).transpose(1, 2) for part in (q, k, v)
        )  # (M, heads, 1 or cells + 1, features / heads)
        out: Tensor = self.c_proj(attend(q, k, v, False).transpose(1, 2).flatten(1))
        return out  # (M, E)


class ResNetTower(nn.Module):
    """CLIP's modified ResNet."""

    def __init__(self, config: ResNetConfig, embed_dim: int) -> None:
        super().__init__()
        width = config.width
        self.conv1 = nn.Conv2d(3, width // 2, 3, stride=2, padding=1, bias=False)
        self.bn1 = FixedBatchNorm(width // 2)
        self.conv2 = nn.Conv2d(width // 2, width // 2, 3, padding=1, bias=False)
        self.bn2 = FixedBatchNorm(width // 2)
        self.conv3 = nn.Conv2d(width // 2, width, 3, padding=1, bias=False)
        self.bn3 = FixedBatchNorm(width)
        self.avgpool = nn.AvgPool2d(2)
        stages, inputs = [], width
        for stage, blocks in enumerate(config.stages):
            inner = width * 2**stage
            first = Bottleneck(inputs, inner, stride=1 if stage == 0 else 2)
            inputs = inner * EXPANSION
            rest = (Bottleneck(inputs, inner, stride=1) for _ in range(blocks - 1))
            stages.append(nn.Sequential(first, *rest))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.attnpool = AttentionPool(config, embed_dim)

    def _stem(self, images: Tensor) -> Tensor:
        """Three convolutions and a pool: (M, 3, S, S) to (M, width, S / 4, S / 4)."""
        x = F.relu(self.bn1(self.conv1(images)))
        x = F.relu(self.bn2(self.conv2(x)))
        pooled: Tensor = self.avgpool(F.relu(self.bn3(self.conv3(x))))
        return pooled

    def forward(self, images: Tensor, *, recompute: bool = False) -> Tensor:
        """Encodes pictures.

        Args:
            images: Normalised pixels, (M, 3, S, S).
            recompute: Keep only each stage's input for the backward pass and recompute the rest.

        Returns:
            Embeddings, (M, E).
        """
        x = images
        for part in (self._stem, self.layer1, self.layer2, self.layer3, self.layer4):
            if recompute and torch.is_grad_enabled():
                x = checkpoint(part, x, use_reentrant=False, preserve_rng_state=False)
            else:
                x = part(x)
        out: Tensor = self.attnpool(x)
        return out
