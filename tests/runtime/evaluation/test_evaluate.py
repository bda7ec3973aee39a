"""Evaluation: known accuracies, chance, frozen episodes and the JSON."""

from __future__ import annotations

import json
import pickle
import shutil

import numpy as np
import pytest

from mafsar import kernels
from mafsar.choices import METRICS, Scoring
from mafsar.data.episodes import draw_episodes
from mafsar.data.open_data import open_data
from mafsar.data.pack import pack
from mafsar.data.store import StoreSettings
from mafsar.errors import InputError, MismatchError, VideoError
from mafsar.runtime.bank.enroll import enroll
from mafsar.runtime.cache.clip_jobs import encode_jobs
from mafsar.runtime.evaluation.evaluate import evaluate
from mafsar.runtime.evaluation.tally import confidence_interval, evaluate_features
from mafsar.video import Geometry

LABELS = [f"c{i}" for i in range(6)]
CLASS_INDEX = np.repeat(np.arange(6), 10)


def features(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(60, 8, 32)).astype(np.float32)


@pytest.mark.parametrize("metric", METRICS)
def test_separable_features_are_all_right(metric):
    centres = np.random.default_rng(1).normal(size=(6, 8, 32))
    frames = (centres[CLASS_INDEX] + 0.05 * features()).astype(np.float32)
    episodes = draw_episodes(CLASS_INDEX, LABELS, episodes=300, shot=2)
    tally = evaluate_features(frames, frames, CLASS_INDEX, episodes, Scoring(metric, alpha=0.0))
    assert tally.right.min() == 1.0
    assert tally.confusion.sum() == np.trace(tally.confusion) == 300 * 5
    assert tally.right_text is None


def test_a_known_share_is_wrong():
    """Two clips of class 0 look exactly like class 1, so the wrong answers can be counted."""
    centres = np.eye(2, 32)[:, None].repeat(8, axis=1)
    looks = np.array([1, 1] + [0] * 8 + [1] * 10)
    class_index = np.repeat([0, 1], 10)
    frames = centres[looks].astype(np.float32)
    episodes = draw_episodes(class_index, ["a", "b"], way=2, episodes=2000, seed=2)
    tally = evaluate_features(frames, frames, class_index, episodes, Scoring("mean", alpha=0.0))
    right = []
    for classes, support, queries in zip(
        episodes.classes, episodes.support[:, :, 0], episodes.queries[:, :, 0], strict=True
    ):
        answers = [
            0 if looks[support[0]] == looks[clip] else 1 if looks[support[1]] == looks[clip] else 0
            for clip in queries
        ]
        right.append(np.mean([answer == way for way, answer in enumerate(answers)]))
        assert len(classes) == 2
    np.testing.assert_array_equal(tally.right, right)


def test_random_features_are_at_chance():
    episodes = draw_episodes(CLASS_INDEX, LABELS, episodes=4000, seed=1)
    rng = np.random.default_rng(4)
    tally = evaluate_features(
        features(2), features(3), CLASS_INDEX, episodes, Scoring(),
        pooled=rng.normal(size=(60, 32)).astype(np.float32),
        text=rng.normal(size=(6, 32)).astype(np.float32),
    )  # fmt: skip
    # Clips repeat between episodes, so accuracy varies with the 60 clips, not with 20 000 queries.
    sigma = np.sqrt(0.2 * 0.8 / 60)
    for right in (tally.right, tally.right_visual, tally.right_text):
        assert abs(right.mean() - 0.2) < 3 * sigma


def test_batches_of_episodes_do_not_matter(monkeypatch):
    from mafsar.runtime.evaluation import tally as module

    episodes = draw_episodes(CLASS_INDEX, LABELS, episodes=101, shot=3, query=2)
    whole = evaluate_features(features(), features(1), CLASS_INDEX, episodes, Scoring(alpha=0.0))
    monkeypatch.setattr(module, "_BATCH_BYTES", 1)
    single = evaluate_features(features(), features(1), CLASS_INDEX, episodes, Scoring(alpha=0.0))
    np.testing.assert_array_equal(whole.right, single.right)
    np.testing.assert_array_equal(whole.confusion, single.confusion)


def test_threads_do_not_matter():
    episodes = draw_episodes(CLASS_INDEX, LABELS, episodes=200)
    before = kernels.get_num_threads()
    tallies = []
    for threads in (1, 2, 3):
        kernels.set_num_threads(threads)
        tallies.append(
            evaluate_features(features(), features(1), CLASS_INDEX, episodes, Scoring(alpha=0.0))
        )
    kernels.set_num_threads(before)
    for tally in tallies[1:]:
        np.testing.assert_array_equal(tally.right, tallies[0].right)


