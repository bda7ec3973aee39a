"""The shipped starter: it opens in ONNX Runtime, is small, and is better than chance."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import mafsar
from mafsar.choices import Scoring
from mafsar.runtime.scoring.view_episodes import prototype_distances
from mafsar.synthetic import class_names
from mafsar.training.starter.accuracy import PoolEpisodes, draw_pair_episodes, draw_pool_episodes
from mafsar.training.starter.pool import ClipPool, partners, render_pool
from mafsar.training.starter.table import reversed_pairs
from mafsar.video import load_clip

CLIPS = 8


@pytest.fixture(scope="module")
def bundle() -> Path:
    return Path(str(files("mafsar") / "assets" / "tiny.mafsar"))


@pytest.fixture(scope="module")
def manifest(bundle: Path) -> dict:
    found: dict = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
    return found


def _session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _features(bundle: Path, clips: np.ndarray) -> np.ndarray:
    session = _session(bundle / "query-fp32.onnx")
    parts = [
        session.run(["features"], {"frames": clips[i : i + 16]}) for i in range(0, len(clips), 16)
    ]
    return np.concatenate([part[0] for part in parts])


@pytest.fixture(scope="module")
def scoring() -> Scoring:
    return mafsar.load_model("tiny").spec.scoring


@pytest.fixture(scope="module")
def pool(manifest: dict) -> ClipPool:
    """Clips of classes and seeds that were used neither in training nor for any choice."""
    size = manifest["image_size"]
    return render_pool(class_names("test"), CLIPS, first_seed=9_000_000, size=size, workers=1)


def test_manifest_says_what_it_is(bundle: Path, manifest: dict) -> None:
    assert manifest["name"] == "tiny"
    assert manifest["adapters"] == "trained"
    assert "starter" in manifest["notice"]
    assert "\n" not in manifest["notice"]
    assert {"arms", "object", "box", "red"} <= set(manifest["known_words"])
    assert "juggling" not in manifest["known_words"]
    assert sum(path.stat().st_size for path in bundle.iterdir()) <= 40e6


def test_names_unseen_actions_from_one_clip_each(
    bundle: Path, pool: ClipPool, scoring: Scoring
) -> None:
    features = _features(bundle, pool.frames)
    assert features.dtype == np.float32
    episodes = draw_pool_episodes(
        pool.labels, count=200, way=5, seed=7, partner_of=partners(pool.names)
    )
    assert _accuracy(features, episodes, scoring) >= 0.75  # chance is 0.2
    pairs = draw_pair_episodes(pool.labels, reversed_pairs(pool.names), count=200, seed=7)
    assert _accuracy(features, pairs, scoring) >= 0.84  # chance is 0.5, and order all there is


def _accuracy(features: np.ndarray, episodes: PoolEpisodes, scoring: Scoring) -> float:
    distances = prototype_distances(features, features, scoring, "query")
    cost = distances(episodes.query, episodes.support[..., None])
    return float((cost.argmin(axis=-1) == np.arange(cost.shape[-1])).mean())


def test_places_are_told_apart_despite_motion_in_them(
    bundle: Path, manifest: dict, scoring: Scoring, real_clips: Path
) -> None:
    folders = sorted(path for path in (real_clips / "scenes6").iterdir() if path.is_dir())
    clips = [
        load_clip(path, frames=8, size=manifest["image_size"]).pixels
        for folder in folders
        for path in sorted(folder.glob("*.mp4"))
    ]
    parts = len(clips) // len(folders)
    features = _features(bundle, np.stack(clips))
    distances = prototype_distances(features, features, scoring, "query")
    clip = np.arange(len(clips)).reshape(len(folders), parts)
    right = np.zeros(parts, int)
    for support in range(parts):
        queries = np.delete(clip, support, axis=1).reshape(1, -1)
        cost = distances(queries, clip[None, :, support, None])[0]
        right[support] = (
            cost.argmin(axis=-1) == np.repeat(np.arange(len(folders)), parts - 1)
        ).sum()
    shares = right / (len(folders) * (parts - 1))
    assert shares.min() >= 0.9, f"right with each part as support: {right.tolist()}"
