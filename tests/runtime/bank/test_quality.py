"""Leave-one-out against a plain loop, and the report on supports with known faults."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from mafsar.choices import Scoring
from mafsar.runtime.bank.enroll import enroll
from mafsar.runtime.bank.quality import judge
from mafsar.runtime.scoring.leave_one_out import harmful_clips, leave_one_out


def plain_mean_distance(query, shots):
    q, s = query.astype(float).mean(axis=0), shots.astype(float).mean(axis=(0, 1))
    return 1 - q @ s / (np.linalg.norm(q) * np.linalg.norm(s))


def plain_right(query, support, class_index, clips):
    """Leave-one-out by a loop over what is kept; ties cannot happen on random features."""
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


def test_leave_one_out_is_the_plain_loop(noisy):
    query, support, class_index = noisy
    found = leave_one_out(query, support, class_index, Scoring("mean", alpha=0.0))
    expected = plain_right(query, support, class_index, range(10))
    assert found.judged.tolist() == [True] * 9 + [False]
    assert {i: bool(found.right[i]) for i in expected} == expected
    assert 0.2 < found.accuracy < 1.0


def test_harm_is_the_plain_loop(noisy):
    query, support, class_index = noisy
    gains = harmful_clips(query, support, class_index, Scoring("mean", alpha=0.0))
    before = plain_right(query, support, class_index, range(10))
    for away in range(9):
        kept = [i for i in range(10) if i != away]
        after = plain_right(query, support, class_index, kept)
        both = [i for i in kept if i in after and i in before]
        assert gains[away] == sum(after[i] for i in both) - sum(before[i] for i in both), away
    assert gains[9] == 0
    assert len(set(gains.tolist())) > 1


def test_a_good_support(encoder, support_folder, cache):
    report = judge(enroll(support_folder, encoder, cache=cache))
    assert report.accuracy == 1.0
    assert all(clip.right and not clip.hurts and clip.margin > 0 for clip in report.clips)
    assert [item.right for item in report.classes] == [3, 3, 3]
    assert report.advice == ("no class is confused on these clips: enough for a start",)
    json.dumps(report.to_json(), allow_nan=False)


def test_a_clip_in_the_wrong_class_is_found(encoder, support_folder, make_clip, cache):
    wrong = make_clip(support_folder / "jump" / "wrong", 2, 40)  # a wave
    report = judge(enroll(support_folder, encoder, text="off", cache=cache))
    clip = next(clip for clip in report.clips if clip.path == str(wrong))
    assert clip.right is False
    assert clip.answer == clip.nearest_other == "wave"
    assert clip.margin < 0
    assert any("add up to 5 clips" in line and "jump" in line for line in report.advice)


def test_a_twin_in_another_class_is_found(encoder, support_folder, cache):
    shutil.copytree(support_folder / "wave" / "clip0", support_folder / "jump" / "twin")
    report = judge(enroll(support_folder, encoder, cache=cache))
    twins = {clip.path: clip.twin for clip in report.clips if clip.twin}
    a, b = str(support_folder / "wave" / "clip0"), str(support_folder / "jump" / "twin")
    assert twins == {a: b, b: a}
    assert any("is also in another class" in line for line in report.advice)


def test_single_clips_are_not_judged(encoder, tmp_path, make_clip, cache):
    for kind, label in enumerate(("jump", "wave")):
        make_clip(tmp_path / "s" / label / "x", kind)
    report = judge(enroll(tmp_path / "s", encoder, cache=cache))
    assert report.accuracy is None
    assert all(clip.right is None and clip.answer is None for clip in report.clips)
    assert "jump, wave; add a second clip" in report.advice[0]


def test_one_class(encoder, tmp_path, make_clip, cache):
    for variant in range(2):
        make_clip(tmp_path / "s" / "only" / f"{variant}", 0, variant)
    report = judge(enroll(tmp_path / "s", encoder, cache=cache))
    assert "one class only" in report.advice[0]
    assert all(clip.nearest_other is None for clip in report.clips)
