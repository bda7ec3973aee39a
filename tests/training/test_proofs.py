"""Evaluation must not use the labels of queries, nor see a query among its support.

Its baseline is the frozen tower: frames averaged and compared by cosine.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch

from mafsar.choices import Scoring
from mafsar.data.episodes import draw_episodes
from mafsar.data.support import SupportSet, read_support
from mafsar.model.config import AdapterConfig, ModelConfig
from mafsar.model.network import build_network
from mafsar.runtime.cache.encoding import encode_clips
from mafsar.runtime.engines.torch_encoder import TorchEncoder
from mafsar.runtime.evaluation.evaluate import evaluate
from mafsar.runtime.scoring.scores import match_features
from mafsar.video import load_clip


@pytest.fixture(scope="module")
def encoder(small_clip_config: ModelConfig) -> TorchEncoder:
    """A network whose adapters and text tokens have an effect: all are random."""
    match = Scoring(text_scale=20.0)
    config = dataclasses.replace(small_clip_config, adapters=AdapterConfig(), match=match)
    network = build_network(config, seed=3)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in network.tunable_parameters().values():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return TorchEncoder(network, device="cpu")


@pytest.fixture(scope="module")
def clips(moving_squares: Path) -> SupportSet:
    return read_support(moving_squares)


def test_permuted_labels_give_chance(encoder, clips) -> None:
    """The labels of all clips are permuted before episodes are drawn.

    If a query were guided by its own label, or were among its support, accuracy would stay above
    chance under any permutation. Clips repeat between episodes, so the spread is taken over
    permutations, not over queries.
    """
    rng = np.random.default_rng(0)
    found = []
    for seed in range(16):
        order = rng.permutation(len(clips.clips))
        mixed = tuple(
            dataclasses.replace(clip, label=clips.clips[other].label)
            for clip, other in zip(clips.clips, order, strict=True)
        )
        result = evaluate(
            encoder, dataclasses.replace(clips, clips=mixed), episodes=400, seed=seed, text="on"
        )
        assert result.accuracy_text is not None
        found.append((result.accuracy, result.accuracy_visual, result.accuracy_text))
    for accuracy in np.array(found).T:
        sigma = accuracy.std(ddof=1) / np.sqrt(len(found))
        assert abs(accuracy.mean() - 20) < 3 * sigma
        assert sigma < 3  # so that the bound says something


def test_a_query_is_the_same_whatever_its_own_label(encoder, clips) -> None:
    chosen = clips.clips[::4]
    own = [f"class {i}" for i in range(len(chosen))]
    other = [f"another {i}" for i in range(len(chosen))]
    a, b = (encode_clips(encoder, chosen, texts) for texts in (own, other))
    assert a.query.tobytes() == b.query.tobytes()
    assert a.pooled.tobytes() == b.pooled.tobytes()
    assert a.support is not None
    assert b.support is not None
    assert not np.array_equal(a.support, b.support)  # the support does read its label
    words = encoder.encode_text(own)
    scores = [
        match_features(x.query, a.support, Scoring(alpha=0.5), pooled=x.pooled, text=words).fused
        for x in (a, b)
    ]
    assert scores[0].tobytes() == scores[1].tobytes()


def test_no_clip_is_support_and_query_of_an_episode(
    encoder, moving_squares: Path, tmp_path: Path
) -> None:
    """By content: copies with other names, in the same class or in another, are left out."""
    root = tmp_path / "copies"
    shutil.copytree(moving_squares, root)
    shutil.copytree(root / "left" / "clip0", root / "left" / "clip9")
    shutil.copytree(root / "up" / "clip1", root / "down" / "clip9")
    data = read_support(root)
    file = tmp_path / "episodes.json"
    result = evaluate(encoder, data, episodes=300, episodes_file=file, text="off")
    assert result.clips_again == 2
    frozen = json.loads(file.read_text())
    hashes = []
    for name in frozen["clips"]:
        digest = hashlib.sha256()
        for picture in sorted((root / name).iterdir()):
            digest.update(picture.read_bytes())
        hashes.append(digest.hexdigest())
    assert len(hashes) == 40
    for episode in frozen["episodes"]:
        support = {hashes[i] for i in np.ravel(episode["support"])}
        query = {hashes[i] for i in np.ravel(episode["query"])}
        assert not support & query


def test_training_episodes_keep_support_and_query_apart() -> None:
    class_index = np.repeat(np.arange(6), 5)
    episodes = draw_episodes(class_index, list("abcdef"), shot=2, query=3, episodes=500)
    for support, query in zip(episodes.support, episodes.queries, strict=True):
        assert not set(support.ravel().tolist()) & set(query.ravel().tolist())
        assert len(set(support.ravel().tolist())) == 10


@torch.no_grad()
def test_the_frozen_row_is_open_clip_s_tower_mean_pooled(
    small_clip_config: ModelConfig, moving_squares: Path, tmp_path: Path
) -> None:
    """`eval NAME --metric mean`, answer by answer, with open_clip's own tower in float64."""
    network = build_network(small_clip_config, seed=3)
    file = tmp_path / "episodes.json"
    result = evaluate(
        TorchEncoder(network, device="cpu"), moving_squares, metric="mean", text="off",
        episodes=80, shot=2, episodes_file=file, cache=False,
    )  # fmt: skip
    assert (result.adapters, result.metric) == ("none", "mean")

    vision = small_clip_config.vision
    tower = open_clip.transformer.VisionTransformer(
        image_size=vision.image_size, patch_size=vision.patch_size, width=vision.width,
        layers=vision.layers, heads=vision.heads, mlp_ratio=vision.mlp_ratio,
        output_dim=small_clip_config.embed_dim,
    )  # fmt: skip
    tower.load_state_dict(network.visual.state_dict())
    tower.double().eval()
    mean, std = (np.array(x) for x in (small_clip_config.mean, small_clip_config.std))
    frozen = json.loads(file.read_text())
    pooled = []
    for name in frozen["clips"]:
        pixels = load_clip(moving_squares / name, frames=4, size=32).pixels
        frames = torch.from_numpy((pixels / 255 - mean) / std).permute(0, 3, 1, 2)
        pooled.append(tower(frames).mean(dim=0).numpy())
    features = np.array(pooled)
    right, gaps = [], []
    for episode in frozen["episodes"]:
        classes = features[np.array(episode["support"])].mean(axis=1)  # (5, E)
        queries = features[np.array(episode["query"])][:, 0]
        unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (queries, classes)]
        cosines = unit[0] @ unit[1].T
        right.append((cosines.argmax(axis=1) == np.arange(5)).mean())
        best, second = np.sort(cosines, axis=1)[:, :-3:-1].T
        gaps += (best - second).tolist()
    # Two classes nearer than float32 tells apart (8 roundings of a cosine) may change places.
    close = np.mean(np.array(gaps) < 8 * np.finfo(np.float32).eps)
    assert close < 0.01
    assert result.accuracy == pytest.approx(100 * np.mean(right), abs=100 * close + 1e-9)
    assert 20 < result.accuracy < 100
