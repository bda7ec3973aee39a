"""CLIP's two towers in plain modules: attention with explicit q, k, v, and pre-norm blocks.

Parameter names are open_clip's, so that its weights load by name. `nn.MultiheadAttention` is not
used: its evaluation fast path is an operator that no exporter supports.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mafsar.model.config import TextConfig, VisionConfig
from mafsar.model.stem import ConvStem
from mafsar.model.stem_table import STEM_CHANNELS


class QuickGELU(nn.Module):
    """x · σ(1.702 x), the activation of OpenAI's CLIP weights."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class Attention(nn.Module):
    """Multi-head attention with biases.

    One parameter holds the projections of q, k and v, as in the checkpoints. Each is used as a
    separate slice, so that a query of fewer tokens costs less.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, query: Tensor, context: Tensor, *, causal: bool = False) -> Tensor:
        """Attends from each token of `query` to all tokens of `context`.

        Args:
            query: (M, Lq, D).
            context: Keys and values, (M, Lk, D).
            causal: Token i sees tokens 0…i only; Lq = Lk.

        Returns:
            (M, Lq, D), without a residual.
        """
        q = self._heads(query, 0)  # (M, heads, Lq, D / heads)
        k = self._heads(context, 1)  # (M, heads, Lk, D / heads)
        v = self._heads(context, 2)  # (M, heads, Lk, D / heads)
        merged: Tensor = self.out_proj(attend(q, k, v, causal).transpose(1, 2).flatten(2))
        return merged  # (M, Lq, D)

    def _heads(self, x: Tensor, part: int) -> Tensor:
        """Projects to q, k or v (part 0, 1 or 2), one slice of the parameter, and splits heads."""
        width = x.shape[-1]
        rows = slice(part * width, (part + 1) * width)
        projected = F.linear(x, self.in_proj_weight[rows], self.in_proj_bias[rows])
        heads: Tensor = torch.unflatten(projected, -1, (self.heads, -1))  # (M, L, heads, D / heads)
        return heads.transpose(1, 2)  # (M, heads, L, D / heads)


def attend(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    """softmax(q kᵀ / √d) v over (M, heads, L, d), in the form that is faster where it runs.

    In an exported graph the fused operator becomes a chain of shape arithmetic that TensorRT does
    not recognise as attention. In bfloat16 on a CPU its gradient takes half of a training step;
    plain products take a quarter of that.
    """
    if torch.compiler.is_exporting() or (q.dtype == torch.bfloat16 and q.is_cpu):
        return explicit_attention(q, k, v, causal)
    return fused_attention(q, k, v, causal)


def fused_attention(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    """`attend` with torch's fused operator."""
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal)


def explicit_attention(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    """`attend` in plain steps."""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)  # (M, heads, Lq, Lk)
    if causal:
        length = scores.shape[-1]
        mask = torch.full((length, length), float("-inf"), device=q.device, dtype=q.dtype)
        scores = scores + mask.triu(1)
    mixed: Tensor = scores.softmax(dim=-1) @ v
    return mixed


class Mlp(nn.Module):
    """The two layers of a transformer block."""

    def __init__(self, width: int, hidden: int, activation: str) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, hidden)
        self.gelu = QuickGELU() if activation == "quickgelu" else nn.GELU()
        self.c_proj = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.c_proj(self.gelu(self.c_fc(x)))
        return out


class Block(nn.Module):
    """A pre-norm transformer block, frozen in the video encoder."""

    def __init__(self, width: int, heads: int, mlp_width: int, activation: str) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, mlp_width, activation)

    def forward(self, x: Tensor, *, causal: bool = False, first_only: bool = False) -> Tensor:
        """Runs the block as CLIP does.

        Args:
            x: (M, L, D).
            causal: See `Attention`.
            first_only: Return only the first token's output; all tokens are still keys.

        Returns:
            (M, L, D), or (M, 1, D) with `first_only`.
        """
        normed = self.ln_1(x)
        if first_only:
            x = x[:, :1]  # (M, 1, D)
        query = normed[:, :1] if first_only else normed  # (M, 1 or L, D)
        x = x + self.attn(query, normed, causal=causal)
        out: Tensor = x + self.mlp(self.ln_2(x))
        return out


class Transformer(nn.Module):
    """A stack of blocks; the name is part of the checkpoints' keys."""

    def __init__(
        self, *, width: int, layers: int, heads: int, mlp_width: int, activation: str
    ) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(
            Block(width, heads, mlp_width, activation) for _ in range(layers)
        )


class VisionTower(nn.Module):
    """CLIP's vision transformer in three steps, so that an encoder can adapt the middle one."""

    def __init__(self, config: VisionConfig, embed_dim: int) -> None:
        super().__init__()
        width = config.width
        self.stem = ConvStem() if config.stem else None
        channels, patch = (STEM_CHANNELS, 1) if config.stem else (3, config.patch_size)
        self.conv1 = nn.Conv2d(channels, width, patch, patch, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty(config.patches + 1, width))
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = Transformer(
            width=width,
            layers=config.layers,
            heads=config.heads,
            mlp_width=config.mlp_width,
            activation=config.activation,
        )
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(torch.empty(width, embed_dim))

    def embed(self, images: Tensor) -> Tensor:
        """Patch, class and position embeddings, before `ln_pre`.

        Args:
            images: Normalised pixels, (M, 3, S, S), or the stem's output,
                (M, STEM_CHANNELS, S/16, S/16).

        Returns:
            (M, N+1, D), the class token first.
        """
        if self.stem is not None and images.shape[1] == 3:
            images = self.stem(images)  # (M, STEM_CHANNELS, S/16, S/16)
        patches = self.conv1(images).flatten(2).transpose(1, 2)  # (M, N, D)
        first = self.class_embedding.expand(patches.shape[0], 1, -1)  # (M, 1, D)
        return torch.cat([first, patches], dim=1) + self.positional_embedding  # (M, N+1, D)

    def project(self, tokens: Tensor) -> Tensor:
        """`ln_post` and the projection of class tokens (…, D) to the joint embedding (…, E)."""
        out: Tensor = self.ln_post(tokens) @ self.proj
        return out


class TextTower(nn.Module):
    """CLIP's text transformer."""

    def __init__(self, config: TextConfig, embed_dim: int) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocab_size, config.width)
        self.positional_embedding = nn.Parameter(torch.empty(config.context_length, config.width))
        self.transformer = Transformer(
            width=config.width,
            layers=config.layers,
            heads=config.heads,
            mlp_width=config.mlp_width,
            activation=config.activation,
        )
        self.ln_final = nn.LayerNorm(config.width)
        self.text_projection = nn.Parameter(torch.empty(config.width, embed_dim))

    def forward(self, tokens: Tensor) -> Tensor:
        """Embeds sentences.

        Args:
            tokens: Token ids, (B, context_length), int64; the end token has the highest id.

        Returns:
            Raw embeddings, (B, E).
        """
        x = self.token_embedding(tokens) + self.positional_embedding  # (B, L, width)
        for block in self.transformer.resblocks:
            x = block(x, causal=True)
        end = tokens.argmax(dim=-1)  # (B,)
        index = end[:, None, None].expand(-1, 1, x.shape[-1])  # (B, 1, width)
        last = x.gather(1, index).squeeze(1)  # (B, width)
        out: Tensor = self.ln_final(last) @ self.text_projection
        return out
