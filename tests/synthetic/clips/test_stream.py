"""Long videos: the pixels agree with the table of events."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest

from mafsar.synthetic.clips import stream
from mafsar.synthetic.clips.stream import Stream, plan_stream, stream_classes

FPS = 8.0
NAMES = ["wave_both_arms", "bend_forward", "straighten_up", "star_jumps"]


def _motion_energy(planned: Stream) -> np.ndarray:
    """Mean change between consecutive frames, grey levels, without fine grain."""
    small = np.stack(
        [p.reshape(16, 4, 16, 4, 3).mean(axis=(1, 3, 4)) for p in planned.stage.pictures()]
    )
    return np.abs(np.diff(small, axis=0)).mean(axis=(1, 2))


@pytest.fixture(scope="module", params=[2, 7])
def planned(request: pytest.FixtureRequest) -> tuple[Stream, np.ndarray]:
    made = plan_stream(NAMES, seed=request.param, seconds=70, fps=FPS, size=64)
    return made, _motion_energy(made)


def test_pixels_move_within_the_events_and_rest_between(
    planned: tuple[Stream, np.ndarray],
) -> None:
    made, energy = planned
    happening = np.zeros(len(energy), bool)
    for event in made.events:
        first, last = round(event.start * FPS), round(event.end * FPS)
        happening[max(0, first - 1) : last] = True
        inside = energy[first : last - 1]
        assert np.median(inside) > 3 * np.median(energy[~happening]) or inside.max() > 0.5
    idle = energy[~happening]
    assert len(idle) > 0.15 * len(energy)
    assert energy[happening].mean() > 6 * idle.mean()
    assert np.quantile(idle, 0.95) < np.quantile(energy[happening], 0.4)


def test_events_are_in_order_apart_and_of_the_stated_lengths(
    planned: tuple[Stream, np.ndarray],
) -> None:
    events = planned[0].events
    assert len(events) >= 6
    for before, after in pairwise(events):
        assert before.end < after.start
    assert events[-1].end <= 70
    acts = [e.end - e.start for e in events if e.label in NAMES]
    assert min(acts) >= stream.SHORTEST - 1 / FPS
    assert max(acts) <= stream.LONGEST + 1 / FPS


def test_a_person_is_there_from_entering_to_leaving_only(
    planned: tuple[Stream, np.ndarray],
) -> None:
    """Before each `enter` and after each `leave` the middle of the picture shows the empty room."""
    made, _ = planned
    pictures = np.stack(list(made.stage.pictures())).astype(float).mean(axis=-1)
    empty = pictures[0]
    gap = np.abs(pictures - empty).mean(axis=(1, 2))
    inside = False
    for event in made.events:
        middle = round(event.start * FPS) - 2
        assert (gap[middle] > 1.5) == inside, event
        if event.label in ("enter", "leave"):
            inside = event.label == "enter"


def test_each_visitor_is_another_person() -> None:
    made = plan_stream(NAMES, seed=1, seconds=200, fps=4, size=32)
    comings = [event for event in made.events if event.label != "leave"]
    comings = [event for event in comings if event.label not in NAMES]
    assert len(comings) >= 3
    pictures = list(made.stage.pictures())
    empty = pictures[0].astype(float)
    shown = []
    for event in comings:
        middle = pictures[round((event.start + event.end) / 2 * 4)].astype(float)
        who = np.abs(middle - empty).mean(axis=-1) > 25
        shown.append(middle[who].mean(axis=0))
    assert min(np.abs(a - b).max() for a, b in combinations(shown, 2)) > 1


def test_reverse_follows_its_action() -> None:
    labels = [
        event.label
        for seed in range(6)
        for event in plan_stream(NAMES, seed=seed, seconds=240, fps=4, size=16).events
    ]
    bends = [i for i, label in enumerate(labels) if label == "bend_forward"]
    assert len(bends) >= 5
    assert sum(labels[i + 1 : i + 2] == ["straighten_up"] for i in bends) >= len(bends) - 6
    assert {"enter", "leave", "walk_to_the_right", "walk_to_the_left", *NAMES} <= set(labels)


def test_lengths_spread_from_half_a_second_to_twelve() -> None:
    lengths = [
        event.end - event.start
        for seed in range(12)
        for event in plan_stream(stream_classes(), seed=seed, seconds=300, fps=8, size=16).events
        if event.label not in ("enter", "leave")
    ]
    assert min(lengths) < 1.0
    assert max(lengths) > 9.0


def test_stream_classes_hold_nothing_and_stay() -> None:
    names = stream_classes()
    assert {"wave_hand", "bend_forward", "raise_one_arm", "kick"} <= set(names)
    assert not {"sit_down", "enter", "walk_to_the_right", "pick_up_object", "stir"} & set(names)
