"""Views against their restatement in float64, and what they are known to do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mafsar.choices import METRICS, BranchPrior, Scoring, ViewPrior
from mafsar.data.episodes import draw_episodes
from mafsar.errors import InputError
from mafsar.runtime.evaluation.tally import evaluate_features
from mafsar.runtime.scoring import views as module
from mafsar.runtime.scoring.leave_one_out import leave_one_out
from mafsar.runtime.scoring.left_out_views import left_out_distances
from mafsar.runtime.scoring.scores import class_distances, class_prototypes, cosines
from mafsar.runtime.scoring.view_episodes import prototype_distances
from mafsar.runtime.scoring.views import Views, views_of
from tests.restatements import views as restated

N, T, E = 13, 4, 6
CLASS_INDEX = np.array([0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 2, 3])


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.fixture
def branches() -> tuple[np.ndarray, np.ndarray]:
    """Clips with a large common direction, by two branches that differ."""
    query = 3 + drawn(4, T, E)[CLASS_INDEX] + 0.7 * drawn(N, T, E, seed=1)
    return query, (query - 5 + 0.5 * drawn(N, T, E, seed=2)).astype(np.float32)


PRIOR = ViewPrior(
    BranchPrior(tuple(2 + drawn(E, seed=3).tolist()[i] for i in range(E)), 0.4),
    BranchPrior(tuple(drawn(E, seed=4).tolist()), 1.1),
)
PRIORS = {"query": (PRIOR.query.mean, 0.4), "support": (PRIOR.support.mean, 1.1)}


def by_restatement(query, enrolled, scoring, branch, class_index=CLASS_INDEX):
    known = scoring.view_prior is not None
    return restated.distances(
        query.tolist(), enrolled[0].tolist(), enrolled[1].tolist(), class_index.tolist(),
        w=scoring.views, metric=scoring.metric, lam=scoring.lam,
        query_prior=PRIORS["query"] if known else None,
        support_prior=PRIORS[branch] if known else None,
    )  # fmt: skip


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("branch", ["query", "support"])
@pytest.mark.parametrize("prior", [None, PRIOR])
@pytest.mark.parametrize("w", [0.0, 0.3, 0.8])
def test_distances_are_the_restated_ones(branches, metric, branch, prior, w):
    """Classes of 8, 2, 2 and 1 clips."""
    scoring = Scoring(metric, lam=0.1, views=w, view_prior=prior)
    query, support = branches if branch == "support" else (branches[0], branches[0])
    asked = 3 + drawn(2, T, E, seed=9)
    found = Views.of(scoring, query, support, branch)
    prototypes = class_prototypes(found.of_support(support), CLASS_INDEX, 4)
    distances = class_distances(found.of_query(asked), prototypes, scoring)
    for clip, row in zip(asked, distances, strict=True):
        expected = by_restatement(clip, (query, support), scoring, branch)
        np.testing.assert_allclose(row, expected, atol=2e-5)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("shot", [1, 3])
@pytest.mark.parametrize("branch", ["query", "support"])
def test_episodes_are_the_restated_ones(metric, shot, branch):
    """Every episode's own means, from its support clips alone."""
    class_index = np.repeat([0, 1, 2], 5)
    query = 3 + drawn(15, T, E)
    support = query if branch == "query" else drawn(15, T, E, seed=5)
    scoring = Scoring(metric, lam=0.1, views=0.6, view_prior=PRIOR)
    episodes = draw_episodes(class_index, list("abc"), way=3, shot=shot, query=2, episodes=4)
    queries = episodes.queries.reshape(4, -1)
    found = prototype_distances(query, support, scoring, branch)(queries, episodes.support)
    for asked, shown, rows in zip(queries, episodes.support, found, strict=True):
        enrolled, own = shown.reshape(-1), np.repeat(np.arange(3), shot)
        for clip, row in zip(asked, rows, strict=True):
            pair = (query[enrolled], support[enrolled])
            expected = by_restatement(query[clip], pair, scoring, branch, own)
            np.testing.assert_allclose(row, expected, atol=2e-5)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("branch", ["query", "support"])
def test_a_left_out_clip_leaves_the_means_too(branches, metric, branch, monkeypatch):
    monkeypatch.setattr("mafsar.runtime.scoring.left_out_views._CHUNK_BYTES", 2000)
    scoring = Scoring(metric, lam=0.1, views=0.6, view_prior=PRIOR)
    query, support = branches if branch == "support" else (branches[0], branches[0])
    found = left_out_distances(query, support, CLASS_INDEX, scoring, branch)
    assert np.isfinite(found).all()
    for i in range(N - 1):  # the last class has one clip
        kept = np.arange(N) != i
        pair = (query[kept], support[kept])
        expected = by_restatement(query[i], pair, scoring, branch, CLASS_INDEX[kept])
        np.testing.assert_allclose(found[i], expected, atol=2e-5)


def test_raw_is_left_as_it_is(branches):
    query, support = branches
    found = Views.of(Scoring(), query, support, "support")
    assert found.of_query(query) is query
    assert found.of_support(support) is support


def test_a_constant_changes_nothing_without_a_prior_weight(branches, monkeypatch):
    monkeypatch.setattr(module, "KAPPA", 0.0)
    scoring, (query, support) = Scoring(views=0.5), branches
    shift = 4 * drawn(E, seed=6)
    moved_query, moved_support = query + shift, support - shift
    found = Views.of(scoring, query, support, "support")
    moved = Views.of(scoring, moved_query, moved_support, "support")
    np.testing.assert_allclose(moved.of_query(moved_query), found.of_query(query), atol=2e-5)
    np.testing.assert_allclose(
        moved.of_support(moved_support), found.of_support(support), atol=2e-5
    )


