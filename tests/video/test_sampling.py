"""Which moments and frames are taken, against exact fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from mafsar.errors import InputError
from mafsar.video.sampling import frames_shown, segment_times


@pytest.mark.parametrize(
    ("duration", "frames"), [(2.0, 8), (0.04, 8), (7.3, 1), (100.0, 3), (0, 4)]
)
def test_middle_of_each_segment(duration: float, frames: int) -> None:
    exact = [Fraction(duration) * (2 * i + 1) / (2 * frames) for i in range(frames)]
    np.testing.assert_allclose(
        segment_times(duration, frames), [float(moment) for moment in exact], rtol=1e-12
    )


def test_random_moments_lie_in_their_segments_and_vary() -> None:
    rng = np.random.default_rng(0)
    drawn = np.stack([segment_times(4.0, 8, rng) for _ in range(200)])
    edges = np.arange(9) * 0.5
    assert (drawn >= edges[:-1]).all()
    assert (drawn < edges[1:]).all()
    within = (drawn - edges[:-1]) / 0.5
    assert within.min() < 0.02
    assert within.max() > 0.98
    assert abs(within.mean() - 0.5) < 0.03


def test_frame_shown_is_the_last_one_not_later() -> None:
    timestamps = np.array([0.0, 0.1, 0.2, 1.0])
    times = np.array([0.0, 0.05, 0.1, 0.199, 0.2, 0.999, 1.0, 50.0])
    assert frames_shown(timestamps, times).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_before_the_first_frame_it_is_the_first() -> None:
    assert frames_shown(np.array([0.5, 1.0]), np.array([0.0, 0.4])).tolist() == [0, 0]


def test_rounding_of_the_clock_does_not_choose_the_frame_before() -> None:
    timestamps = np.arange(1000) / 30
    # The same moments, computed with another order of operations.
    times = np.arange(1000) * (1 / 30)
    assert frames_shown(timestamps, times).tolist() == list(range(1000))


@pytest.mark.parametrize(
    ("count", "frames", "expected"),
    [
        (1, 4, [0, 0, 0, 0]),
        (3, 8, [0, 0, 0, 1, 1, 2, 2, 2]),
        (8, 8, [0, 1, 2, 3, 4, 5, 6, 7]),
        (16, 4, [2, 6, 10, 14]),
    ],
)
def test_equal_spacing(count: int, frames: int, expected: list[int]) -> None:
    pictures = np.arange(count, dtype=np.float64)  # picture k is shown in [k, k+1)
    assert frames_shown(pictures, segment_times(count, frames)).tolist() == expected


def test_random_spacing_stays_in_range() -> None:
    rng = np.random.default_rng(1)
    for count in (1, 2, 7, 40):
        indices = frames_shown(np.arange(count, dtype=np.float64), segment_times(count, 8, rng))
        assert indices.min() >= 0
        assert indices.max() < count
        assert (np.diff(indices) >= 0).all()


def test_impossible_numbers_are_refused() -> None:
    with pytest.raises(InputError, match="frames must be at least 1, got 0"):
        segment_times(1.0, 0)
    with pytest.raises(InputError, match="duration must be finite"):
        segment_times(float("nan"), 8)
    with pytest.raises(InputError, match="at least one frame"):
        frames_shown(np.array([]), np.array([0.0]))
