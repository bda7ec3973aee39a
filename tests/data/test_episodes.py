"""Episodes: drawn from a seed, independent of each other, saved and read back."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mafsar.data.episodes import draw_episodes, episodes_to_json, read_episodes
from mafsar.data.splits import labels_of_part, read_split
from mafsar.errors import InputError, MismatchError, MissingError

LABELS = [f"class{i}" for i in range(8)]
CLASS_INDEX = np.repeat(np.arange(8), 6)
NAMES = [f"{LABELS[index]}/{i}.mp4" for i, index in enumerate(CLASS_INDEX)]


def test_no_clip_is_both_support_and_query():
    episodes = draw_episodes(CLASS_INDEX, LABELS, way=4, shot=3, query=2, episodes=500, seed=3)
    assert episodes.classes.shape == (500, 4)
    for classes, support, queries in zip(
        episodes.classes, episodes.support, episodes.queries, strict=True
    ):
        assert len(set(classes.tolist())) == 4
        taken = [*support.ravel().tolist(), *queries.ravel().tolist()]
        assert len(set(taken)) == len(taken) == 4 * 5
        for way, index in enumerate(classes):
            assert (CLASS_INDEX[support[way]] == index).all()
            assert (CLASS_INDEX[queries[way]] == index).all()


def test_an_episode_depends_on_seed_and_number_alone():
    many = draw_episodes(CLASS_INDEX, LABELS, way=3, episodes=200, seed=5)
    few = draw_episodes(CLASS_INDEX, LABELS, way=3, episodes=20, seed=5)
    other = draw_episodes(CLASS_INDEX, LABELS, way=3, episodes=200, seed=6)
    np.testing.assert_array_equal(many.support[:20], few.support)
    np.testing.assert_array_equal(many.queries[:20], few.queries)
    assert (many.support != other.support).any()


def test_draws_are_those_of_the_raw_stream():
    """Against a second, plain Fisher–Yates shuffle on the raw numbers of PCG64."""
    episodes = draw_episodes(CLASS_INDEX, LABELS, way=2, shot=1, query=1, episodes=3, seed=11)
    for number in range(3):
        raw = list(np.random.PCG64(np.random.SeedSequence((11, number))).random_raw(6))

        def shuffle(items, bits):
            items = list(items)
            for i, value in enumerate(bits):
                j = i + int(value) % (len(items) - i)
                items[i], items[j] = items[j], items[i]
            return items[: len(bits)]

        classes = shuffle(range(8), raw[:2])
        assert episodes.classes[number].tolist() == classes
        for way, index in enumerate(classes):
            clips = shuffle(
                np.flatnonzero(index == CLASS_INDEX).tolist(), raw[2 + 2 * way : 4 + 2 * way]
            )
            assert episodes.support[number, way].tolist() == clips[:1]
            assert episodes.queries[number, way].tolist() == clips[1:]


def test_draws_are_even():
    episodes = draw_episodes(CLASS_INDEX, LABELS, way=5, episodes=6000, seed=0)
    counts = np.bincount(episodes.queries.ravel(), minlength=len(CLASS_INDEX))
    expected = 6000 * 5 / len(CLASS_INDEX)
    # Binomial: 3 standard deviations, and one more for the maximum over 48 clips.
    assert np.abs(counts - expected).max() < 4 * np.sqrt(expected)


def test_frozen_file_round_trip(tmp_path):
    episodes = draw_episodes(CLASS_INDEX, LABELS, way=3, shot=2, query=2, episodes=7, seed=1)
    path = tmp_path / "e.json"
    path.write_text(episodes_to_json(episodes, LABELS, NAMES), encoding="utf-8")
    data = json.loads(path.read_text())
    assert (data["way"], data["shot"], data["query"], data["seed"]) == (3, 2, 2, 1)
    assert len(data["episodes"]) == 7
    again = read_episodes(path, LABELS, NAMES)
    for name in ("classes", "support", "queries"):
        np.testing.assert_array_equal(getattr(again, name), getattr(episodes, name))
    with pytest.raises(MismatchError, match="drawn from other clips"):
        read_episodes(path, LABELS, NAMES[:-1])
    path.write_text("{}")
    with pytest.raises(InputError, match="not an episodes file"):
        read_episodes(path, LABELS, NAMES)
    data["episodes"][0]["support"][0][0] = 999
    path.write_text(json.dumps(data))
    with pytest.raises(InputError, match="3-way 2-shot"):
        read_episodes(path, LABELS, NAMES)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"way": 9}, "9-way episodes need 9 classes, the data has 8; use way=8"),
        ({"shot": 6}, r"needs 7 clips per class; too few in class0 \(6\)"),
        ({"way": 0}, "way must be ≥ 1"),
        ({"episodes": 0}, "episodes must be ≥ 1"),
        ({"seed": -1}, "seed must be ≥ 0"),
    ],
)
def test_too_little_data_is_said(asked, said):
    with pytest.raises(InputError, match=said):
        draw_episodes(CLASS_INDEX, LABELS, **asked)


def test_splits(tmp_path):
    path = tmp_path / "split.json"
    path.write_text(json.dumps({"train": ["a"], "val": {"classes": ["b"]}, "test": ["d", "c"]}))
    split = read_split(path)
    assert labels_of_part(split, "test", ["a", "b", "c", "d"]) == ("c", "d")
    with pytest.raises(InputError, match="1 classes of part val are not in the data: b"):
        labels_of_part(split, "val", ["a"])
    path.write_text(json.dumps({"test": ["a", "b"], "train": ["b"]}))
    with pytest.raises(InputError, match="both train and test"):
        read_split(path)
    path.write_text(json.dumps({"test": ["a"]}))
    with pytest.raises(InputError, match="part val has no class"):
        labels_of_part(read_split(path), "val", ["a"])
    path.write_text("[]")
    with pytest.raises(InputError, match="no part"):
        read_split(path)
    path.write_text("{")
    with pytest.raises(InputError, match="not JSON"):
        read_split(path)
    with pytest.raises(MissingError, match="no such split"):
        read_split(tmp_path / "gone.json")
