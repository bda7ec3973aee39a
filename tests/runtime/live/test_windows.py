"""Windows: their lengths, their frames, and the alignment inside of them."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mafsar.errors import InputError
from mafsar.runtime.live.extent import aligned_rows
from mafsar.runtime.live.windows import WindowCutter, WindowPlan, paced, plan_windows
from mafsar.synthetic import render_video
from mafsar.video import Geometry, load_clip
from mafsar.video.live.file_frames import open_file
from mafsar.video.preprocess import to_square


def bank_of(*durations: list[float]) -> SimpleNamespace:
    """What `plan_windows` reads of a bank: the clips' durations by class."""
    flat = [(seconds, index) for index, each in enumerate(durations) for seconds in each]
    return SimpleNamespace(
        classes=range(len(durations)),
        clips=[SimpleNamespace(duration_seconds=seconds) for seconds, _ in flat],
        class_index=np.array([index for _, index in flat]),
    )


def test_clips_of_similar_lengths_share_the_longest() -> None:
    plan = plan_windows(bank_of([1.2, 2.0], [1.6]), 8)
    assert plan.lengths == (2.0,)
    assert plan.strides == (0.5,)
    assert plan.own.tolist() == [[True, True]]


def test_classes_are_judged_at_the_length_of_their_longest_clip() -> None:
    plan = plan_windows(bank_of([0.8, 1.0], [3.0], [9.0, 10.0]), 8)
    assert plan.lengths == (1.0, 3.0, 10.0)
    assert plan.own.tolist() == [
        [True, False, False], [False, True, False], [False, False, True],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("lengths", "segments"),
    [([3.0], [1]), ([2.0], [2]), ([1.0], [3]), ([0.4], [4]), ([2.0, 3.0], [3, 2])],
)
def test_windows_begin_less_than_three_times_a_second(
    lengths: list[float], segments: list[int]
) -> None:
    """Every eighth of their length to every half, in whole segments."""
    plan = plan_windows(bank_of(*[[length] for length in lengths]), 8, lengths)
    found = paced(plan)
    wanted = [count * length / 8 for count, length in zip(segments, lengths, strict=True)]
    np.testing.assert_allclose(found.strides, wanted)
    assert found.lengths == plan.lengths


def test_there_are_three_lengths_at_most_and_none_that_nobody_uses() -> None:
    plan = plan_windows(bank_of(*[[float(2**k)] for k in range(7)]), 8)
    assert len(plan.lengths) == 3
    assert plan.own.any(axis=1).all()
    assert (plan.own.sum(axis=0) == 1).all()
    given = plan_windows(bank_of([1.0], [1.1]), 8, [1.0, 30.0])
    assert given.lengths == (1.0,)


def test_pictures_without_a_length_get_windows_of_two_seconds() -> None:
    assert plan_windows(bank_of([0.0]), 8).lengths == (2.0,)


@pytest.mark.parametrize("wrong", [[], [1.0, 2.0, 3.0, 4.0], [0.1], [float("nan")]])
def test_wrong_lengths_are_refused(wrong: list[float]) -> None:
    with pytest.raises(InputError, match=r"window=\["):
        plan_windows(bank_of([1.0]), 8, wrong)


def test_windows_hold_the_frames_of_the_same_part_as_a_clip(tmp_path: Path) -> None:
    """Every window of a file equals, to the byte, what `load_clip` takes of that part."""
    path = render_video("wave_hand", tmp_path / "a.mp4", seed=3, seconds=4.0, size=96)
    plan = WindowPlan((1.0, 1.7), (0.25, 0.6), np.ones((2, 1), bool), 8)
    cutter = WindowCutter(plan)
    converted, windows = [], []
    with open_file(path, lambda timeline: cutter.wanted(timeline.duration_seconds)) as source:
        frames = list(source.frames)
        ends = [frame.seconds for frame in frames[1:]] + [source.end()]
        for frame, until in zip(frames, ends, strict=True):

            def squares(frame=frame):
                converted.append(frame.seconds)
                return [to_square(frame.picture(), 64, Geometry())]

            windows += list(cutter.take(frame.seconds, until, squares))
    assert len(converted) == len(set(converted))
    assert len(windows) == 13 + 5
    assert windows.pop().end == 4.1  # its last frame is shown before the end
    for window in windows:
        expected = load_clip(path, frames=8, size=64, start=window.start, end=window.end)
        np.testing.assert_array_equal(np.stack(window.frames), expected.pixels)
        np.testing.assert_allclose(window.times, expected.times_seconds)


def test_the_end_of_a_file_is_seen_by_windows_that_reach_beyond_it() -> None:
    plan = WindowPlan((2.0,), (0.5,), np.ones((1, 1), bool), 8)
    cutter = WindowCutter(plan)
    whole = [
        window.start
        for k in range(33)
        for window in cutter.take(k / 10, (k + 1) / 10, lambda: [np.zeros((4, 4, 3), np.uint8)])
    ]
    assert whole == [0.0, 0.5, 1.0]
    beyond = list(cutter.finish())
    assert [window.start for window in beyond] == [1.5, 2.0]
    assert all(len(window.frames) == 8 for window in beyond)


def every_path(rows: int, columns: int):
    """All paths of OTAM's one direction: from any row, one column on at each step, a row or none."""
    for start in range(rows):
        for steps in itertools.product((0, 1), repeat=columns - 1):
            path = [start, *(start + np.cumsum(steps)).tolist()] if steps else [start]
            if path[-1] < rows:
                yield path


def test_the_aligned_rows_are_those_of_the_cheapest_of_all_paths() -> None:
    rng = np.random.default_rng(1)
    for _ in range(30):
        rows, columns = rng.integers(1, 7, 2).tolist()
        distances = rng.random((rows, columns))
        cheapest = min(
            every_path(rows, columns),
            key=lambda path: sum(distances[row, k] for k, row in enumerate(path)),
        )
        assert aligned_rows(distances) == (cheapest[0], cheapest[-1])


def test_an_action_within_a_window_is_found_where_it_is() -> None:
    distances = np.ones((8, 4))
    for k in range(4):
        distances[2 + k, k] = 0.0
    assert aligned_rows(distances) == (2, 5)
