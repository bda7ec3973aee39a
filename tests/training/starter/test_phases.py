"""The phases on a few clips: losses fall, frozen parts stay, the same seed gives the same bits."""

from __future__ import annotations

import dataclasses
from types import ModuleType

import numpy as np
import pytest
import torch

from mafsar.choices import METRICS, Metric
from mafsar.model.config import ModelConfig, TextConfig, VisionConfig, named_config
from mafsar.model.network import MafsarNetwork, build_network
from mafsar.synthetic.actions.classes import action, wild_names
from mafsar.training.fit import fit_match
from mafsar.training.starter.accuracy import (
    PoolFeatures,
    draw_pair_episodes,
    draw_pool_episodes,
    episode_logits,
    score,
)
from mafsar.training.starter.augment import cover
from mafsar.training.starter.episodic import EpisodePlan, train_episodes
from mafsar.training.starter.pool import (
    MapPool,
    draw_classes,
    map_pool,
    map_scenes,
    partners,
    render_pool,
    stem_maps,
)
from mafsar.training.starter.pretrain import PretrainPlan, pretrain
from mafsar.training.starter.table import plain_network, reversed_pairs
from mafsar.training.starter.words import encode, train_tokenizer

NAMES = ["raise_both_arms", "lower_both_arms", "clap", "roll_ball_right"]
SIZE = 32


Places = tuple[torch.Tensor, torch.Tensor]


def small_config() -> ModelConfig:
    return dataclasses.replace(
        named_config("tiny"),
        embed_dim=32,
        vision=VisionConfig(32, 2, 4, 16, SIZE, activation="gelu", stem="efficientnet-lite0"),
        text=TextConfig(32, 1, 4, 32, 300, activation="gelu"),
    )


def small_pool(workers: int) -> MapPool:
    network = build_network(small_config(), seed=0)
    generator = torch.Generator().manual_seed(0)
    names = NAMES + wild_names(4)
    return map_pool(
        network, names, [4] * len(names), first_seed=0, generator=generator, photos=False,
        workers=workers,
    )  # fmt: skip


@pytest.fixture(scope="module")
def pool() -> MapPool:
    return small_pool(1)


@pytest.fixture(scope="module")
def scenes() -> Places:
    network = build_network(small_config(), seed=0)
    generator = torch.Generator().manual_seed(1)
    return map_scenes(network, 4, first_seed=0, generator=generator, photos=False, workers=1)


def train(pool: MapPool, scenes: Places, *, episodes: int) -> tuple[MafsarNetwork, list, list]:
    captions = [text for label in range(len(NAMES)) for text in pool.captions(label)]
    tokenizer = train_tokenizer(captions, vocabulary=300, context=32)
    network = build_network(small_config(), seed=0)
    losses: list[dict[str, float]] = []
    plan = PretrainPlan(steps=30, batch=24, warm_up=5, learning_rate=3e-3)
    pretrain(
        network, tokenizer, pool, scenes, plan, seed=0, report=lambda _, found: losses.append(found)
    )
    frozen = {name: value.clone() for name, value in network.frozen_parameters().items()}
    stem = build_network(small_config(), seed=0).visual.stem.state_dict()
    for name, value in network.visual.stem.state_dict().items():
        assert torch.equal(value, stem[name]), name  # phase 1 leaves it alone too
    tuned = {name: value.clone() for name, value in network.tunable_parameters().items()}
    with torch.no_grad():
        words = [network.encode_text(encode(tokenizer, pool.captions(i))) for i in range(4)]
    steps: list[dict[str, float]] = []
    few = EpisodePlan(
        steps=episodes, way=4, warm_up=2, learning_rate=6e-3, unnamed_share=0.2, scene_share=0.1
    )
    train_episodes(
        network, words, pool, scenes[0], few, seed=0, report=lambda _, found: steps.append(found)
    )
    for name, value in network.frozen_parameters().items():
        assert torch.equal(value, frozen[name]), name
    unchanged = [n for n, v in network.tunable_parameters().items() if torch.equal(v, tuned[n])]
    assert not unchanged
    return network, losses, steps


