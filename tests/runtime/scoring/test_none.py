"""p_none against a statement of it in plain float64 loops, and what it must do."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mafsar.choices import NONE_STATISTICS, NonePrior
from mafsar.kernels import frame_distances, otam
from mafsar.runtime.scoring.none import NoneJudge

WEIGHTS = (-1.0, 1.5, 0.7, -0.3, 0.2, 0.3, 0.4, 0.9, 0.5)
T, E = 4, 6


def clips(seed: int, count: int, centre: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (centre + rng.normal(size=(count, T, E))).astype(np.float32)


def support(shot: int, ways: int, noise: float = 0.3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    centres = rng.normal(size=(ways, T, E))
    index = np.repeat(np.arange(ways), shot)
    shown = centres[index] + noise * rng.normal(size=(len(index), T, E))
    return shown.astype(np.float32), index, centres


def distance(a: np.ndarray, b: np.ndarray, lam: float) -> float:
    grid = frame_distances(a[None].astype(np.float64), b[None].astype(np.float64))
    return float(otam(grid, lam=lam)[0, 0])


def stated(query: np.ndarray, shown: np.ndarray, index: np.ndarray, negatives: np.ndarray,
           background: np.ndarray, lam: float) -> list[float]:  # fmt: skip
    """The statistics of one query, raw features."""
    ways, far = int(index.max()) + 1, len(negatives)
    prototypes = [
        np.mean([s for s, i in zip(shown, index, strict=True) if i == c], axis=0)
        for c in range(ways)
    ]
    to_negatives = [distance(query, n, lam) for n in negatives]
    mean, deviation = np.mean(to_negatives), np.std(to_negatives)
    s, ds, of = [], [], []
    for prototype in prototypes:
        column = [distance(n, prototype, lam) for n in negatives]
        d = distance(query, prototype, lam)
        s.append(((d - np.mean(column)) / np.std(column) + (d - mean) / deviation) / 2)
        ds.append(d)
        of.append((np.mean(sorted(column)[: far // 5]), np.std(column)))
    best = int(np.argmin(s))
    nearest = np.mean(sorted(to_negatives)[: far // 10])
    if len(background):
        nearest = min(nearest, min(distance(query, b, lam) for b in background))
    ordered = sorted(s)
    mine = [i for i in range(len(shown)) if index[i] == best]
    strange = [i for i in range(len(shown)) if index[i] != best]
    own = others = 0.0
    if len(mine) > 1:
        left_out = [
            distance(shown[i], np.mean([shown[k] for k in mine if k != i], axis=0), lam)
            for i in mine
        ]
        own = (ds[best] - np.mean(left_out)) / of[best][1] * len(mine) / (len(mine) + 2)
    if strange:
        across = [distance(shown[i], prototypes[best], lam) for i in strange]
        others = (ds[best] - np.mean(across)) / of[best][1]
    return [
        1.0,
        (ds[best] - nearest) / deviation,
        (ds[best] - of[best][0]) / of[best][1],
        ordered[0] - ordered[1] if ways > 1 else 0.0,
        own,
        others,
        math.log(int((index == best).sum())),
        math.log(ways),
        float(ways == 1),
    ]


@pytest.mark.parametrize(("shot", "ways", "behind"), [(1, 1, 0), (3, 3, 0), (2, 4, 3)])
def test_the_statistics_are_those_of_the_statement(shot: int, ways: int, behind: int) -> None:
    shown, index, _ = support(shot, ways)
    negatives, background, query = clips(1, 20), clips(2, behind), clips(3, 5)
    judge = NoneJudge(shown, index, NonePrior(WEIGHTS, 1.0, "raw", 0.2), negatives, background)
    found = judge.statistics(query)
    assert found.shape == (5, len(NONE_STATISTICS))
    for row, one in zip(found, query, strict=True):
        wanted = stated(one, shown, index, negatives, background, 0.2)
        np.testing.assert_allclose(row, wanted, rtol=2e-4, atol=2e-4)
    logits = found @ np.array(WEIGHTS) + judge.shift
    np.testing.assert_allclose(judge.p_none(query), 1 / (1 + np.exp(-logits)), rtol=1e-9)


@pytest.mark.parametrize("views", ["raw", 0.5])
def test_unknown_clips_get_the_larger_p_none(views: float | str) -> None:
    shown, index, centres = support(3, 4)
    prior = NonePrior(WEIGHTS, 10.0, views, 0.1)  # type: ignore[arg-type]
    judge = NoneJudge(shown, index, prior, clips(1, 60))
    known = (centres + 0.3 * np.random.default_rng(8).normal(size=centres.shape)).astype(np.float32)
    assert judge.p_none(known).max() < judge.p_none(clips(9, 20)).min()


def test_a_shift_of_all_features_changes_nothing_by_views() -> None:
    shown, index, _ = support(2, 3)
    prior, query = NonePrior(WEIGHTS, 3.0, 0.5, 0.1), clips(3, 4)
    one = NoneJudge(shown, index, prior, clips(1, 30)).p_none(query)
    other = NoneJudge(shown + 2, index, prior, clips(1, 30) + 2).p_none(query + 2)
    np.testing.assert_allclose(one, other, rtol=1e-3)


def test_what_is_nearer_to_a_background_clip_than_to_the_classes_is_none() -> None:
    shown, index, _ = support(2, 3)
    prior = NonePrior(WEIGHTS, 3.0, 0.5, 0.1)
    idle = clips(12, 4)
    without = NoneJudge(shown, index, prior, clips(1, 40))
    behind = NoneJudge(shown, index, prior, clips(1, 40), idle)
    again = idle + 0.05 * clips(13, 4)
    assert (behind.p_none(again) > without.p_none(again)).all()
    assert behind.p_none(again).min() > 0.9
    assert behind.threshold(0.05) < 1.0


def test_the_threshold_keeps_to_the_rate_on_what_it_was_made_of() -> None:
    shown, index, _ = support(1, 3)
    negatives = clips(1, 100)
    judge = NoneJudge(shown, index, NonePrior(WEIGHTS, 10.0, 0.5, 0.1), negatives)
    limits = [judge.threshold(far) for far in (0.01, 0.05, 0.2, 0.5)]
    assert limits == sorted(limits)
    fresh = judge.p_none(clips(77, 400))
    for far, limit in zip((0.05, 0.2, 0.5), limits[1:], strict=True):
        # 400 fresh clips and 100 negatives: four standard errors of a share's difference.
        assert abs((fresh <= limit).mean() - far) < 4 * math.sqrt(
            far * (1 - far) * (1 / 400 + 1 / 100)
        )


def test_the_bank_s_own_clips_shift_the_constant_unless_it_is_held() -> None:
    shown, index, _ = support(5, 4, noise=0.9)
    negatives = clips(1, 40)
    shifts = [
        NoneJudge(shown, index, NonePrior(WEIGHTS, held, 0.5, 0.1), negatives).shift
        for held in (1e-3, 1.0, 1e6)
    ]
    assert abs(shifts[0]) > abs(shifts[1]) > abs(shifts[2])
    assert abs(shifts[2]) < 1e-3


def test_a_prior_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^weights must be 9 numbers, got 2"):
        NonePrior((1.0, 2.0), 1.0, "raw", 0.5)
    prior = NonePrior(WEIGHTS, 3.0, 0.5, 0.1)
    assert NonePrior.from_json(prior.to_json()) == prior
