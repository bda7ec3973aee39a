"""The tuned parts of a block: global temporal, local multimodal and joint adaptation (docs/method.md,
section "Encoder").

Each takes the frozen block that it adapts as an argument and owns none of its weights: the same
frozen attention is used over time and inside a frame.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mafsar.errors import InputError
from mafsar.kernels import temporal_adapter
from mafsar.model.config import ModelConfig
from mafsar.model.towers import Block


class Adapter(nn.Module):
    """W_up · GELU(W_down · x + b_down) + b_up, with the exact GELU and no skip connection."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.down = nn.Linear(width, hidden)
        self.gelu = nn.GELU()
        self.up = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.up(self.gelu(self.down(x)))
        return out


class GlobalTemporalAdaptation(nn.Module):
    """c' = c + Adapter_T(MSA(LN1(c))): the class tokens of a clip attend over its frames."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.adapter = Adapter(width, hidden)

    def forward(self, block: Block, c: Tensor) -> Tensor:
        """Computes the temporal token of each frame.

        Args:
            block: The frozen block.
            c: Class tokens, (B, T, D).

        Returns:
            c', (B, T, D).
        """
        if torch.compiler.is_exporting():
            # Exporters handle modules of layers better than the op's twin, one long function.
            normed = block.ln_1(c)
            out: Tensor = c + self.adapter(block.attn(normed, normed))
            return out
        return temporal_adapter(
            c,
            block.ln_1.weight,
            block.ln_1.bias,
            block.attn.in_proj_weight,
            block.attn.in_proj_bias,
            block.attn.out_proj.weight,
            block.attn.out_proj.bias,
            self.adapter.down.weight,
            self.adapter.down.bias,
            self.adapter.up.weight,
            self.adapter.up.bias,
            heads=block.attn.heads,
            eps=block.ln_1.eps,
        )


class LocalAdaptation(nn.Module):
    """U' = U + A + Adapter_M(A) with A = MSA(LN1(U)), attention inside each frame.

    U holds a frame's tokens, its temporal token and, in the support branch, the class's text token
    TextFC(F_T).
    """

    def __init__(self, config: ModelConfig, *, adapter: bool, text: bool) -> None:
        super().__init__()
        width = config.vision.width
        self.adapter = Adapter(width, config.adapter_width) if adapter else None
        self.text_fc = nn.Linear(config.embed_dim, width) if text else None

    def text_token(self, text: Tensor, frames: int) -> Tensor | None:
        """The class's text token for each frame.

        Args:
            text: Raw text embedding of each clip's class, (B, E).
            frames: T.

        Returns:
            (B·T, 1, D), or None if the token is switched off.
        """
        if self.text_fc is None:
            return None
        token: Tensor = self.text_fc(text)  # (B, D)
        return token[:, None].expand(-1, frames, -1).reshape(-1, 1, token.shape[-1])  # (B·T, 1, D)

    def forward(self, block: Block, z: Tensor, added: list[Tensor], *, first_only: bool) -> Tensor:
        """Attends inside each frame.

        The added tokens are keys and values only, because their own outputs are not used.

        Args:
            block: The frozen block.
            z: Tokens of each frame, (B·T, L, D), the class token first.
            added: The temporal token and, in the support branch, the text token, (B·T, 1, D) each.
            first_only: Return only the class token's output.

        Returns:
            U' for the tokens of `z`, (B·T, L, D), or (B·T, 1, D) with `first_only`.
        """
        normed = block.ln_1(z)
        # Normalised apart and joined afterwards: saves a copy of z with the added tokens.
        context = torch.cat([normed, *(block.ln_1(token) for token in added)], dim=1)
        if first_only:
            z, normed = z[:, :1], normed[:, :1]  # (B·T, 1, D)
        a = block.attn(normed, context)  # shaped as z
        out: Tensor = z + a
        return out if self.adapter is None else out + self.adapter(a)


class JointAdapter(nn.Module):
    """Z_out = V + MLP(Y) + s · Adapter_J(Y) with Y = LN2(V): an adapter parallel to the MLP."""

    def __init__(self, width: int, hidden: int, scale: float) -> None:
        super().__init__()
        self.adapter = Adapter(width, hidden)
        self.scale = scale

    def forward(self, block: Block, v: Tensor) -> Tensor:
        """Maps tokens (M, L, D) to (M, L, D)."""
        y = block.ln_2(v)
        out: Tensor = v + block.mlp(y) + self.scale * self.adapter(y)
        return out


class BlockAdapters(nn.Module):
    """The adapters of one block; None for each part that is switched off."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        parts = config.adapters
        if parts is None:
            raise InputError("adapters must not be None: a plain CLIP has no adapters to build")
        width, hidden = config.vision.width, config.adapter_width
        self.gta = GlobalTemporalAdaptation(width, hidden) if parts.gta else None
        self.lma = LocalAdaptation(config, adapter=parts.lma, text=parts.lma_text)
        self.joint = JointAdapter(width, hidden, parts.joint_scale) if parts.joint else None


class VideoAdapters(nn.Module):
    """The adapters of every block and the temporal embedding."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(BlockAdapters(config) for _ in range(config.vision.layers))
        self.temporal_embedding = (
            nn.Parameter(torch.empty(config.frames, config.vision.width))
            if config.adapters and config.adapters.temporal
            else None
        )
