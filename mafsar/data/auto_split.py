"""A split of a user's own classes, drawn by a seed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mafsar.data.splits import PARTS, Split
from mafsar.errors import InputError, option
from mafsar.files import write_text

AUTO = "auto"
"""The name of a drawn split, in place of a file's."""

SPLIT_FILE = "split.json"
_LEAST = 2  # classes of a part: fewer give no episode
_SHARE = 5  # one class of so many is for validation, another one for testing


def draw_split(clips: Mapping[str, int], seed: int, path: Path) -> Split:
    """Draws three fifths of the classes for training, one fifth each for validation and testing.

    The draw is stratified by the number of clips: each part has classes with many and with few.

    Args:
        clips: Number of clips by label.
        seed: The same labels, numbers and seed give the same split.
        path: Where the split is kept; messages name it.

    Raises:
        InputError: There are too few classes.
    """
    least = _LEAST * len(PARTS)
    if len(clips) < least:
        raise InputError(
            option(split=AUTO), f": needs {least} classes or more, got {len(clips)}; add classes"
        )
    rng = np.random.default_rng([seed, 7])
    names = sorted(clips)
    shuffled = [names[index] for index in rng.permutation(len(names))]
    left = sorted(shuffled, key=lambda label: -clips[label])  # equal numbers stay shuffled
    count = max(_LEAST, round(len(left) / _SHARE))
    drawn: dict[str, tuple[str, ...]] = {}
    for part in ("val", "test"):
        # One class of each stretch of about equal numbers of clips.
        stretches = np.array_split(np.arange(len(left)), count)
        chosen = {left[int(rng.choice(stretch))] for stretch in stretches}
        drawn[part] = tuple(sorted(chosen))
        left = [label for label in left if label not in chosen]
    return Split(path, tuple(sorted(left)), drawn["val"], drawn["test"])


def write_split(split: Split) -> None:
    """Keeps a split as a file that `read_split` reads."""
    document = {part: list(split.classes(part)) for part in PARTS}
    write_text(split.path, json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def split_line(split: Split) -> str:
    """The classes of each part, for people, one line."""
    return "; ".join(
        f"{part} {len(split.classes(part))}: {', '.join(split.classes(part))}" for part in PARTS
    )
