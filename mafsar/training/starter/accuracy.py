"""Accuracy on frozen rendered episodes of classes that were not trained on."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mafsar.choices import Scoring
from mafsar.kernels.metrics import visual_distances, visual_logits
from mafsar.model.network import MafsarNetwork
from mafsar.training.starter.pool import ClipPool, draw_classes


@dataclass(frozen=True)
class Episodes:
    """Frozen episodes of one shot.

    Attributes:
        classes: int64 (n, C) labels.
        support: int64 (n, C) one clip of each class.
        query: int64 (n, C) another clip of each class.
    """

    classes: np.ndarray
    support: np.ndarray
    query: np.ndarray


@dataclass(frozen=True)
class Features:
    """Features of every clip of a pool, from both branches.

    Attributes:
        query: F̃ of the query branch (n, T, E).
        support: F̃ of the support branch with the clip's own class text (n, T, E).
        pooled: Time-means of raw F of the query branch (n, E).
        texts: Raw text embeddings of the classes (classes, E).
    """

    query: Tensor
    support: Tensor
    pooled: Tensor
    texts: Tensor


@dataclass(frozen=True)
class Score:
    """Accuracy in percent with its 95 % confidence interval over episodes."""

    accuracy: float
    ci95: float


def draw_episodes(
    labels: np.ndarray,
    *,
    count: int,
    way: int,
    seed: int,
    partner_of: Mapping[int, int] | None = None,
) -> Episodes:
    """Draw episodes whose support and query clips differ.

    Args:
        labels: int64 (n,) of the clips.
        count: How many episodes.
        way: Classes in each.
        seed: Draws them.
        partner_of: Classes that are one another backwards or mirrored: one of them never comes
            without the other, unless the last place is its, so that a single frame cannot tell
            most classes of an episode apart. None: classes are drawn alike.
    """
    rng = np.random.default_rng([seed, 3])
    number = int(labels.max()) + 1
    members = [np.flatnonzero(labels == label) for label in range(number)]
    classes = np.array(
        [draw_classes(range(number), partner_of or {}, way, 1.0, rng) for _ in range(count)]
    )
    clips = np.array(
        [[rng.choice(members[label], 2, replace=False) for label in row] for row in classes]
    )
    return Episodes(classes, clips[..., 0], clips[..., 1])


def draw_pair_episodes(
    labels: np.ndarray, pairs: list[tuple[int, int]], *, count: int, seed: int
) -> Episodes:
    """Draw two-way episodes of given pairs of classes."""
    rng = np.random.default_rng([seed, 4])
    classes = np.array([pairs[int(rng.integers(len(pairs)))] for _ in range(count)])
    clips = np.array(
        [
            [rng.choice(np.flatnonzero(labels == label), 2, replace=False) for label in row]
            for row in classes
        ]
    )
    return Episodes(classes, clips[..., 0], clips[..., 1])


@torch.no_grad()
def encode_pool(
    network: MafsarNetwork, pool: ClipPool, texts: Tensor, *, batch: int = 16
) -> Features:
    """Encode every clip once in each branch."""
    query, support, pooled = [], [], []
    for start in range(0, len(pool.labels), batch):
        frames = torch.from_numpy(pool.frames[start : start + batch])
        words = texts[torch.from_numpy(pool.labels[start : start + batch])]
        features, means = network.encode_query(frames)
        query.append(features)
        pooled.append(means)
        support.append(network.encode_support(frames, words)[0])
    return Features(torch.cat(query), torch.cat(support), torch.cat(pooled), texts)


def episode_logits(
    features: Features, episodes: Episodes, match: Scoring, *, with_text: bool
) -> tuple[Tensor, Tensor]:
    """Return visual and text logits of every episode, (n, Q, C) each."""
    support = (features.support if with_text else features.query)[
        torch.from_numpy(episodes.support)
    ]
    query = features.query[torch.from_numpy(episodes.query)]
    visual = visual_logits(visual_distances(query, support, match), query.shape[2], match)
    unit = torch.nn.functional.normalize
    words = unit(features.texts, dim=-1)[torch.from_numpy(episodes.classes)]  # (n, C, E)
    pooled = unit(features.pooled, dim=-1)[torch.from_numpy(episodes.query)]  # (n, Q, E)
    return visual, match.text_scale * pooled @ words.transpose(1, 2)


def score(visual: Tensor, text: Tensor | None, alpha: float) -> Score:
    """Return the accuracy of fused scores; the diagonal is right."""
    fused = visual.softmax(dim=-1)
    if text is not None:
        fused = alpha * text.softmax(dim=-1) + (1 - alpha) * fused
    right = fused.argmax(dim=-1) == torch.arange(fused.shape[1])
    each = right.double().mean(dim=1)
    return Score(100 * float(each.mean()), 196 * float(each.std()) / math.sqrt(len(each)))


def fit_match(features: Features, episodes: Episodes, match: Scoring) -> Scoring:
    """Choose visual_scale by likelihood and α by accuracy on validation episodes."""
    raw = dataclasses.replace(match, visual_scale=1.0)
    visual, text = episode_logits(features, episodes, raw, with_text=True)
    right = torch.arange(visual.shape[1])

    def likelihood(scale: float) -> float:
        return float((scale * visual).log_softmax(dim=-1)[:, right, right].mean())

    scales = [round(0.25 * 2 ** (k / 2), 3) for k in range(16)]
    scale = max(scales, key=likelihood)
    alphas = [k / 20 for k in range(11)]
    # Ties go to the smaller weight of the words.
    alpha = max(alphas, key=lambda a: (score(scale * visual, text, a).accuracy, -a))
    return dataclasses.replace(match, visual_scale=scale, alpha=alpha)
