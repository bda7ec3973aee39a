"""The quality report on supports with known faults."""

from __future__ import annotations

import json
import shutil

from mafsar.runtime.bank.enroll import enroll
from mafsar.runtime.bank.quality import judge


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