def test_losses_fall_towers_freeze_and_bits_repeat(pool: MapPool, scenes: Places) -> None:
    network, losses, steps = train(pool, scenes, episodes=40)
    for name in ("caption", "place", "pose", "colour"):
        assert losses[-1][name] < losses[0][name], name
    found = [row["loss"] for row in steps]
    assert np.mean(found[-10:]) < np.mean(found[:10])
    assert not network.training
    assert {n for n, p in network.named_parameters() if p.requires_grad} == set(
        network.tunable_parameters()
    )
    again, _, _ = train(pool, scenes, episodes=40)
    for (name, a), b in zip(network.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_plain_network_keeps_the_towers() -> None:
    network = build_network(small_config(), seed=3)
    plain = plain_network(network)
    assert plain.config.adapters is None
    for name, value in plain.state_dict().items():
        assert torch.equal(value, network.state_dict()[name])


def test_workers_do_not_change_the_pool(pool: MapPool) -> None:
    other = small_pool(2)
    assert torch.equal(other.maps, pool.maps)
    assert torch.equal(other.colours, pool.colours)
    torch.testing.assert_close(other.points, pool.points, rtol=0, atol=0, equal_nan=True)
    assert other.phrases == pool.phrases


def test_maps_are_what_the_network_sees_of_the_pictures() -> None:
    network = build_network(small_config(), seed=0)
    frames = render_pool(NAMES[:1], 2, first_seed=3, size=SIZE, workers=1).frames
    pixels = torch.from_numpy(frames).permute(0, 1, 4, 2, 3).float()
    with torch.no_grad():
        seen, _ = network.encode_query(stem_maps(network, pixels).float())
        whole, _ = network.encode_query(torch.from_numpy(frames))
    # The maps were made in bfloat16, which keeps 8 bits of each of the stem's layers.
    assert torch.cosine_similarity(seen, whole, dim=-1).min() > 0.99


def test_places_with_motion_in_front_are_held_to_the_plain_tower(
    pool: MapPool, scenes: Places
) -> None:
    def losses(bustle: float, anchor_weight: float) -> list[float]:
        plan = EpisodePlan(
            steps=3, way=4, scene_share=1.0, bustle=bustle, anchor_weight=anchor_weight
        )
        found: list[float] = []
        train_episodes(
            build_network(small_config(), seed=0), [], pool, scenes[0], plan, seed=0,
            report=lambda _, values: found.append(values["loss"]),
        )  # fmt: skip
        return found

    bustling = losses(1.0, 5.0)
    assert bustling == losses(1.0, 5.0)
    assert bustling[0] > losses(0.0, 5.0)[0]  # the same places are harder to tell apart
    assert bustling[0] > losses(1.0, 0.0)[0]  # and the tower without adapters is another one


def test_a_place_is_covered_by_one_window() -> None:
    places, others = torch.zeros(40, 3, 2, 7, 7), torch.ones(40, 3, 2, 7, 7)
    covered = cover(places, others, np.random.default_rng(0))
    assert torch.equal(covered, covered[:, :1, :1].expand_as(covered))  # as solid in all frames
    shares = []
    for window in covered[:, 0, 0]:
        rows, columns = window.any(dim=1).nonzero()[:, 0], window.any(dim=0).nonzero()[:, 0]
        inside = window[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert 0.5 <= inside.unique().item() <= 1
        assert inside.numel() == (window > 0).sum()
        assert len(rows) >= 3
        assert len(columns) >= 2
        shares.append(inside.numel() / window.numel())
    assert min(shares) < 0.3
    assert max(shares) > 0.8


def test_unnamed_and_named_classes_are_drawn_apart(pool: MapPool) -> None:
    rng = np.random.default_rng(0)
    for unnamed in (False, True):
        for _ in range(20):
            labels = pool.draw_classes(3, 0.5, rng, unnamed=unnamed)
            assert {action(pool.names[label]).unnamed for label in labels} == {unnamed}
            clips = pool.draw_clips(labels, 3, rng)
            assert (pool.labels[clips] == labels).all()
            assert all(len(set(column)) == 3 for column in clips.T)


def test_a_class_brings_its_partner() -> None:
    names = ["open_arms", "wave_hand", "close_arms", "jump"]
    assert partners(names) == {0: 2, 2: 0}
    rng = np.random.default_rng(0)
    for _ in range(20):
        drawn = draw_classes(range(4), partners(names), 3, 1.0, rng)
        assert len(set(drawn)) == 3
        if drawn[-1] not in (0, 2):  # the last place may cut a pair in two
            assert {0, 2} <= set(drawn) or not {0, 2} & set(drawn)


def test_a_query_is_never_a_support_clip() -> None:
    labels = np.repeat(np.arange(6), 4)
    episodes = draw_pool_episodes(labels, count=50, way=5, seed=1)
    assert (labels[episodes.support] == episodes.classes).all()
    assert (labels[episodes.query] == episodes.classes).all()
    assert (episodes.support != episodes.query).all()
    again = draw_pool_episodes(labels, count=50, way=5, seed=1)
    np.testing.assert_array_equal(again.query, episodes.query)


def test_pairs_are_reversed_classes() -> None:
    names = ["open_arms", "wave_hand", "close_arms"]
    assert reversed_pairs(names) == [(0, 2)]
    pairs = draw_pair_episodes(np.repeat(np.arange(3), 3), [(0, 2)], count=5, seed=0)
    assert (pairs.classes == [0, 2]).all()


def test_fit_uses_words_only_where_they_help() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(6), 6)
    centres = rng.normal(size=(6, 8, 16))
    clips = torch.tensor(centres[labels] + 3.0 * rng.normal(size=(36, 8, 16)), dtype=torch.float32)
    texts = torch.tensor(rng.normal(size=(6, 16)), dtype=torch.float32)
    episodes = draw_pool_episodes(labels, count=200, way=5, seed=0)
    match = dataclasses.replace(named_config("tiny").match, text_scale=20.0)
    telling = PoolFeatures(clips, clips, texts[torch.from_numpy(labels)], texts)
    visual, text = episode_logits(telling, episodes, match, with_text=True)
    fitted = fit_match(visual, text, match)
    assert fitted.alpha > 0
    assert score(visual, text, fitted).accuracy > score(visual, None, fitted).accuracy
    silent = dataclasses.replace(
        telling, pooled=torch.tensor(rng.normal(size=(36, 16)).astype("f"))
    )
    visual, text = episode_logits(silent, episodes, match, with_text=True)
    chosen = fit_match(visual, text, match)
    assert score(visual, text, chosen).accuracy >= score(visual, None, chosen).accuracy - 0.5


@pytest.mark.parametrize("metric", METRICS)
def test_each_metric_is_scored_as_itself(metric: Metric, restated_matching: ModuleType) -> None:
    rng = np.random.default_rng(2)
    clips = torch.tensor(rng.normal(size=(12, 4, 6)), dtype=torch.float32)
    episodes = draw_pool_episodes(np.repeat(np.arange(4), 3), count=3, way=3, seed=0)
    features = PoolFeatures(clips, clips, clips.mean(dim=1), torch.zeros(4, 6))
    match = dataclasses.replace(named_config("tiny").match, metric=metric, visual_scale=7.0)
    visual, _ = episode_logits(features, episodes, match, with_text=False)
    frames = clips.double().numpy()
    factor = restated_matching.logit_factor(metric, 4)
    for n, (queries, supports) in enumerate(zip(episodes.query, episodes.support, strict=True)):
        for q, query in enumerate(queries):
            for c, support in enumerate(supports):
                cost = restated_matching.distance(metric, frames[query], frames[support], match.lam)
                assert visual[n, q, c] == pytest.approx(-factor * cost, rel=1e-5, abs=1e-5)
