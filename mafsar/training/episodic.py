"""Phase 2: the towers are frozen; adapters and prototype module learn from few-shot episodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mafsar.kernels import otam_match
from mafsar.model.encoder import encode_frames
from mafsar.model.network import MafsarNetwork
from mafsar.training.augment import augment
from mafsar.training.losses import episode_loss, text_loss
from mafsar.training.pool import ClipPool
from mafsar.training.pretrain import cosine_schedule


@dataclass(frozen=True)
class EpisodePlan:
    """How phase 2 runs; every number is a choice of this project."""

    steps: int
    way: int = 8
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.05
    warm_up: int = 20
    alpha: float = 0.3
    smooth: float = 0.1
    visual_scale: float = 2.0
    text_dropout: float = 0.2
    text_noise: float = 1.5
    partner_share: float = 0.6
    scene_share: float = 0.3
    anchor_weight: float = 3.0


def train_episodes(
    network: MafsarNetwork,
    texts: list[Tensor],
    pool: ClipPool,
    scenes: np.ndarray,
    plan: EpisodePlan,
    *,
    seed: int,
    report: Callable[[int, dict[str, float]], None],
) -> None:
    """Train the tunable parameters in place, one episode of one shot and one query a step.

    Args:
        network: Its towers stay as they are.
        texts: Raw embeddings of the ways to say each class of the pool, (ways, E) each.
        pool: Clips of training classes.
        scenes: Places without actions, uint8 (n, 2, T, S, S, 3): some episodes ask for the same
            place again and hold its features to those of the plain tower, so that appearance is
            not unlearnt.
        plan: Steps and weights.
        seed: Draws episodes and augmentation.
        report: Called now and then with the step and its loss and accuracy.
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
        if rng.random() < plan.scene_share:
            picked = rng.choice(len(scenes), plan.way, replace=False)
            takes = torch.from_numpy(scenes[picked]).transpose(0, 1)
            support, query = _disguise(takes, generator)
            words: Tensor | None = None
            anchor = plan.anchor_weight
        else:
            anchor = 0.0
            classes = pool.draw_classes(plan.way, plan.partner_share, rng)
            support, query = (
                torch.from_numpy(pool.frames[i]) for i in pool.draw_clips(classes, rng)
            )
            ways = [int(rng.integers(len(texts[label]))) for label in classes]
            words = torch.stack([texts[c][way] for c, way in zip(classes, ways, strict=True)])
            if rng.random() < plan.text_dropout:
                words = None
        loss, accuracy = _step(network, support, query, words, anchor, plan, generator)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward([loss])
        nn.utils.clip_grad_norm_(tuned, 1.0)
        optimizer.step()
        schedule.step()
        report(step, {"loss": float(loss.detach()), "accuracy": accuracy})
    network.eval()


def _step(
    network: MafsarNetwork,
    support: Tensor,
    query: Tensor,
    words: Tensor | None,
    anchor: float,
    plan: EpisodePlan,
    generator: torch.Generator,
) -> tuple[Tensor, float]:
    labels = torch.arange(len(query))
    guide = None if words is None else _blur(words, plan.text_noise, generator)
    pixels = _prepare(network, query, generator)
    s, s_pooled = network.encode_support(_prepare(network, support, generator), guide)
    q, q_pooled = network.encode_query(pixels)
    cost = otam_match(q[None], s[None], lam=network.config.match.lam)[0]
    logits = -plan.visual_scale * cost  # (Q, C)
    accuracy = float((logits.argmax(dim=1) == labels).float().mean())
    if words is None:
        loss = episode_loss(logits, labels, plan.alpha, None)
        if anchor > 0:
            with torch.no_grad():
                plain = encode_frames(network.visual, None, pixels, None)
            loss = loss + anchor * (1 - torch.cosine_similarity(q, plain, dim=-1)).mean()
        return loss, accuracy
    scale = float(network.logit_scale.exp())
    worded = tuple(
        text_loss(pooled, words, labels, scale, plan.smooth) for pooled in (s_pooled, q_pooled)
    )
    return episode_loss(logits, labels, plan.alpha, (worded[0], worded[1])), accuracy


def _disguise(takes: Tensor, generator: torch.Generator) -> Tensor:
    """Blend places and remix their colours, alike in all takes, for pictures of every kind.

    Args:
        takes: uint8 (2, places, T, S, S, 3).
        generator: Draws the blends.

    Returns:
        float32, as ``takes``.
    """
    places = takes.shape[1]

    def draw(*shape: int) -> Tensor:
        return torch.rand(places, *shape, generator=generator)

    share = 0.5 * draw(1, 1, 1, 1)
    mixed = (1 - share) * takes + share * takes.roll(1, dims=1)
    remix = (3 * draw(3, 3)).softmax(dim=-1)
    strength = draw(1, 1)
    matrix = (1 - strength) * torch.eye(3) + strength * remix
    coloured = torch.einsum("kptxyc,pdc->kptxyd", mixed, matrix)
    middle = coloured.mean(dim=(0, 2, 3, 4, 5))[:, None, None, None, None]
    contrast, bias = 0.5 + 0.8 * draw(1, 1, 1, 1), 80 * draw(1, 1, 1, 3) - 40
    return ((coloured - middle) * contrast + middle + bias).clamp(0, 255)


def _blur(words: Tensor, noise: float, generator: torch.Generator) -> Tensor:
    """Add noise to texts, so that classes never trained on are guided no worse than trained ones."""
    spread = noise * words.square().mean(dim=-1, keepdim=True).sqrt()
    return words + spread * torch.randn(words.shape, generator=generator)


def _prepare(network: MafsarNetwork, frames: Tensor, generator: torch.Generator) -> Tensor:
    pixels, _ = augment(frames, None, generator)
    scaled: Tensor = pixels * network.pixel_scale[:, None, None]
    return scaled + network.pixel_shift[:, None, None]
