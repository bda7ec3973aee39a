"""The field's standard few-shot data sets: their classes, counts and training settings.

Class names and counts are those of the ARN (HMDB51, UCF101), CMN (Kinetics-100, SSv2-Small) and
OTAM (SSv2-Full) protocols. Where lists give classes as numbers, the names here stand in the order
of those numbers.
"""

from __future__ import annotations

import difflib
import functools
import json
from dataclasses import dataclass
from importlib import resources
from typing import Any

from mafsar.data.splits import PARTS, Part
from mafsar.errors import InputError, option


@dataclass(frozen=True)
class PresetPart:
    """One part of a standard split.

    Attributes:
        videos: How many videos the protocol has.
        classes: Names, in the order of the class numbers in lists; None if they are not public.
        class_count: How many classes, named or not.
    """

    videos: int
    classes: tuple[str, ...] | None
    class_count: int


@dataclass(frozen=True)
class Preset:
    """A standard data set.

    Attributes:
        name: The value of the argument `dataset`.
        title: As papers write it.
        protocol: Who chose the classes.
        listed: Whether the videos are chosen by lists that the user provides.
        training_tasks: Episodes to train on: 1 000 on Kinetics and 20 000 on SSv2-Small (table 9 of
            the paper); the other numbers are choices of this project.
        test_episodes: Episodes to test on.
        query: Training queries per class and episode.
        flip: Whether clips may be mirrored in training; classes of Something-Something have a
            direction.
        alpha: Weight of the text term in training.
        parts: Train, val and test.
    """

    name: str
    title: str
    protocol: str
    listed: bool
    training_tasks: int
    test_episodes: int
    query: int
    flip: bool
    alpha: float
    parts: dict[Part, PresetPart]


_UNNAMED_CLASSES = 12  # validation classes of SSv2-Full


@functools.cache
def presets() -> dict[str, Preset]:
    """All presets by name."""
    text = resources.files("mafsar.data").joinpath("presets.json").read_text(encoding="utf-8")
    return {name: _preset(name, values) for name, values in json.loads(text).items()}


def preset(name: str) -> Preset:
    """One preset.

    Raises:
        InputError: The name is unknown; the message suggests the nearest one.
    """
    known = presets()
    key = name.strip().lower().replace("-", "_")
    if key in known:
        return known[key]
    near = difflib.get_close_matches(key, known, 1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise InputError(option(dataset=name), f": unknown; {hint}known: {', '.join(known)}")


def _preset(name: str, values: dict[str, Any]) -> Preset:
    parts: dict[Part, PresetPart] = {}
    for part in PARTS:
        item = values["parts"][part]
        classes = None if item["classes"] is None else tuple(item["classes"])
        count = _UNNAMED_CLASSES if classes is None else len(classes)
        parts[part] = PresetPart(item["videos"], classes, count)
    return Preset(name=name, **{**values, "parts": parts})
