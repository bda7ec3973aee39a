"""The text-guided prototype module and the prototype of K shots (docs/method.md)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mafsar.errors import InputError
from mafsar.model.towers import Attention


class FeedForward(nn.Module):
    """E → 4E → E with the exact GELU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, 4 * width)
        self.gelu = nn.GELU()
        self.c_proj = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.c_proj(self.gelu(self.c_fc(x)))
        return out


class PrototypeModule(nn.Module):
    """One attention layer over time, guided by the class text in the support branch (TPCM).

    Both branches share its weights. It has no LayerNorm: the paper's figure 4 shows none.
    """

    def __init__(self, embed_dim: int, heads: int) -> None:
        super().__init__()
        self.attn = Attention(embed_dim, heads)
        self.ffn = FeedForward(embed_dim)

    def forward(self, features: Tensor, text: Tensor | None) -> Tensor:
        """Mixes the frames of a clip with each other and, if given, with its class text.

        Args:
            features: Raw frame features F, (B, T, E).
            text: Raw text embedding of each clip's class, (B, E); None in the query branch.

        Returns:
            F̃, (B, T, E).
        """
        if text is None:
            x = features + self.attn(features, features)
        else:
            token = text[:, None]  # (B, 1, E)
            query = features + token  # (B, T, E)
            context = torch.cat([token, features], dim=1)  # (B, T+1, E)
            x = query + self.attn(query, context)
        out: Tensor = x + self.ffn(x)
        return out


def class_prototypes(features: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Averages the shots of each class, frame by frame.

    Args:
        features: Support features F̃, (n, T, E).
        labels: Class of each support clip, (n,), int64, 0 ≤ label < classes.
        classes: C.

    Returns:
        (C, T, E).

    Raises:
        InputError: A class without a clip, or a label outside the classes.
    """
    if labels.numel() and (int(labels.min()) < 0 or int(labels.max()) >= classes):
        raise InputError(f"labels must be in 0…{classes - 1}, got {labels.tolist()}")
    shots = torch.bincount(labels, minlength=classes)  # (C,)
    if int(shots.min()) == 0:
        empty = [index for index, count in enumerate(shots.tolist()) if count == 0]
        raise InputError(f"labels: no support clip for class {', '.join(map(str, empty))}")
    sums = features.new_zeros(classes, *features.shape[1:]).index_add(0, labels, features)
    return sums / shots[:, None, None].to(features.dtype)  # (C, T, E)
