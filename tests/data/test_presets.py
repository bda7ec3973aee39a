"""The standard data sets, against the protocols' counts and the published lists."""

from __future__ import annotations

import pytest

from mafsar.data.labels import class_key, label_words
from mafsar.data.presets import preset, presets
from mafsar.data.splits import PARTS
from mafsar.errors import InputError

# Classes and videos of train, val, test: docs/data.md.
COUNTS = {
    "hmdb51": ((31, 10, 10), (4280, 1194, 1292)),
    "ucf101": ((70, 10, 21), (9154, 1421, 2745)),
    "kinetics100": ((64, 12, 24), (6400, 1200, 2400)),
    "ssv2_small": ((64, 12, 24), (6400, 1200, 2400)),
    "ssv2_full": ((64, 12, 24), (67013, 1926, 2857)),
}


@pytest.mark.parametrize("name", COUNTS)
def test_counts_are_the_protocols(name: str) -> None:
    classes, videos = COUNTS[name]
    parts = preset(name).parts
    assert tuple(parts[part].class_count for part in PARTS) == classes
    assert tuple(parts[part].videos for part in PARTS) == videos
    for part, count in zip(PARTS, classes, strict=True):
        names = parts[part].classes
        assert names is None or len(names) == count
    assert set(presets()) == set(COUNTS)


@pytest.mark.parametrize("name", COUNTS)
def test_no_class_is_in_two_parts_and_none_reads_like_another(name: str) -> None:
    names = [label for part in preset(name).parts.values() for label in part.classes or ()]
    assert len(set(names)) == len(names)
    assert len({class_key(label) for label in names}) == len(names)


def test_training_settings_of_each() -> None:
    assert [name for name in COUNTS if not preset(name).flip] == ["ssv2_small", "ssv2_full"]
    assert [name for name in COUNTS if preset(name).listed] == [
        "kinetics100", "ssv2_small", "ssv2_full",
    ]  # fmt: skip
    assert preset("kinetics100").training_tasks == 1_000
    assert preset("ssv2_small").training_tasks == 20_000
    assert {item.test_episodes for item in presets().values()} == {10_000}
    assert {(item.query, item.alpha) for item in presets().values()} == {(1, 0.5)}


def test_class_numbers_are_those_of_the_published_lists() -> None:
    small, full = preset("ssv2_small").parts, preset("ssv2_full").parts
    assert small["train"].classes is not None
    assert small["train"].classes[8] == (
        "Tipping something with something in it over, so something in it falls out"
    )
    assert small["train"].classes[0] == "Pouring something into something"
    assert small["val"].classes is not None
    assert small["val"].classes[3] == "Trying to bend something unbendable so nothing happens"
    assert small["test"].classes is not None
    assert small["test"].classes[:2] == (
        "Twisting (wringing) something wet until water comes out",
        "Poking a hole into something soft",
    )
    assert full["train"].classes is not None
    assert full["train"].classes[8] == "Holding [something] next to [something]"
    assert full["val"].classes is None


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean hmdb51"):
        preset("hmbd51")
    assert preset("SSv2-Small").name == "ssv2_small"


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("ApplyEyeMakeup", "Apply Eye Makeup"),
        ("YoYo", "Yo Yo"),
        ("brush_hair", "brush hair"),
        ("hurling (sport)", "hurling (sport)"),
        ("[Something] colliding with [something]", "Something colliding with something"),
        ("dunking_basketball", "dunking basketball"),
    ],
)
def test_labels_become_words(label: str, words: str) -> None:
    assert label_words(label) == words
