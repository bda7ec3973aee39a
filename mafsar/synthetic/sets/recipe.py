"""The recipe of a rendered data set: its classes, and the number, size and length of its clips."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mafsar.data.splits import PARTS
from mafsar.errors import InputError, option
from mafsar.synthetic.actions.classes import ACTIONS, class_names
from mafsar.synthetic.clips.stream import stream_classes

Kind = Literal["motions", "people", "objects", "stream"]
KINDS: tuple[Kind, ...] = ("motions", "people", "objects", "stream")
_CLIP_STREAM, _CLASS_STREAM = 110, 111
_FEW = 15  # with fewer classes, each part gets a third


@dataclass(frozen=True)
class Recipe:
    """The recipe of a rendered data set; the same recipe gives the same pixels.

    Attributes:
        kind: ``motions`` has all actions, ``people`` and ``objects`` one kind of them; ``stream``
            is long videos, see stream.py.
        classes: Number of classes.
        clips: Number of clips of each class; for ``stream``, number of long videos.
        size: Side of the pictures, pixels, even.
        seed: Draws the classes and everything in the clips; ≥ 0.
        seconds: Usual length of a clip, from which each clip differs; length of a long video.
        fps: Frames a second.
        photos: Use photographs for some places; see ``render_clip``.
    """

    kind: Kind = "motions"
    classes: int = 20
    clips: int = 20
    size: int = 112
    seed: int = 0
    seconds: float = 2.0
    fps: float = 12.0
    photos: bool = False

    def __post_init__(self) -> None:
        if self.size < 16 or self.size % 2:
            raise InputError(option(size=self.size), ": must be even and at least 16 pixels")
        for name, value in (("classes", self.classes), ("clips", self.clips)):
            if value < 1:
                raise InputError(option(**{name: value}), ": must be at least 1")
        if self.seed < 0:
            raise InputError(option(seed=self.seed), ": must be at least 0")
        if self.seconds <= 0 or self.fps <= 0:
            raise InputError(option(seconds=self.seconds, fps=self.fps), ": must be greater than 0")


def choose_classes(recipe: Recipe) -> list[str]:
    """Choose classes by the seed, some of each part; a class and its reverse come together.

    A quarter each, but at least five, are validation and test classes if there are enough.

    Raises:
        InputError: There are fewer classes than the recipe asks for.
    """
    wanted = _of_kind(recipe.kind)
    if recipe.classes > len(wanted):
        raise InputError(
            option(classes=recipe.classes),
            f": there are {len(wanted)} classes in the set {recipe.kind!r}",
        )
    rng = np.random.default_rng([_CLASS_STREAM, recipe.seed])
    queues = {
        part: _in_pairs([n for n in wanted if ACTIONS[n].split == part], rng) for part in PARTS
    }
    held_out = max(5, recipe.classes // 4) if recipe.classes >= _FEW else recipe.classes // 3
    chosen: list[str] = []
    for part in ("test", "val"):
        chosen += queues[part][:held_out]
        queues[part] = queues[part][held_out:]
    rest = [*queues["train"], *queues["val"], *queues["test"]]
    chosen = [*chosen, *rest][: recipe.classes]
    return [name for name in wanted if name in chosen]


def clip_seed(recipe_seed: int, name: str, number: int) -> int:
    """Return the seed of a clip of a class, which no other clip has, whatever their number."""
    sequence = np.random.SeedSequence(
        [_CLIP_STREAM, recipe_seed, zlib.crc32(name.encode()), number]
    )
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


def _of_kind(kind: Kind) -> list[str]:
    """Return the classes of a set, in their fixed order."""
    if kind == "stream":
        return stream_classes()
    scenes = {"people": ("person",), "objects": ("table",)}.get(kind, ("person", "table"))
    return [name for name in class_names() if ACTIONS[name].scene in scenes]


def _in_pairs(names: Sequence[str], rng: np.random.Generator) -> list[str]:
    """Return the names in random order, each followed by its partner."""
    order: list[str] = []
    for name in (names[int(i)] for i in rng.permutation(len(names))):
        for member in (name, ACTIONS[name].partner):
            if member in names and member not in order:
                order.append(str(member))
    return order
