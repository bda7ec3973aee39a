"""Results of the starter next to baselines without it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer

from mafsar.choices import RAW_LAM, Scoring
from mafsar.model.network import MafsarNetwork, build_network
from mafsar.synthetic.actions.classes import action
from mafsar.training.starter.accuracy import (
    PoolEpisodes,
    PoolFeatures,
    draw_pair_episodes,
    draw_pool_episodes,
    encode_pool,
    episode_logits,
    score,
)
from mafsar.training.starter.pool import ClipPool, partners
from mafsar.training.starter.words import encode

_WAY = 5


def measure(
    network: MafsarNetwork, tokenizer: Tokenizer, pool: ClipPool, *, episodes: int, seed: int
) -> list[dict[str, Any]]:
    """Measure the starter and its baselines on the same fixed episodes of unseen classes.

    Args:
        network: The trained starter.
        tokenizer: Its tokenizer.
        pool: Clips of test classes.
        episodes: Number of 5-way 1-shot episodes, and of 2-way ones of reversed pairs.
        seed: Draws the episodes.

    Returns:
        One row per method: ``name``, ``accuracy`` and ``ci95`` of the 5-way episodes, ``pairs`` and
        ``pairs_ci95`` of two-way episodes of a class and its reverse; percent.
    """
    frozen = draw_pool_episodes(
        pool.labels, count=episodes, way=_WAY, seed=seed, partner_of=partners(pool.names)
    )
    pairs = draw_pair_episodes(pool.labels, reversed_pairs(pool.names), count=episodes, seed=seed)
    labels = [name.replace("_", " ") for name in pool.names]
    with torch.no_grad():
        words = network.encode_text(encode(tokenizer, labels))
    match = network.config.match
    raw = dataclasses.replace(match, lam=RAW_LAM, views="raw", view_prior=None)
    mean = dataclasses.replace(raw, metric="mean")
    plain = plain_network(network)
    untrained = encode_pool(build_network(network.config, seed=seed + 1), pool, words)
    towers, tiny = encode_pool(plain, pool, words), encode_pool(network, pool, words)
    middle, pixels = _middle_frame(towers), _grey_pixels(pool, towers)
    # Without a prior: that of the match is of other features.
    views = network.config.plain().match
    photo = []
    if network.photo is not None:
        beside = _beside(tiny, network.config.embed_dim)
        photo = [_row("photo embedding alone + views", beside, frozen, pairs, views)]
    return [
        {"name": "chance", "accuracy": 20.0, "ci95": 0.0, "pairs": 50.0, "pairs_ci95": 0.0},
        _row("grey pixels, background removed + OTAM", pixels, frozen, pairs, raw),
        _row("random weights + OTAM", untrained, frozen, pairs, raw),
        _row("frozen networks, one middle frame", middle, frozen, pairs, mean),
        _row("frozen networks, mean pooled", towers, frozen, pairs, mean),
        _row("frozen networks + OTAM", towers, frozen, pairs, raw),
        _row("frozen networks + views", towers, frozen, pairs, views),
        *photo,
        _row("tiny, text off", tiny, frozen, pairs, match),
        _row("tiny", tiny, frozen, pairs, match, with_text=True),
    ]


def plain_network(network: MafsarNetwork) -> MafsarNetwork:
    """Return a network of the same towers without adapters, a plain CLIP."""
    plain = build_network(network.config.plain())
    state = network.state_dict()
    plain.load_state_dict({name: state[name] for name in plain.state_dict()})
    return plain


def reversed_pairs(names: list[str]) -> list[tuple[int, int]]:
    """Return the pairs of a class and its reverse."""
    return [
        (index, partner)
        for index, partner in partners(names).items()
        if action(names[partner]).backwards
    ]


def print_table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as a Markdown table."""
    lines = ["| method | 5-way 1-shot, % | reversed pairs, 2-way, % |", "|---|---|---|"]
    lines += [
        f"| {row['name']} | {row['accuracy']:.1f} ± {row['ci95']:.1f} "
        f"| {row['pairs']:.1f} ± {row['pairs_ci95']:.1f} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def _row(
    name: str,
    features: PoolFeatures,
    frozen: PoolEpisodes,
    pairs: PoolEpisodes,
    match: Scoring,
    *,
    with_text: bool = False,
) -> dict[str, Any]:
    row: dict[str, Any] = {"name": name}
    for key, ci, episodes in (("accuracy", "ci95", frozen), ("pairs", "pairs_ci95", pairs)):
        visual, text = episode_logits(features, episodes, match, with_text=with_text)
        words = text if with_text else None
        found = score(visual, words, match)
        row[key], row[ci] = round(found.accuracy, 2), round(found.ci95, 2)
    return row


def _grey_pixels(pool: ClipPool, like: PoolFeatures) -> PoolFeatures:
    """Return 32×32 grey pictures minus their median over time, as frame features (n, T, 1024)."""
    small = [
        [
            Image.fromarray(frame).convert("L").resize((32, 32), Image.Resampling.BOX)
            for frame in clip
        ]
        for clip in pool.frames
    ]
    grey = np.array([[np.asarray(image, np.float32) for image in clip] for clip in small])
    moving = torch.from_numpy(grey - np.median(grey, axis=1, keepdims=True)).flatten(2)
    return dataclasses.replace(like, query=moving, support=moving)


def _beside(features: PoolFeatures, width: int) -> PoolFeatures:
    """Return the photo embedding alone, which stands behind the tower's features."""
    query = features.query[..., width:].contiguous()
    return dataclasses.replace(features, query=query, support=query)


def _middle_frame(features: PoolFeatures) -> PoolFeatures:
    middle = features.query.shape[1] // 2
    one = features.query[:, middle : middle + 1]
    return dataclasses.replace(features, query=one, support=one)
