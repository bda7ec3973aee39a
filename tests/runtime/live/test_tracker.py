"""Consensus, hysteresis and joining of events."""

from __future__ import annotations

import itertools

import numpy as np

from mafsar.runtime.live.motion import Moves, Step
from mafsar.runtime.live.tracker import SHARE, Reading, Tracker, extent

STRIDE, LENGTH = 0.5, 2.0


def events(
    named: str, levels: np.ndarray | None = None, rests: str = "", **options: float
) -> list[tuple[str, str, float, float]]:
    """What a tracker says of windows that name classes by letters; "." is none, "A" only held.

    Nothing moves in the windows that `rests` names by letters, too; the steps of 0.25 s have `levels`.
    """
    doubt, stride = options.pop("doubt", 0.3), options.pop("stride", STRIDE)
    settings = {"gap": 1.0, "min_duration": 0.3} | options
    tracker = Tracker(**settings)
    out = []
    for k, letter in enumerate(named):
        start = k * stride
        reading = Reading(
            0, start, start + LENGTH, letter.lower(), letter.islower(), letter.isupper(),
            0.9, 0.1, start + 0.5, start + 1.5, doubt, not rests[k : k + 1].isalpha(),
            () if levels is None else tuple(
                Step(i / 4, (i + 1) / 4, float(levels[i]))
                for i in range(round(start * 4), round((start + LENGTH) * 4))
            ),
        )  # fmt: skip
        out += [(word, s.label, s.t_start, s.t_end) for word, s in tracker.take(reading)]
    out += [(word, s.label, s.t_start, s.t_end) for word, s in tracker.finish()]
    return out


def test_one_window_is_no_event_and_two_of_three_are() -> None:
    assert events("..a......") == []
    assert events("..a.a....")[0] == ("start", "a", 1.5, 3.5)
    assert [word for word, *_ in events("..aaaa......")] == ["start", "end"]


def test_windows_in_which_too_little_changes_begin_no_event_and_hold_one() -> None:
    assert events("..aaaa......", rests="..aaaa") == []
    held = events("aaaaaaaa......", rests=".....aaa")
    assert len(held) == 2
    assert held[1][3] == events("aaaaaaaa......")[1][3]


def test_borders_are_those_of_what_moves_between_two_rests() -> None:
    """The alignment says 1.5 to 4 s; something moves from 2 to 3.25 s, with a pause of one step."""
    levels = np.ones(40)
    levels[[8, 9, 11, 12]] = 12.0
    found = events("..aaaa........", levels=levels)
    assert [each[2:] for each in found] == [(2.0, 3.25), (2.0, 3.25)]
    assert events("..aaaa........", levels=np.full(40, 9.0))[1][2:] == (1.5, 4.0)


def moves(levels: np.ndarray, step: float = 0.25) -> Moves:
    made = Moves()
    made.take(tuple(Step(k * step, (k + 1) * step, float(x)) for k, x in enumerate(levels)))
    return made


def test_borders_of_motion() -> None:
    levels = np.ones(100)
    levels[40:48] = 20.0  # 10 to 12 s
    levels[60:64] = 30.0  # 15 to 16 s: another motion
    one = moves(levels)
    assert one.borders(9.0, 13.5, 5.0, 18.0) == (10.0, 12.0)
    assert one.borders(9.0, 17.0, 5.0, 18.0) == (10.0, 12.0)  # the longer one in this part
    assert one.borders(11.0, 11.5, 10.5, 18.0) == (10.5, 12.0)  # seen from 10.5 s on only
    assert one.borders(2.0, 4.0, 0.0, 6.0) == (2.0, 4.0)  # nothing moves there
    assert moves(levels[:7]).borders(0.5, 1.0, 0.0, 2.0) == (0.5, 1.0)  # too few to know rests
    assert Moves().borders(0.5, 1.0, 0.0, 2.0) == (0.5, 1.0)
    always = moves(np.random.default_rng(0).uniform(8, 14, 100))
    assert always.borders(9.0, 13.5, 5.0, 18.0) == (9.0, 13.5)
    cut = levels.copy()
    cut[44] = cut[90] = 200.0
    assert moves(cut).borders(9.0, 13.5, 5.0, 18.0) == (10.0, 12.0)
    assert moves(cut).borders(20.0, 24.0, 18.0, 25.0) == (20.0, 24.0)
    silent = moves(np.where(levels > 1, levels, 0.0))  # a source without any noise
    assert silent.borders(9.0, 13.5, 5.0, 18.0) == (10.0, 12.0)


