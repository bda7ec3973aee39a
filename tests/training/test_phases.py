"""Both phases on a handful of clips: losses fall, what is frozen stays, a seed repeats its bits."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from mafsar.model.config import ModelConfig, TextConfig, VisionConfig, named_config
from mafsar.model.network import MafsarNetwork, build_network
from mafsar.training.episodic import EpisodePlan, train_episodes
from mafsar.training.pool import ClipPool, render_pool, render_scenes
from mafsar.training.pretrain import PretrainPlan, pretrain
from mafsar.training.scoring import (
    Features,
    draw_episodes,
    draw_pair_episodes,
    episode_logits,
    fit_match,
    score,
)
from mafsar.training.table import plain_network, reversed_pairs
from mafsar.training.words import encode, train_tokenizer

NAMES = ["raise_both_arms", "lower_both_arms", "clap", "roll_ball_right"]
SIZE = 32


@pytest.fixture(scope="module")
def pool() -> ClipPool:
    return render_pool(NAMES, 3, first_seed=0, size=SIZE, workers=1)


@pytest.fixture(scope="module")
def scenes() -> np.ndarray:
    return render_scenes(4, first_seed=0, size=SIZE, workers=1)


def small_config() -> ModelConfig:
    return dataclasses.replace(
        named_config("tiny"),
        embed_dim=32,
        vision=VisionConfig(32, 2, 4, 8, SIZE, activation="gelu"),
        text=TextConfig(32, 1, 4, 32, 300, activation="gelu"),
    )


def train(pool: ClipPool, scenes: np.ndarray, *, episodes: int) -> tuple[MafsarNetwork, list, list]:
    captions = [text for label in range(len(NAMES)) for text in pool.captions(label)]
    tokenizer = train_tokenizer(captions, vocabulary=300, context=32)
    network = build_network(small_config(), seed=0)
    losses: list[dict[str, float]] = []
    plan = PretrainPlan(steps=30, batch=24, warm_up=5, learning_rate=3e-3)
    pretrain(
        network, tokenizer, pool, scenes, plan, seed=0, report=lambda _, found: losses.append(found)
    )
    frozen = {name: value.clone() for name, value in network.frozen_parameters().items()}
    tuned = {name: value.clone() for name, value in network.tunable_parameters().items()}
    with torch.no_grad():
        words = [network.encode_text(encode(tokenizer, pool.captions(i))) for i in range(4)]
    steps: list[dict[str, float]] = []
    train_episodes(
        network, words, pool, scenes, EpisodePlan(steps=episodes, way=4, warm_up=2), seed=0,
        report=lambda _, found: steps.append(found),
    )  # fmt: skip
    for name, value in network.frozen_parameters().items():
        assert torch.equal(value, frozen[name]), name
    unchanged = [n for n, v in network.tunable_parameters().items() if torch.equal(v, tuned[n])]
    assert not unchanged
    return network, losses, steps


def test_losses_fall_towers_freeze_and_bits_repeat(pool: ClipPool, scenes: np.ndarray) -> None:
    network, losses, steps = train(pool, scenes, episodes=30)
    for name in ("caption", "place", "pose", "colour"):
        assert losses[-1][name] < losses[0][name], name
    found = [row["loss"] for row in steps]
    assert np.mean(found[-10:]) < np.mean(found[:10])
    assert not network.training
    assert {n for n, p in network.named_parameters() if p.requires_grad} == set(
        network.tunable_parameters()
    )
    again, _, _ = train(pool, scenes, episodes=30)
    for (name, a), b in zip(network.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_plain_network_keeps_the_towers() -> None:
    network = build_network(small_config(), seed=3)
    plain = plain_network(network)
    assert plain.config.adapters is None
    for name, value in plain.state_dict().items():
        assert torch.equal(value, network.state_dict()[name])


def test_workers_do_not_change_the_pool(pool: ClipPool) -> None:
    other = render_pool(NAMES, 3, first_seed=0, size=SIZE, workers=2)
    np.testing.assert_array_equal(other.frames, pool.frames)
    np.testing.assert_array_equal(other.points, pool.points)
    assert other.phrases == pool.phrases


def test_episodes_never_ask_for_a_support_clip() -> None:
    labels = np.repeat(np.arange(6), 4)
    episodes = draw_episodes(labels, count=50, way=5, seed=1)
    assert (labels[episodes.support] == episodes.classes).all()
    assert (labels[episodes.query] == episodes.classes).all()
    assert (episodes.support != episodes.query).all()
    again = draw_episodes(labels, count=50, way=5, seed=1)
    np.testing.assert_array_equal(again.query, episodes.query)


def test_pairs_are_reversed_classes() -> None:
    names = ["open_arms", "wave_hand", "close_arms"]
    assert reversed_pairs(names) == [(0, 2)]
    pairs = draw_pair_episodes(np.repeat(np.arange(3), 3), [(0, 2)], count=5, seed=0)
    assert (pairs.classes == [0, 2]).all()


def test_fit_finds_words_that_help_and_leaves_those_that_do_not() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(6), 6)
    centres = rng.normal(size=(6, 8, 16))
    clips = torch.tensor(centres[labels] + 3.0 * rng.normal(size=(36, 8, 16)), dtype=torch.float32)
    texts = torch.tensor(rng.normal(size=(6, 16)), dtype=torch.float32)
    episodes = draw_episodes(labels, count=200, way=5, seed=0)
    match = dataclasses.replace(named_config("tiny").match, text_scale=20.0)
    telling = Features(clips, clips, texts[torch.from_numpy(labels)], texts)
    fitted = fit_match(telling, episodes, match)
    visual, text = episode_logits(telling, episodes, fitted, with_text=True)
    assert fitted.alpha > 0
    assert score(visual, text, fitted.alpha).accuracy > score(visual, None, 0).accuracy
    silent = dataclasses.replace(
        telling, pooled=torch.tensor(rng.normal(size=(36, 16)).astype("f"))
    )
    visual, text = episode_logits(silent, episodes, match, with_text=True)
    chosen = fit_match(silent, episodes, match)
    assert score(visual, text, chosen.alpha).accuracy >= score(visual, None, 0).accuracy - 0.5
