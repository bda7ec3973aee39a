"""The shipped model is never worse than the frozen networks in it, matched by views."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

import mafsar
from mafsar.data.episodes import draw_episodes
from mafsar.data.support import read_support
from mafsar.runtime.cache.encoding import encode_clips
from mafsar.runtime.evaluation.tally import evaluate_features
from mafsar.synthetic.actions.classes import class_names
from mafsar.training.starter.pool import render_pool

# What stands where in a frame's features, and the weight of the change view that suits it alone.
FROZEN = {
    "things, people and sums": (slice(128, 704), 0.55),
    "things and people": (slice(128, 448), 0.8),
    "things": (slice(128, 384), 0.67),
    "people": (slice(384, 448), 0.67),
}


def _rights(features, class_index, episodes, scoring):
    """Share of right answers of each episode."""
    frozen = dataclasses.replace(scoring, view_prior=None)
    tally = evaluate_features(features, features, class_index, episodes, frozen, branch="query")
    return tally.right


def _is_not_worse(features, class_index, labels, groups=None, way=5):
    scoring = dataclasses.replace(mafsar.load_model("tiny").spec.scoring, alpha=0.0)
    episodes = draw_episodes(
        class_index, labels, way=min(way, len(labels)), episodes=2_000, seed=0, groups=groups
    )
    whole = _rights(features, class_index, episodes, scoring)
    for name, (part, weight) in FROZEN.items():
        alone = _rights(
            np.ascontiguousarray(features[..., part]),
            class_index,
            episodes,
            dataclasses.replace(scoring, views=weight),
        )
        gain = whole - alone
        half = 1.96 * gain.std(ddof=1) / len(gain) ** 0.5
        assert gain.mean() >= -half, f"{name}: {100 * gain.mean():.2f} ± {100 * half:.2f}"


@pytest.mark.slow
def test_on_rendered_classes():
    names, model = class_names("test"), mafsar.load_model("tiny")
    pool = render_pool(names, 8, first_seed=7_000_000, size=model.spec.image_size)
    features = np.concatenate(
        [model.encode_query(pool.frames[i : i + 4]).frames for i in range(0, len(pool.frames), 4)]
    )
    _is_not_worse(features, pool.labels, names)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["people4", "objects10"])
def test_on_real_clips(name: str, real_clips: Path) -> None:
    folder = real_clips.parent / "validation" / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    data = read_support(folder)
    labels = [item.label for item in data.classes]
    index = np.array([labels.index(clip.label) for clip in data.clips])
    people = [re.search(r"person\d+|.*", clip.source.name)[0] for clip in data.clips]
    features = encode_clips(mafsar.load_model("tiny"), data.clips, None).query
    _is_not_worse(features, index, labels, people if name == "people4" else None)