def test_one_shot_cosines_are_the_stated_sum():
    w, mean = 0.3, np.zeros(E, np.float32)
    q, s = drawn(T, E), drawn(T, E, seed=1)
    a = cosines(q, s)
    c = cosines(q - q.mean(axis=0), s - s.mean(axis=0))
    found = cosines(views_of(q, mean, 1e-6, w), views_of(s, mean, 1e-6, w))
    np.testing.assert_allclose(found, (1 - w) * a + w * c, atol=1e-6)


def test_still_clips():
    w, mean = 0.3, np.zeros(E, np.float32)
    still, other = drawn(1, E).repeat(T, axis=0), drawn(1, E, seed=1).repeat(T, axis=0)
    moving = drawn(T, E, seed=2)
    found = [views_of(clip, mean, 1e-3, w) for clip in (still, other, moving)]
    np.testing.assert_allclose(cosines(found[0], found[1]), cosines(still, other), atol=1e-6)
    expected = np.sqrt(1 - w) * cosines(still, moving)
    np.testing.assert_allclose(cosines(found[0], found[2]), expected, atol=1e-6)


def test_reversing_a_clip_reverses_its_change():
    clip = drawn(T, E)
    change = views_of(clip, clip.mean(axis=0), 1e-6, 0.5)[:, E:]
    again = views_of(clip[::-1], clip.mean(axis=0), 1e-6, 0.5)[:, E:]
    np.testing.assert_allclose(again, change[::-1], atol=1e-6)


def test_views_help_where_the_support_is_unbalanced():
    """8 clips against 1, with a large common direction: raw cosines to the mean of eight win."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(2, 8, 64))
    common = 6 * rng.normal(size=64)
    own = np.repeat([0, 1], [8, 1])

    def clips(owners):
        return (common + centres[owners] + 1.6 * rng.normal(size=(len(owners), 8, 64))).astype(
            np.float32
        )

    recalls = {}
    for views, lam in (("raw", 0.5), (0.5, 0.1)):
        rng, right = np.random.default_rng(1), []
        scoring = Scoring(lam=lam, views=views)
        for _ in range(40):
            support, asked = clips(own), clips(np.repeat([0, 1], 5))
            found = Views.of(scoring, support, support, "query")
            prototypes = class_prototypes(found.of_support(support), own, 2)
            answers = class_distances(found.of_query(asked), prototypes, scoring).argmin(axis=1)
            right.append(answers == np.repeat([0, 1], 5))
        recalls[views] = np.mean(right, axis=0).reshape(2, 5).mean(axis=1)
    assert recalls["raw"][1] < 0.5, recalls
    assert min(recalls[0.5]) > 0.8, recalls


def test_leave_one_out_sees_the_common_direction_go():
    rng = np.random.default_rng(3)
    own = np.repeat([0, 1], [12, 3])
    features = 8 * rng.normal(size=64) + rng.normal(size=(2, 8, 64))[own]
    features = (features + 1.6 * rng.normal(size=(15, 8, 64))).astype(np.float32)
    by_views = leave_one_out(features, features, own, Scoring(lam=0.1, views=0.5))
    raw = leave_one_out(features, features, own, Scoring())
    assert by_views.accuracy is not None
    assert raw.accuracy is not None
    assert by_views.accuracy > raw.accuracy


def test_the_calibration_error_is_the_mean_gap():
    """Random features: the shares say what the accuracy is not."""
    own = np.repeat(np.arange(5), 8)
    episodes = draw_episodes(own, list("abcde"), episodes=500)
    features = drawn(40, 8, 16, seed=1)
    sure = Scoring(alpha=0.0, visual_scale=1000.0)
    tally = evaluate_features(features, features, own, episodes, sure)
    assert tally.ece == pytest.approx(1.0 - tally.right.mean(), abs=0.02)
    unsure = replace(sure, visual_scale=1e-6)
    tally = evaluate_features(features, features, own, episodes, unsure)
    assert tally.ece == pytest.approx(abs(0.2 - tally.right.mean()), abs=1e-4)


@pytest.mark.parametrize("views", ["both", -0.1, 1.5, True, None])
def test_other_views_are_refused(views):
    with pytest.raises(InputError, match="raw or a number from 0 to 1"):
        Scoring(views=views)
    if views is not None:
        with pytest.raises(InputError, match="raw or a number from 0 to 1"):
            Scoring().with_choices(views=views)


def test_choices_bring_what_belongs_to_them():
    plain = Scoring(lam=0.1, views=0.8)
    assert plain.with_choices() == plain
    raw = plain.with_choices(views="raw", metric="mean")
    assert (raw.views, raw.metric, raw.lam) == ("raw", "mean", 0.5)
    assert plain.with_choices(metric="mean").views == 0.0
    trained = Scoring()
    assert trained.with_choices(views=0.5).lam == 0.1
    assert Scoring("mean").with_choices(views=0.5).metric == "otam"
    with pytest.raises(InputError, match=r"views=0\.5"):
        trained.with_choices(views=0.5, metric="mean")


def test_raw_scoring_is_written_as_before():
    assert set(Scoring().to_json()) == {"metric", "lam", "alpha", "visual_scale", "text_scale"}
    kept = Scoring(views=0.25, view_prior=PRIOR)
    assert Scoring.from_json(kept.to_json()) == kept
    assert Scoring.from_json(Scoring(view_prior=PRIOR).to_json()).views == "raw"
