"""The video encoder: a frozen CLIP vision tower whose every block is adapted (docs/method.md)."""

from __future__ import annotations

import functools

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mafsar.model.adapters import BlockAdapters, VideoAdapters
from mafsar.model.towers import Block, VisionTower


def adapted_block(
    block: Block, parts: BlockAdapters, z: Tensor, text: Tensor | None, *, frames: int, last: bool
) -> Tensor:
    """One block: temporal token, attention inside the frame, selection, joint adaptation.

    Args:
        block: The frozen block.
        parts: Its adapters.
        z: Tokens of each frame, (B·T, N+1, D), the class token first.
        text: Raw text embedding of each clip's class, (B, E), in the support branch; None in the
            query branch.
        frames: T.
        last: Compute only the class token's output, with every token still a key. Set for the last
            block, whose other outputs are not used.

    Returns:
        (B·T, N+1, D), or (B·T, 1, D) with `last`.
    """
    added = []
    if parts.gta is not None:
        c = z[:, 0].reshape(-1, frames, z.shape[-1])  # (B, T, D)
        added.append(parts.gta(block, c).flatten(0, 1)[:, None])  # (B·T, 1, D)
    if text is not None:
        token = parts.lma.text_token(text, frames)
        if token is not None:
            added.append(token)
    v = parts.lma(block, z, added, first_only=last)  # (B·T, 1 or N+1, D)
    if parts.joint is None:
        out: Tensor = v + block.mlp(block.ln_2(v))
    else:
        out = parts.joint(block, v)
    return out


def encode_frames(
    tower: VisionTower,
    adapters: VideoAdapters | None,
    pixels: Tensor,
    text: Tensor | None,
    *,
    recompute: bool = False,
) -> Tensor:
    """Encodes clips frame by frame; the adapters also exchange information across frames.

    Args:
        tower: CLIP's vision tower.
        adapters: None is plain CLIP: no extra tokens, and `text` is ignored.
        pixels: Normalised pixels, (B, T, 3, S, S).
        text: (B, E) in the support branch; None in the query branch.
        recompute: Keep only each block's input for the backward pass and recompute the rest.

    Returns:
        Raw frame features F, (B, T, E).
    """
    frames = pixels.shape[1]
    z = tower.embed(pixels.flatten(0, 1))  # (B·T, N+1, D)
    if adapters is not None and adapters.temporal_embedding is not None:
        shift = adapters.temporal_embedding[:, None]  # (T, 1, D)
        z = (z.reshape(-1, frames, *z.shape[1:]) + shift).flatten(0, 1)  # (B·T, N+1, D)
    z = tower.ln_pre(z)
    blocks = tower.transformer.resblocks
    for index, block in enumerate(blocks):
        last = index == len(blocks) - 1
        if adapters is None:
            run = functools.partial(block, first_only=last)
        else:
            parts = adapters.blocks[index]
            run = functools.partial(
                adapted_block,
                block,  # type: ignore[arg-type]
                parts,  # type: ignore[arg-type]
                text=text,
                frames=frames,
                last=last,
            )
        if recompute and torch.is_grad_enabled():
            z = checkpoint(run, z, use_reentrant=False, preserve_rng_state=False)
        else:
            z = run(z)
    features = tower.project(z[:, 0])  # (B·T, E)
    return features.reshape(-1, frames, features.shape[-1])  # (B, T, E)
