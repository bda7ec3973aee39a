"""Leave-one-out against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest

from mafsar.choices import Scoring
from mafsar.errors import InputError
from mafsar.runtime.scoring.leave_one_out import harmful_clips, leave_one_out


def plain_mean_distance(query, shots):
    q, s = query.astype(float).mean(axis=0), shots.astype(float).mean(axis=(0, 1))
    return 1 - q @ s / (np.linalg.norm(q) * np.linalg.norm(s))


def plain_right(query, support, class_index, clips):
    """Leave-one-out over the clips `clips`, in a loop; random features have no ties."""
    right = {}
    for i in clips:
        rest = [j for j in clips if j != i]
        classes = sorted({class_index[j] for j in rest})
        if class_index[i] not in classes:
            continue
        costs = [
            plain_mean_distance(query[i], support[[j for j in rest if class_index[j] == c]])
            for c in classes
        ]
        right[i] = classes[int(np.argmin(costs))] == class_index[i]
    return right


@pytest.fixture
def noisy():
    rng = np.random.default_rng(8)
    class_index = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 3])
    centres = rng.normal(size=(4, 5, 6))
    query = (centres[class_index] + 1.3 * rng.normal(size=(10, 5, 6))).astype(np.float32)
    support = (query + 0.1 * rng.normal(size=query.shape)).astype(np.float32)
    return query, support, class_index


def test_leave_one_out_is_that_of_a_plain_loop(noisy):
    query, support, class_index = noisy
    found = leave_one_out(query, support, class_index, Scoring("mean", alpha=0.0))
    expected = plain_right(query, support, class_index, range(10))
    assert found.judged.tolist() == [True] * 9 + [False]
    assert {i: bool(found.right[i]) for i in expected} == expected
    assert 0.2 < found.accuracy < 1.0


def test_harmful_clips_are_those_of_a_plain_loop(noisy):
    query, support, class_index = noisy
    gains = harmful_clips(query, support, class_index, Scoring("mean", alpha=0.0))
    before = plain_right(query, support, class_index, range(10))
    for removed in range(9):
        kept = [i for i in range(10) if i != removed]
        after = plain_right(query, support, class_index, kept)
        both = [i for i in kept if i in after and i in before]
        assert gains[removed] == sum(after[i] for i in both) - sum(before[i] for i in both), removed
    assert gains[9] == 0
    assert len(set(gains.tolist())) > 1


def test_text_needs_pooled_features(noisy):
    query, support, class_index = noisy
    text = np.ones((4, 6), np.float32)
    for function in (leave_one_out, harmful_clips):
        with pytest.raises(InputError, match="text scores need the queries' pooled features"):
            function(query, support, class_index, Scoring("mean"), text=text)
