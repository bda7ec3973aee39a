"""Giving a bundle its negatives, and fitting p_none, on features drawn at random."""

from __future__ import annotations

import shutil
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from mafsar.choices import NONE_STATISTICS, NonePrior
from mafsar.errors import InputError, MissingError
from mafsar.export.bundle_draft import bundle_draft
from mafsar.runtime.engines.bundle import Bundle
from mafsar.runtime.engines.negatives import NEGATIVES_FILE, read_negatives, write_negatives
from mafsar.training.starter.negatives import (
    NOISE,
    Clips,
    draw_episode,
    fit_logistic,
    fit_prior,
    noise_clips,
)

PRIOR = NonePrior((0.5,) * len(NONE_STATISTICS), 10.0, 0.5, 0.1, NOISE)


def drawn_clips(classes: int, each: int, seed: int) -> Clips:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(classes, 4, 6))
    index = np.repeat(np.arange(classes), each)
    return Clips(
        (centres[index] + 0.5 * rng.normal(size=(len(index), 4, 6))).astype(np.float32), index
    )


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "m.mafsar"
    shutil.copytree(Path(str(files("mafsar") / "assets" / "tiny.mafsar")), path)
    return path


def add(bundle: Path, negatives: np.ndarray, change: dict | None = None) -> None:
    with bundle_draft(bundle, bundle) as draft:
        write_negatives(draft.folder / NEGATIVES_FILE, negatives)
        draft.manifest["none"] = PRIOR.to_json() | {"file": NEGATIVES_FILE} | (change or {})


def test_a_bundle_keeps_negatives_and_the_prior(bundle: Path) -> None:
    opened = Bundle.open(bundle)
    shape = (40, opened.spec.frames, opened.spec.embed_dim)
    negatives = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    before = opened.files_sha256("fp32")
    add(bundle, negatives)
    opened = Bundle.open(bundle)
    assert opened.spec.none_prior == PRIOR
    np.testing.assert_allclose(read_negatives(opened.spec), negatives, rtol=1e-3, atol=1e-3)
    assert opened.files_sha256("fp32") == before  # features stay in the cache
    with bundle_draft(bundle, bundle) as draft:  # as adding a precision does
        draft.manifest["touched"] = True
    assert Bundle.open(bundle).spec.none_prior == PRIOR
    (bundle / NEGATIVES_FILE).unlink()
    with pytest.raises(MissingError, match="negatives"):
        Bundle.open(bundle)


@pytest.mark.parametrize(
    "change", [{"strength": 0}, {"lam": "0.1"}, {"weights": {}}, {"file": "../x"}]
)
def test_a_damaged_entry_is_refused(bundle: Path, change: dict) -> None:
    with pytest.raises(InputError, match="none"):
        add(bundle, np.ones((40, 8, 128), np.float32), change)


def test_the_logistic_regression_finds_the_weights() -> None:
    rng = np.random.default_rng(2)
    rows = np.c_[np.ones(20_000), rng.normal(size=(20_000, 2))]
    wanted = np.array([-0.5, 2.0, -1.0])
    truth = rng.random(20_000) < 1 / (1 + np.exp(-rows @ wanted))
    np.testing.assert_allclose(fit_logistic(rows, truth), wanted, atol=0.1)


def test_episodes_keep_known_and_unknown_classes_apart() -> None:
    clips = drawn_clips(8, 12, 1)
    for seed in range(20):
        episode = draw_episode(clips, 3, 2, np.random.default_rng(seed))
        classes = clips.class_index[episode.support]
        assert (classes == classes[:, :1]).all()
        assert not set(episode.support.ravel()) & set(episode.queries)
        known = np.isin(clips.class_index[episode.queries], classes)
        np.testing.assert_array_equal(known, ~episode.unknown)
        assert episode.unknown.mean() == 0.5


def test_a_fit_tells_unknown_clips() -> None:
    named, many = drawn_clips(10, 16, 1), drawn_clips(30, 12, 2)
    negatives = np.concatenate(
        [drawn_clips(40, 1, 3).features, np.full((NOISE, 4, 6), 9, np.float32)]
    )
    prior = fit_prior(named, many, negatives, rounds=1)
    assert prior == replace(prior, noise=NOISE)
    fresh = drawn_clips(12, 12, 4)
    episode = draw_episode(fresh, 3, 5, np.random.default_rng(0))
    p = episode.judge(fresh, prior, negatives).p_none(fresh.features[episode.queries])
    assert p[~episode.unknown].mean() + 0.3 < p[episode.unknown].mean()


def test_noise_is_of_every_grain_and_the_same_each_time() -> None:
    clips = noise_clips(4, 56)
    assert clips.shape == (NOISE, 4, 56, 56, 3)
    np.testing.assert_array_equal(clips, noise_clips(4, 56))
    assert (clips[0, ..., 0] == clips[0, ..., 1]).all()  # grey, then colour
    assert (clips[1, ..., 0] != clips[1, ..., 1]).any()