def test_steps_of_overlapping_windows_are_taken_once() -> None:
    whole, parts = moves(np.arange(40.0)), Moves()
    for k in range(33):
        window = [Step(i / 4, (i + 1) / 4, float(i)) for i in range(k, k + 7)]
        parts.take((*window, Step(window[-1].end, window[-1].end, 0.0)))  # a last frame, repeated
    assert list(parts.steps) == list(whole.steps)[:39]
    parts.clear()
    assert not parts.steps


def test_an_action_longer_than_its_windows_lasts_over_all_their_parts() -> None:
    """Ten windows that begin every 0.5 s find it from 0.5 to 1.5 s inside of them."""
    assert events("aaaaaaaaaa......")[-1][2:] == (0.5, 6.0)


def test_start_and_end_are_those_of_the_alignment() -> None:
    (_, _, begun, _), (_, _, same, ended) = events("..aaaa......")
    assert (begun, same, ended) == (1.5, 1.5, 4.0)


def test_a_short_pause_does_not_split_an_event_and_a_long_one_does() -> None:
    assert len(events("aaa...aaa......")) == 2
    assert len(events("aaa.......aaa......")) == 4


def test_weak_answers_hold_an_event_and_begin_none() -> None:
    assert events("AAAAAA") == []
    held = events("aaaAAAAAAAA......")
    assert len(held) == 2
    assert held[1][3] > events("aaa.........")[1][3]


def test_another_class_ends_the_event_before_it_and_they_do_not_overlap() -> None:
    found = events("aaaaabbbbb......")
    assert [(word, label) for word, label, *_ in found] == [
        ("start", "a"), ("end", "a"), ("start", "b"), ("end", "b"),
    ]  # fmt: skip
    assert found[1][3] <= found[2][2]


def test_events_shorter_than_the_shortest_are_left_out() -> None:
    assert events("..aa......", min_duration=5.0) == []


def test_events_never_overlap_and_always_end() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        found = events("".join(rng.choice(list("ab.A"), 60)))
        assert [word for word, *_ in found] == ["start", "end"] * (len(found) // 2)
        ends = [each for each in found if each[0] == "end"]
        assert all(begun <= ended for _, _, begun, ended in ends)
        assert all(a[3] <= b[2] for a, b in itertools.pairwise(ends))


def test_two_windows_that_are_barely_accepted_are_no_event() -> None:
    assert events("..aaa......", doubt=0.95) == []


def test_a_window_that_reaches_beyond_the_action_is_outvoted() -> None:
    votes = [(0.0, 3.0, 0.3), (1.0, 3.0, 0.9), (1.0, 3.0, 0.9), (2.0, 6.0, 0.2)]
    assert extent(votes) == (1.0, 3.0)
    assert extent([(2.0, 2.0, 1.0)]) == (2.0, 2.0)
    assert extent([(1.0, 4.0, 0.0)]) == (1.0, 4.0)


def test_the_votes_are_those_of_a_plain_count_at_every_moment() -> None:
    rng = np.random.default_rng(3)
    for _ in range(40):
        first = rng.integers(0, 40, 6) / 8
        votes = [(a, a + rng.integers(1, 20) / 8, rng.random() + 0.1) for a in first]
        moments = np.arange(0, 64) / 8 + 1 / 16
        count = [sum(w for a, b, w in votes if a <= t < b) for t in moments]
        on = moments[np.array(count) >= SHARE * max(count)]
        assert extent(votes) == (on[0] - 1 / 16, on[-1] + 1 / 16)


def test_a_long_action_keeps_few_votes_and_both_its_ends() -> None:
    start, end = (events("." + "a" * 5000 + "......")[k] for k in (0, 1))
    assert start[2] == end[2] == 1.0
    assert end[3] == 5000 * STRIDE + 1.5


def test_a_source_of_one_window_is_named_by_it() -> None:
    assert events("a") == [("start", "a", 0.5, 1.5), ("end", "a", 0.5, 1.5)]
    assert events(".") == events("A") == events("a.") == events("a", rests="a") == []
