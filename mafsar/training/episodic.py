"""Phase 2: the towers are frozen; adapters and prototype module learn from few-shot episodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mafsar.data.synthetic.actions import action
from mafsar.kernels import otam_match
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
    partner_share: float = 0.6
    scene_share: float = 0.2


def train_episodes(
    network: MafsarNetwork,
    texts: Tensor,
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
        texts: Raw text embedding of each class of the pool, (classes, E).
        pool: Clips of training classes.
        scenes: Places without actions, uint8 (n, 2, T, S, S, 3): some episodes ask for the same
            place again, so that appearance is not unlearnt.
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
            support, query = (torch.from_numpy(scenes[picked, take]) for take in range(2))
            words = None
        else:
            classes = _draw_classes(pool, plan, rng)
            support, query = _draw_clips(pool, classes, rng)
            words = None if rng.random() < plan.text_dropout else texts[torch.tensor(classes)]
        loss, accuracy = _step(network, support, query, words, plan, generator)
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
    plan: EpisodePlan,
    generator: torch.Generator,
) -> tuple[Tensor, float]:
    labels = torch.arange(len(query))
    s, s_pooled = network.encode_support(_prepare(network, support, generator), words)
    q, q_pooled = network.encode_query(_prepare(network, query, generator))
    cost = otam_match(q[None], s[None], lam=network.config.match.lam)[0]
    logits = -plan.visual_scale * cost  # (Q, C)
    accuracy = float((logits.argmax(dim=1) == labels).float().mean())
    if words is None:
        return episode_loss(logits, labels, plan.alpha, None), accuracy
    scale = float(network.logit_scale.exp())
    worded = tuple(
        text_loss(pooled, words, labels, scale, plan.smooth) for pooled in (s_pooled, q_pooled)
    )
    return episode_loss(logits, labels, plan.alpha, (worded[0], worded[1])), accuracy


def _prepare(network: MafsarNetwork, frames: Tensor, generator: torch.Generator) -> Tensor:
    pixels, _ = augment(frames, None, generator)
    scaled: Tensor = pixels * network.pixel_scale[:, None, None]
    return scaled + network.pixel_shift[:, None, None]


def _draw_classes(pool: ClipPool, plan: EpisodePlan, rng: np.random.Generator) -> list[int]:
    """Draw an episode's classes; often with the class that is the same motion backwards."""
    drawn: list[int] = []
    for label in rng.permutation(len(pool.names)):
        partner = action(pool.names[label]).partner
        group = [int(label)]
        if partner in pool.names and rng.random() < plan.partner_share:
            group.append(pool.names.index(str(partner)))
        drawn += [member for member in group if member not in drawn]
        if len(drawn) >= plan.way:
            break
    return drawn[: plan.way]


def _draw_clips(
    pool: ClipPool, classes: list[int], rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    pairs = [rng.choice(pool.clips_of(label), 2, replace=False) for label in classes]
    support, query = np.stack(pairs, axis=1)
    return torch.from_numpy(pool.frames[support]), torch.from_numpy(pool.frames[query])
