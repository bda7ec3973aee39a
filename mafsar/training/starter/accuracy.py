"""Accuracy on fixed episodes of rendered classes that were not trained on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mafsar.choices import Branch, Scoring
from mafsar.kernels.metrics import visual_distances, visual_logits
from mafsar.model.class_scores import text_logits
from mafsar.model.network import MafsarNetwork
from mafsar.runtime.evaluation.tally import confidence_interval
from mafsar.runtime.scoring.view_episodes import prototype_distances
from mafsar.training.fit import Float64, fused_scores, share_right
from mafsar.training.learner import one_thread_each
from mafsar.training.starter.pool import ClipPool, draw_classes

_CLIPS = 2  # that are encoded together; more do not fit a processor's cache
_EPISODES = 100  # that are matched together


@dataclass(frozen=True)
class PoolEpisodes:
    """Fixed one-shot episodes of a pool of clips.

    Attributes:
        classes: int64 (n, C) labels.
        support: int64 (n, C) one clip of each class.
        query: int64 (n, C) another clip of each class.
    """

    classes: np.ndarray
    support: np.ndarray
    query: np.ndarray


@dataclass(frozen=True)
class PoolFeatures:
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


def draw_pool_episodes(
    labels: np.ndarray,
    *,
    count: int,
    way: int,
    seed: int,
    partner_of: Mapping[int, int] | None = None,
) -> PoolEpisodes:
    """Draw episodes whose support and query clips differ.

    Args:
        labels: int64 (n,) of the clips.
        count: How many episodes.
        way: Classes in each.
        seed: Draws them.
        partner_of: For a class, the one that is its motion backwards or mirrored. An episode has
            both (but for a class in the last place), so that a single frame cannot tell most of
            its classes apart. None draws all classes alike.
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
    return PoolEpisodes(classes, clips[..., 0], clips[..., 1])


def draw_pair_episodes(
    labels: np.ndarray, pairs: list[tuple[int, int]], *, count: int, seed: int
) -> PoolEpisodes:
    """Draw two-way episodes of given pairs of classes."""
    rng = np.random.default_rng([seed, 4])
    classes = np.array([pairs[int(rng.integers(len(pairs)))] for _ in range(count)])
    clips = np.array(
        [
            [rng.choice(np.flatnonzero(labels == label), 2, replace=False) for label in row]
            for row in classes
        ]
    )
    return PoolEpisodes(classes, clips[..., 0], clips[..., 1])


def encode_pool(
    network: MafsarNetwork, pool: ClipPool, texts: Tensor, *, workers: int = 2
) -> PoolFeatures:
    """Encode every clip once in each branch; the result does not depend on `workers`."""

    @torch.no_grad()
    def encode(start: int) -> tuple[Tensor, Tensor, Tensor]:
        frames = torch.from_numpy(pool.frames[start : start + _CLIPS])
        words = texts[torch.from_numpy(pool.labels[start : start + _CLIPS])]
        seen = network.see_photo(frames)
        query, pooled = network.encode_seen(*seen, None)
        support, _ = network.encode_seen(*seen, words)
        return query, support, pooled

    # Clips beside each other, each on one thread, are faster than threads inside an operation.
    with one_thread_each(), ThreadPoolExecutor(workers) as threads:
        parts = list(threads.map(encode, range(0, len(pool.labels), _CLIPS)))
    query, support, pooled = (torch.cat(each) for each in zip(*parts, strict=True))
    return PoolFeatures(query, support, pooled, texts)


def episode_logits(
    features: PoolFeatures, episodes: PoolEpisodes, match: Scoring, *, with_text: bool
) -> tuple[Float64, Float64]:
    """Return the visual logits at visual_scale 1 and the text logits, (n, Q, C) each.

    Args:
        features: Of the pool that the episodes were drawn from.
        episodes: n episodes.
        match: Metric, λ and text scale.
        with_text: The support branch is the one that reads the class's text.
    """
    unscaled = dataclasses.replace(match, visual_scale=1.0)
    if match.views == "raw":
        support = features.support if with_text else features.query
        shown = support[torch.from_numpy(episodes.support)]
        asked = features.query[torch.from_numpy(episodes.query)]
        distances = visual_distances(asked, shown, unscaled)
    else:
        distances = _by_views(features, episodes, unscaled, with_text=with_text)
    visual = visual_logits(distances, features.query.shape[-2], unscaled)
    texts = features.texts[torch.from_numpy(episodes.classes)]  # (n, C, E)
    pooled = features.pooled[torch.from_numpy(episodes.query)]  # (n, Q, E)
    text = text_logits(pooled, texts, match)
    return visual.double().numpy(), text.double().numpy()


def _by_views(
    features: PoolFeatures, episodes: PoolEpisodes, match: Scoring, *, with_text: bool
) -> Tensor:
    query = features.query.numpy()
    support = features.support.numpy() if with_text else query
    branch: Branch = "support" if with_text else "query"
    matched = prototype_distances(query, support, match, branch)
    parts = [
        matched(
            episodes.query[start : start + _EPISODES],
            episodes.support[start : start + _EPISODES, :, None],
        )
        for start in range(0, len(episodes.query), _EPISODES)
    ]
    return torch.from_numpy(np.concatenate(parts))


def score(visual: Float64, text: Float64 | None, match: Scoring) -> Score:
    """Return the accuracy of fused scores; the diagonal is right."""
    right = share_right(fused_scores(visual, text, match))
    return Score(100 * float(right.mean()), 100 * confidence_interval(right))
