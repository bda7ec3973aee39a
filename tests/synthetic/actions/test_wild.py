"""Unnamed motions: drawn by their number, varied by the seed, reversed if their name says so."""

from __future__ import annotations

import numpy as np
import pytest

from mafsar.errors import InputError
from mafsar.synthetic import class_names, render
from mafsar.synthetic.actions.classes import action, wild_names
from mafsar.synthetic.painting.nuisance import draw_nuisance

NAMES = wild_names(24)
STEADY = next(seed for seed in range(200) if np.abs(draw_nuisance(seed).shake).max() == 0)


def test_they_are_for_training_and_apart_from_the_named_ones() -> None:
    assert len(set(NAMES)) == 24
    assert not set(NAMES) & set(class_names())
    entries = [action(name) for name in NAMES]
    assert {entry.split for entry in entries} == {"train"}
    assert {entry.scene for entry in entries} == {"person", "table"}
    assert all(entry.unnamed for entry in entries)
    assert wild_names(7) == NAMES[:7]
    with pytest.raises(InputError, match="unknown rendered action"):
        action("wild_x")


@pytest.mark.parametrize("name", NAMES)
def test_a_motion_is_its_number_s_and_a_clip_its_seed_s(name: str) -> None:
    first = render(name, seed=STEADY, frames=4, size=48)
    again = render(name, seed=STEADY, frames=4, size=48)
    np.testing.assert_array_equal(first.frames, again.frames)
    other = render(name, seed=STEADY + 1, frames=4, size=48)
    assert not np.array_equal(first.frames, other.frames)
    assert np.isfinite(first.points).any()  # something is there to follow


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith("_backwards")])
def test_backwards_is_the_same_motion_in_reverse(name: str) -> None:
    backward = render(name, seed=STEADY, frames=8, size=48)
    forward = render(str(action(name).partner), seed=STEADY, frames=8, size=48)
    np.testing.assert_allclose(backward.points, forward.points[::-1], atol=1e-6)


def test_different_numbers_move_differently() -> None:
    people = [name for name in NAMES if action(name).scene == "person" and "back" not in name]
    paths = [render(name, seed=STEADY, frames=8, size=48).points[:, :11] for name in people]
    for i, one in enumerate(paths):
        assert np.ptp(one, axis=0).max() > 0.03, people[i]  # something moves
        for other in paths[:i]:
            assert np.abs(one - other).max() > 0.03
