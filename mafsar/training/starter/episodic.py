"""Phases 2 and 3: adapters and prototype module learn from episodes; the towers are frozen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mafsar.kernels import otam_match
from mafsar.model.encoder import encode_frames
from mafsar.model.network import MafsarNetwork
from mafsar.training.losses import episode_loss, text_loss
from mafsar.training.schedule import cosine_schedule
from mafsar.training.starter.augment import cover
from mafsar.training.starter.pool import MapPool


@dataclass(frozen=True)
class EpisodePlan:
    """Settings of a phase of episodes; every number is a choice of this project."""

    steps: int
    way: int = 8
    queries: int = 2
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.05
    warm_up: int = 50
    alpha: float = 0.3
    smooth: float = 0.1
    visual_scale: float = 2.0
    text_dropout: float = 0.3
    text_noise: float = 1.5
    partner_share: float = 0.6
    unnamed_share: float = 0.6
    scene_share: float = 0.2
    bustle: float = 0.0
    anchor_weight: float = 5.0


def train_episodes(
    network: MafsarNetwork,
    texts: list[Tensor],
    pool: MapPool,
    scenes: Tensor,
    plan: EpisodePlan,
    *,
    seed: int,
    report: Callable[[int, dict[str, float]], None],
) -> None:
    """Train the tunable parameters in place, one one-shot episode per step.

    Args:
        network: The network; its towers do not change.
        texts: Raw embeddings of the descriptions of each named class, (descriptions, E) each;
            named classes have the first labels.
        pool: Clips of training classes.
        scenes: Places without actions, maps (n, 2, T, C, g, g). In some episodes the classes are
            places, and their features are held to those of the plain tower, so that appearance
            is not forgotten.
        plan: Number of steps and weights.
        seed: Draws episodes.
        report: Called after every step with the step, its loss and its accuracy.
    """
    rng = np.random.default_rng([seed, 2])
    generator = torch.Generator().manual_seed(seed * 1_000 + 3)
    tuned = list(network.tunable_parameters().values())
    optimizer = torch.optim.AdamW(
        tuned, lr=plan.learning_rate, weight_decay=plan.weight_decay, betas=(0.9, 0.98)
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: cosine_schedule(step, plan.steps, plan.warm_up)
    )
    network.train()
    for step in range(plan.steps):
        words: Tensor | None = None
        anchor = 0.0
        if rng.random() < plan.scene_share:
            support, query = _draw_places(scenes, pool, plan, rng)
            anchor = plan.anchor_weight
        else:
            unnamed = rng.random() < plan.unnamed_share
            classes = pool.draw_classes(plan.way, plan.partner_share, rng, unnamed=unnamed)
            drawn = pool.draw_clips(classes, 1 + plan.queries, rng)
            support = pool.maps[drawn[0]].float()
            query = pool.maps[drawn[1:].flatten()].float()  # (queries · way, T, C, g, g)
            if not unnamed and rng.random() >= plan.text_dropout:
                chosen = [int(rng.integers(len(texts[label]))) for label in classes]
                words = torch.stack([texts[c][i] for c, i in zip(classes, chosen, strict=True)])
        loss, accuracy = _step(network, support, query, words, anchor, plan, generator)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward([loss])
        nn.utils.clip_grad_norm_(tuned, 1.0)
        optimizer.step()
        schedule.step()
        report(step, {"loss": float(loss.detach()), "accuracy": accuracy})
    network.eval()


def _draw_places(
    scenes: Tensor, pool: MapPool, plan: EpisodePlan, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Draw two takes of each of some places, maps (way, T, C, g, g) each.

    In a share of the episodes there is motion in front of each place: in half of these the same in
    both takes, shifted in time; in the others a different one in the query.
    """
    picked = rng.choice(len(scenes), plan.way, replace=False)
    support, query = scenes[picked].float().transpose(0, 1)
    if plan.bustle > 0 and rng.random() < plan.bustle:
        before, after = rng.integers(len(pool.labels), size=(2, plan.way))
        repeated = rng.random() < 0.5
        shown = pool.maps[before].float()
        support = cover(support, shown, rng)
        if repeated:
            shown = shown.roll(int(rng.integers(shown.shape[1])), dims=1)
        else:
            shown = pool.maps[after].float()
        query = cover(query, shown, rng)
    return support, query


def _step(
    network: MafsarNetwork,
    support: Tensor,
    query: Tensor,
    words: Tensor | None,
    anchor: float,
    plan: EpisodePlan,
    generator: torch.Generator,
) -> tuple[Tensor, float]:
    own = torch.arange(len(support))
    labels = own.repeat(len(query) // len(support))
    guide = None if words is None else _blur(words, plan.text_noise, generator)
    # bfloat16 halves the time of a step on processors that have it; matching stays in float32.
    with torch.autocast("cpu", torch.bfloat16):
        if guide is None:  # both branches are the same: one call encodes all clips
            features, pooled = network.encode_query(torch.cat([support, query]))
            sizes = [len(support), len(query)]
            (s, q), (s_pooled, q_pooled) = torch.split(features, sizes), torch.split(pooled, sizes)
        else:
            s, s_pooled = network.encode_support(support, guide)
            q, q_pooled = network.encode_query(query)
    s, q, s_pooled, q_pooled = (x.float() for x in (s, q, s_pooled, q_pooled))
    cost = otam_match(q[None], s[None], lam=network.config.match.lam)[0]
    logits = -plan.visual_scale * cost  # (Q, C)
    accuracy = float((logits.argmax(dim=1) == labels).float().mean())
    if words is None:
        loss = episode_loss(logits, labels, plan.alpha, None)
        if anchor > 0:
            with torch.no_grad():
                plain = encode_frames(network.visual, None, query, None)
            loss = loss + anchor * (1 - torch.cosine_similarity(q, plain, dim=-1)).mean()
        return loss, accuracy
    scale = float(network.logit_scale.exp())
    worded = (
        text_loss(s_pooled, words, own, scale, plan.smooth),
        text_loss(q_pooled, words, labels, scale, plan.smooth),
    )
    return episode_loss(logits, labels, plan.alpha, worded), accuracy


def _blur(words: Tensor, noise: float, generator: torch.Generator) -> Tensor:
    """Add noise to texts, so that the texts of unseen classes do not mislead the support branch."""
    spread = noise * words.square().mean(dim=-1, keepdim=True).sqrt()
    return words + spread * torch.randn(words.shape, generator=generator)
