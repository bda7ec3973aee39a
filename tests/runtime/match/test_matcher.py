"""Matching against a float64 restatement of docs/method.md, and the fields of an answer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mafsar.errors import InputError, UnavailableError
from mafsar.runtime.bank.enroll import enroll
from mafsar.runtime.match.answers import Match, QueryError
from mafsar.runtime.match.matcher import Matcher


def softmax(logits):
    shifted = np.exp(logits - np.max(logits))
    return shifted / shifted.sum()


def test_the_nearest_class_is_named(encoder, support_folder, make_clip, tmp_path, cache):
    bank = enroll(support_folder, encoder, cache=cache)
    clips = [make_clip(tmp_path / f"query{kind}", kind, variant=50) for kind in range(3)]
    answers = list(Matcher(bank, encoder).stream(clips))
    assert [answer.label for answer in answers] == ["clap_hands", "jump", "wave"]
    assert [answer.query for answer in answers] == [str(clip) for clip in clips]


def test_json_has_the_documented_fields(encoder, support_folder, make_clip, tmp_path, cache):
    bank = enroll(support_folder, encoder, text="on", cache=cache)
    (answer,) = Matcher(bank, encoder, topk=2).stream([make_clip(tmp_path / "q", 1, 9)])
    line = json.loads(json.dumps(answer.to_json(), allow_nan=False))
    assert list(line) == [
        "schema", "query", "label", "score", "p_none", "none", "topk", "seconds", "clip", "model",
        "adapters", "engine", "precision", "device", "warning",
    ]  # fmt: skip
    assert list(line["seconds"]) == ["decode", "preprocess", "encode", "match", "total"]
    assert list(line["clip"]) == ["duration_seconds", "frames_seconds", "fps"]
    assert [list(item) for item in line["topk"]] == 2 * [
        ["label", "score", "distance", "text_score"]
    ]
    assert line["schema"] == 1
    assert line["p_none"] is None
    assert line["none"] is False
    assert line["score"] == line["topk"][0]["score"]
    assert len(line["clip"]["frames_seconds"]) == encoder.spec.frames
    parts = line["seconds"]
    assert parts["total"] == pytest.approx(sum(v for k, v in parts.items() if k != "total"))


def test_scores_of_all_classes_sum_to_one(encoder, support_folder, make_clip, tmp_path, cache):
    bank = enroll(support_folder, encoder, cache=cache)
    (answer,) = Matcher(bank, encoder, topk=50).stream([make_clip(tmp_path / "q", 1, 9)])
    assert len(answer.topk) == 3
    assert sum(item.score for item in answer.topk) == pytest.approx(1.0)


def test_an_unreadable_query_gives_an_error_in_its_place(
    encoder, support_folder, make_clip, tmp_path, cache
):
    bank = enroll(support_folder, encoder, cache=cache)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video at all")
    good = [make_clip(tmp_path / f"q{i}", i, 9) for i in range(2)]
    for batch in (1, 2, 8):
        answers = list(
            Matcher(bank, encoder, batch=batch).stream(
                [good[0], broken, tmp_path / "gone.mp4", good[1]]
            )
        )
        kinds = [type(answer) for answer in answers]
        assert kinds == [Match, QueryError, QueryError, Match]
        assert answers[1].query == str(broken)
        assert "broken.mp4" in answers[1].error
        assert list(answers[1].to_json()) == ["schema", "query", "error"]
        assert [answers[0].label, answers[3].label] == ["clap_hands", "jump"]


def test_the_query_itself_is_left_out_of_the_support(
    encoder, support_folder, cache, restated_matching
):
    bank = enroll(support_folder, encoder, cache=cache)
    query = support_folder / "jump" / "clip1"
    (kept,) = Matcher(bank, encoder, text="off", keep_query=True).stream([query])
    (left_out,) = Matcher(bank, encoder, text="off").stream([query])
    assert kept.warning is None
    assert "left out" in left_out.warning
    assert str(query) in left_out.warning
    members = np.array([c.label == bank.labels[1] and c.path != query for c in bank.clips])
    own = np.array([c.path == query for c in bank.clips])
    expected = restated_matching.distance(
        "otam",
        bank.query[own][0].astype(float),
        bank.query[members].astype(float).mean(axis=0),
        0.5,
    )
    assert left_out.topk[0].label == "jump"
    assert left_out.topk[0].distance == pytest.approx(expected, rel=1e-5)
    assert kept.topk[0].distance < left_out.topk[0].distance


def test_a_class_whose_only_clip_is_the_query_is_left_out(encoder, tmp_path, make_clip, cache):
    for kind, label in enumerate(("a", "b", "c")):
        make_clip(tmp_path / "s" / label / "x", kind)
    bank = enroll(tmp_path / "s", encoder, cache=cache)
    (answer,) = Matcher(bank, encoder).stream([tmp_path / "s" / "b" / "x"])
    assert {item.label for item in answer.topk} == {"a", "c"}
    assert "class b has no other clip" in answer.warning


def test_a_single_class_scores_one_with_a_warning(encoder, tmp_path, make_clip, cache):
    make_clip(tmp_path / "s" / "only" / "x", 0)
    bank = enroll(tmp_path / "s", encoder, cache=cache)
    (answer,) = Matcher(bank, encoder).stream([make_clip(tmp_path / "q", 5)])
    assert answer.score == pytest.approx(1.0)
    assert answer.p_none is None
    assert "p_none is not calibrated" in answer.warning


def test_a_long_query_gets_a_warning(encoder, support_folder, make_clip, tmp_path, cache):
    bank = enroll(support_folder, encoder, cache=cache)
    long = make_clip(tmp_path / "long", 0, 9, count=20)  # support clips have 6 frames
    short = make_clip(tmp_path / "short", 0, 9, count=18)
    answers = list(Matcher(bank, encoder).stream([long, short]))
    assert "mafsar watch" in answers[0].warning
    assert answers[1].warning is None


def test_arrays_are_sources(encoder, support_folder, cache):
    from PIL import Image

    bank = enroll(support_folder, encoder, cache=cache)
    files = sorted((support_folder / "wave" / "clip2").iterdir())
    frames = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])
    answer = bank.match(frames, encoder, fps=25.0)
    (same,) = Matcher(bank, encoder, keep_query=True).stream([support_folder / "wave" / "clip2"])
    assert answer.label == "wave"
    assert answer.topk == same.topk


def test_arguments_that_do_not_fit_are_refused(encoder, support_folder, cache):
    bank = enroll(support_folder, encoder, cache=cache)
    no_text = enroll(support_folder, encoder, text="off", cache=cache)
    with pytest.raises(UnavailableError, match=r"^threshold=0\.5: p_none is not calibrated"):
        Matcher(bank, encoder, threshold=0.5).stream([])
    with pytest.raises(InputError, match="text='off'"):
        Matcher(no_text, encoder, text="on").stream([])
    with pytest.raises(InputError, match=r"^alpha=0\.5: text is off; use text='on'"):
        Matcher(bank, encoder, text="off", alpha=0.5).stream([])
    with pytest.raises(InputError, match="alpha must be between 0 and 1"):
        Matcher(bank, encoder, text="on", alpha=1.5).stream([])
    with pytest.raises(InputError, match="topk"):
        Matcher(bank, encoder, topk=0).stream([])


def test_alpha_and_metric_can_be_chosen(
    encoder, support_folder, make_clip, tmp_path, cache, restated_matching
):
    bank = enroll(support_folder, encoder, text="on", cache=cache)
    clip = make_clip(tmp_path / "q", 2, 9)
    (worded,) = Matcher(bank, encoder, alpha=1.0).stream([clip])
    assert all(item.score == pytest.approx(item.text_score) for item in worded.topk)
    (mean,) = Matcher(bank, encoder, metric="mean", text="off").stream([clip])
    query = encoder.encode_query(_pixels(encoder, clip)).frames[0].astype(float)
    for item in mean.topk:
        members = bank.query[bank.class_index == bank.labels.index(item.label)].astype(float)
        expected = restated_matching.distance("mean", query, members.mean(axis=0), 0.5)
        assert item.distance == pytest.approx(expected, rel=1e-4, abs=1e-5)
        assert item.text_score is None


def test_evidence_names_the_nearest_clip(
    encoder, support_folder, make_clip, tmp_path, cache, restated_matching
):
    bank = enroll(support_folder, encoder, cache=cache)
    clip = make_clip(tmp_path / "q", 0, 9)
    (answer,) = Matcher(bank, encoder, evidence=True, text="off").stream([clip])
    shown = answer.evidence
    query = encoder.encode_query(_pixels(encoder, clip)).frames[0].astype(float)
    costs = {
        i: restated_matching.distance("otam", query, bank.query[i].astype(float), 0.5)
        for i in np.flatnonzero(bank.class_index == bank.labels.index(answer.label))
    }
    assert shown.clip == min(costs, key=costs.get)
    assert shown.pixels.shape == (4, 32, 32, 3)
    assert shown.alignment.shape == shown.distances.shape == (4, 4)
    assert (shown.alignment >= 0).all()


def _pixels(encoder, clip: Path) -> np.ndarray:
    from mafsar.video import load_clip

    loaded = load_clip(clip, frames=encoder.spec.frames, size=encoder.spec.image_size)
    return loaded.pixels[None]


@pytest.mark.parametrize("text", ["on", "off"])
def test_each_mode_uses_its_own_branch(
    text, encoder, support_folder, make_clip, tmp_path, cache, restated_matching
):
    bank = enroll(support_folder, encoder, cache=cache)
    clip = make_clip(tmp_path / "q", 1, 9)
    (answer,) = Matcher(bank, encoder, text=text).stream([clip])
    features = encoder.encode_query(_pixels(encoder, clip))
    support = bank.query.astype(float)
    alpha = 0.0
    if text == "on":
        words = np.stack([encoder.word(bank.classes[c].text) for c in bank.class_index])
        support = support + 0.5 * words[:, None]  # as the fake's support branch does
        alpha = encoder.spec.scoring.alpha
    query = features.frames[0].astype(float)
    distances = np.array(
        [
            restated_matching.distance(
                "otam", query, support[bank.class_index == c].mean(axis=0), 0.5
            )
            for c in range(3)
        ]
    )
    cosines = [
        restated_matching.cosine(features.pooled[0].astype(float), encoder.word(c.text))
        for c in bank.classes
    ]
    worded = softmax(encoder.spec.scoring.text_scale * np.array(cosines))
    fused = alpha * worded + (1 - alpha) * softmax(-encoder.spec.scoring.visual_scale * distances)
    found = {item.label: item for item in answer.topk}
    for index, label in enumerate(bank.labels):
        assert found[label].distance == pytest.approx(distances[index], rel=1e-4, abs=1e-4)
        assert found[label].score == pytest.approx(fused[index], abs=1e-4)