def test_interval():
    right = np.array([1.0, 0.0, 1.0, 1.0])
    assert confidence_interval(right) == pytest.approx(1.96 * 0.5 / 2)
    assert confidence_interval(np.array([1.0])) == 0.0


def test_json_has_the_documented_fields(encoder, support_folder, cache):
    result = evaluate(encoder, support_folder, way=3, episodes=50, cache=cache, seed=9)
    line = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert list(line) == [
        "schema", "accuracy", "ci95", "accuracy_visual", "accuracy_text", "per_class", "way",
        "shot", "query", "episodes", "seed", "metric", "views", "ece", "text", "clips_encoded", "seconds",
        "model", "adapters", "engine",
    ]  # fmt: skip
    assert (line["way"], line["shot"], line["query"], line["episodes"], line["seed"]) == (
        3,
        1,
        1,
        50,
        9,
    )
    assert line["accuracy"] == 100.0
    assert set(line["per_class"]) == {"clap_hands", "jump", "wave"}
    assert result.confusion.sum() == 150


def test_each_clip_is_encoded_once_per_branch(encoder, support_folder, cache):
    result = evaluate(encoder, support_folder, way=2, episodes=200, cache=cache)
    assert encoder.calls == {"query": 9, "support": 9, "text": 3}
    assert result.clips_encoded == 9
    again = evaluate(encoder, support_folder, way=2, episodes=200, cache=cache)
    assert encoder.calls == {"query": 9, "support": 9, "text": 3}
    assert again.clips_encoded == 0
    assert again.accuracy == result.accuracy


def test_clips_encoded_elsewhere_give_the_same_numbers(
    encoder, make_encoder, support_folder, cache
):
    """Jobs and what is made of them travel as bytes, as to a cluster; also errors."""
    (support_folder / "jump" / "bad.mp4").write_bytes(b"nothing")
    options = {"way": 2, "episodes": 50, "on_error": "skip"}
    here = evaluate(encoder, support_folder, cache=False, **options)
    other = make_encoder()
    sent = []

    def run(jobs, reading):
        for job in jobs:
            sent.append(job.clip.name)
            job, where = pickle.loads(pickle.dumps((job, reading)))
            (made,) = encode_jobs(other, [job], where)
            yield pickle.loads(pickle.dumps(made))

    encoder.calls = dict.fromkeys(encoder.calls, 0)
    there = evaluate(encoder, support_folder, cache=cache, run=run, **options)
    assert encoder.calls == {"query": 0, "support": 0, "text": 3}
    assert other.calls == {"query": 9, "support": 9, "text": 0}
    np.testing.assert_array_equal(there.confusion, here.confusion)
    assert there.to_json() | {"seconds": 0} == here.to_json() | {"seconds": 0}
    assert there.notes == here.notes
    sent.clear()
    again = evaluate(encoder, support_folder, cache=cache, run=run, **options)
    assert [name.rpartition("/")[2] for name in sent] == ["bad.mp4"]  # the others are in the cache
    assert again.accuracy == here.accuracy


def test_text_off_uses_no_names(encoder, support_folder, cache):
    off = evaluate(encoder, support_folder, way=2, episodes=20, text="off", cache=cache)
    assert off.text is False
    assert off.accuracy_text is None
    assert off.accuracy == off.accuracy_visual
    assert encoder.calls["support"] == 0
    on = evaluate(encoder, support_folder, way=2, episodes=20, cache=cache)
    assert on.text is True
    assert on.accuracy_text is not None


def test_a_model_whose_own_alpha_is_0_uses_no_names(make_encoder, support_folder, cache):
    """As `match`, also where it knows all words."""
    encoder = make_encoder(alpha=0.0, known_words=frozenset({"clap", "hands", "jump", "wave"}))
    result = evaluate(encoder, support_folder, way=2, episodes=20, cache=cache)
    assert result.text is False
    assert enroll(support_folder, encoder, cache=cache).text_choice.used is False


