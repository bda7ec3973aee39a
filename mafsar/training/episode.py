"""One training episode: its clips in, its loss out (METHOD section 4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mafsar.choices import Scoring
from mafsar.data.loader import EpisodeBatch
from mafsar.kernels.metrics import visual_distances, visual_logits
from mafsar.training.config import TrainConfig
from mafsar.training.losses import episode_loss, text_loss

_DROPOUT_KEY = 2**31  # makes this draw independent of those of the episode's clips

Encode = Callable[[Tensor, Tensor | None], tuple[Tensor, Tensor]]
"""`MafsarNetwork.encode_support`, or what it was compiled to."""


@dataclass(frozen=True)
class EpisodeResult:
    """Loss and accuracy of one episode.

    Attributes:
        loss: L, a scalar with gradient.
        visual: L_Q2S, without gradient.
        text: ½(L_S2T + L_Q2T), without gradient; None in an episode without class names.
        right: Number of queries that the visual term answers correctly, a scalar.
        queries: Number of queries.
    """

    loss: Tensor
    visual: Tensor
    text: Tensor | None
    right: Tensor
    queries: int


def drops_text(config: TrainConfig, episode: int) -> bool:
    """Whether an episode has no class names; a function of the seed and its number alone."""
    seeds = np.random.SeedSequence((config.seed, episode), spawn_key=(_DROPOUT_KEY,))
    drawn = np.random.PCG64(seeds).random_raw() / 2.0**64
    return bool(drawn < config.text_dropout)


def run_episode(
    encode: Encode,
    batch: EpisodeBatch,
    texts: Tensor | None,
    match: Scoring,
    *,
    guided: bool,
    smooth: float,
) -> EpisodeResult:
    """Encodes an episode and computes its loss.

    Args:
        encode: The network's `encode_support`; without text it equals the query branch.
        batch: The clips, on the network's device.
        texts: Raw embeddings of the episode's classes, (N, E); None: the episode has no text.
        match: Metric, α and scales of the loss.
        guided: Whether support clips go through a branch of their own that reads the text.
        smooth: Label smoothing of the text losses.
    """
    way, shot = batch.support.shape[:2]
    support, query = batch.support.flatten(0, 1), batch.query.flatten(0, 1)
    labels = torch.arange(way, device=query.device)
    support_class = labels.repeat_interleave(shot)  # (N·K,)
    query_class = labels.repeat_interleave(batch.query.shape[1])  # (N·Q,)
    if texts is not None and guided:
        s, s_pooled = encode(support, texts[support_class])
        q, q_pooled = encode(query, None)
    else:
        both, pooled = encode(torch.cat([support, query]), None)
        s, q = both.tensor_split([len(support)])
        s_pooled, q_pooled = pooled.tensor_split([len(support)])
    with torch.autocast(query.device.type, enabled=False):
        s, q = s.float(), q.float()
        prototypes = s.reshape(way, shot, *s.shape[1:]).mean(dim=1)  # (N, T, E)
        distances = visual_distances(q, prototypes, match)  # (N·Q, N)
        logits = visual_logits(distances, q.shape[1], match)
        worded = None
        if texts is not None:
            worded = tuple(
                text_loss(pooled.float(), texts, own, match.text_scale, smooth)
                for pooled, own in ((s_pooled, support_class), (q_pooled, query_class))
            )
        loss = episode_loss(logits, query_class, match.alpha, worded)  # type: ignore[arg-type]
        with torch.no_grad():
            visual = torch.nn.functional.cross_entropy(logits, query_class)
            right = (logits.argmax(dim=1) == query_class).sum()
            text = None if worded is None else 0.5 * (worded[0] + worded[1]).detach()
    return EpisodeResult(loss, visual, text, right, len(query_class))
