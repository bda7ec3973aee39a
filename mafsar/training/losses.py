"""Losses of the method's episodes and of contrastive pre-training."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def text_loss(pooled: Tensor, texts: Tensor, labels: Tensor, scale: float, smooth: float) -> Tensor:
    """KL(y ‖ softmax(scale · cos)), batch mean (L_S2T and L_Q2T of the paper).

    Args:
        pooled: Time-means of raw frame features, (B, E).
        texts: Raw text embedding of each of the episode's classes, (C, E).
        labels: int64 (B,) indices into the classes.
        scale: The text scale.
        smooth: Label smoothing; y is the smoothed one-hot target.
    """
    logits = scale * F.normalize(pooled, dim=-1) @ F.normalize(texts, dim=-1).T  # (B, C)
    classes = texts.shape[0]
    target = torch.full_like(logits, smooth / classes)
    target.scatter_(1, labels[:, None], 1 - smooth + smooth / classes)
    return F.kl_div(logits.log_softmax(dim=-1), target, reduction="batchmean")


def episode_loss(
    visual_logits: Tensor,
    labels: Tensor,
    alpha: float,
    text_losses: tuple[Tensor, Tensor] | None,
) -> Tensor:
    """L = α · ½(L_S2T + L_Q2T) + (1 − α) · L_Q2S; L_Q2S alone without text.

    Args:
        visual_logits: Queries against the episode's classes, (Q, C).
        labels: int64 (Q,).
        alpha: Weight of the text terms.
        text_losses: L_S2T and L_Q2T, or None in an episode without text.
    """
    visual = F.cross_entropy(visual_logits, labels)
    if text_losses is None:
        return visual
    return alpha * 0.5 * (text_losses[0] + text_losses[1]) + (1 - alpha) * visual


def contrastive_loss(images: Tensor, texts: Tensor, scale: Tensor, same: Tensor) -> Tensor:
    """CLIP's symmetric contrastive loss; equal captions all match one another's images.

    Args:
        images: Raw embeddings (B, E).
        texts: Raw embeddings (B, E).
        scale: Factor on the cosines.
        same: bool (B, B), whether caption i equals caption j; the diagonal is true.
    """
    logits = scale * F.normalize(images, dim=-1) @ F.normalize(texts, dim=-1).T
    target = same.float() / same.sum(dim=1, keepdim=True)
    across = -(target * logits.log_softmax(dim=1)).sum(dim=1).mean()
    down = -(target * logits.T.log_softmax(dim=1)).sum(dim=1).mean()
    return 0.5 * (across + down)