def test_alpha_needs_text(make_encoder, support_folder, cache):
    """As in `mafsar.Matcher`: a weight that would have no effect is an error."""
    encoder = make_encoder(known_words=frozenset({"jump"}))
    options = {"way": 2, "episodes": 20, "cache": cache}
    for text in ("off", "auto"):
        with pytest.raises(InputError, match=r"^alpha=0\.5: text is off; use text='on'"):
            evaluate(encoder, support_folder, text=text, alpha=0.5, **options)
    assert evaluate(encoder, support_folder, text="on", alpha=0.5, **options).text
    assert not evaluate(encoder, support_folder, alpha=0.0, **options).text
    with pytest.raises(InputError, match="text must be one of auto, on, off, got 'maybe'"):
        evaluate(encoder, support_folder, text="maybe", **options)


def test_episodes_are_frozen_in_a_file(encoder, support_folder, cache, tmp_path):
    file = tmp_path / "episodes.json"
    options = {"way": 2, "episodes": 30, "episodes_file": file, "cache": cache}
    first = evaluate(encoder, support_folder, **options)
    before = file.read_bytes()
    data = json.loads(before)
    assert (data["kind"], data["seed"], len(data["episodes"])) == ("episodes", 0, 30)
    assert data["clips"][0] == "clap_hands/clip0"  # relative: the file may travel with the data
    second = evaluate(encoder, support_folder, **options)
    assert file.read_bytes() == before
    assert second.accuracy == first.accuracy
    with pytest.raises(MismatchError, match="frozen with way=2; add these"):
        evaluate(encoder, support_folder, **(options | {"way": 3}))
    moved = support_folder.rename(tmp_path / "moved")
    assert evaluate(encoder, moved, **options).accuracy == first.accuracy
    (moved / "jump" / "clip0").rename(moved / "jump" / "clip9")
    with pytest.raises(MismatchError, match="drawn from other clips"):
        evaluate(encoder, moved, **options)


def test_parts_of_a_split(encoder, support_folder, cache, tmp_path):
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"train": ["wave"], "test": ["jump", "clap_hands"]}))
    result = evaluate(encoder, support_folder, split=split, way=2, episodes=20, cache=cache)
    assert result.labels == ("clap_hands", "jump")
    assert encoder.calls["query"] == 6
    with pytest.raises(InputError, match="way=1 or less"):
        evaluate(encoder, support_folder, split=split, part="train", way=2, cache=cache)
    with pytest.raises(InputError, match="part='val'"):
        evaluate(encoder, support_folder, part="val", cache=cache)


def test_a_broken_clip_is_named(encoder, support_folder, cache):
    (support_folder / "jump" / "bad.mp4").write_bytes(b"nothing")
    with pytest.raises(VideoError, match=r"bad\.mp4"):
        evaluate(encoder, support_folder, way=2, episodes=10, cache=cache)


def test_a_packed_data_set_gives_the_accuracy_of_its_clips(
    encoder, support_folder, cache, tmp_path
):
    """Episodes and names are the same, so that results can be compared."""
    shutil.copytree(support_folder / "jump" / "clip0", support_folder / "jump" / "copy")
    store, frozen = tmp_path / "clips.sqlite", tmp_path / "episodes.json"
    pack(open_data(data=support_folder), store, StoreSettings(frames=12, short_side=64, quality=95))
    options = {"way": 3, "episodes": 60, "episodes_file": frozen, "cache": cache, "text": "on"}
    loose = evaluate(encoder, support_folder, **options)
    packed = evaluate(encoder, store, **options)  # reads the episodes that were frozen over files
    assert (packed.clips_encoded, packed.clips_again) == (9, 1)
    assert packed.accuracy == loose.accuracy == 100.0
    assert packed.accuracy_text == pytest.approx(loose.accuracy_text, abs=3)
    assert evaluate(encoder, store, **options).clips_encoded == 0  # features of a store are cached
    with pytest.raises(InputError, match="packed and holds its own split"):
        evaluate(encoder, store, split={}, **options)
    with pytest.raises(InputError, match="omit the geometry"):
        evaluate(encoder, store, geometry=Geometry.parse(fit="pad"), **options)


def test_a_part_of_a_packed_data_set(encoder, support_folder, cache, tmp_path):
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"train": ["wave"], "test": ["jump", "clap_hands"]}))
    store = tmp_path / "clips.sqlite"
    pack(open_data(data=support_folder, split=split), store, StoreSettings(12, 64))
    result = evaluate(encoder, store, way=2, episodes=20, cache=cache)
    assert result.labels == ("clap_hands", "jump")
    with pytest.raises(InputError, match="way=1 or less"):
        evaluate(encoder, store, part="train", way=2, cache=cache)
    with pytest.raises(InputError, match="part val has no class"):
        evaluate(encoder, store, part="val", way=2, cache=cache)
