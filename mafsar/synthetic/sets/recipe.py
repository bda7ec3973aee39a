"""What a rendered data set is made of: which classes, how many clips, how large and how long."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mafsar.data.splits import PARTS
from mafsar.errors import InputError
from mafsar.synthetic.actions.classes import ACTIONS, class_names
from mafsar.synthetic.clips.stream import stream_classes

Kind = Literal["motions", "people", "objects", "stream"]
KINDS: tuple[Kind, ...] = ("motions", "people", "objects", "stream")
_CLIP_STREAM, _CLASS_STREAM = 110, 111
_FEW = 15  # with fewer classes than this, each part gets a third


@dataclass(frozen=True)
class Recipe:
    """What a data set is made of; the same recipe gives the same pixels.

    Attributes:
        kind: ``motions`` has every action, ``people`` and ``objects`` one kind of them; ``stream``
            is long videos, see stream.py.
        classes: How many classes.
        clips: How many clips of each class; of a stream, how many long videos.
        size: Side of the pictures, pixels, even.
        seed: Draws the classes and everything in the clips; ≥ 0.
        seconds: A usual clip's length, from which each one's tempo departs; a long video's.
        fps: Frames a second.
        photos: Some places are photographs; see ``render_clip``.
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
            raise InputError(f"--size {self.size}: must be even and at least 16 pixels")
        for flag, value in (("classes", self.classes), ("clips", self.clips)):
            if value < 1:
                raise InputError(f"--{flag} {value}: must be at least 1")
        if self.seed < 0:
            raise InputError(f"--seed {self.seed}: must be at least 0")
        if self.seconds <= 0 or self.fps <= 0:
            raise InputError(
                f"--seconds {self.seconds:g}, --fps {self.fps:g}: must be greater than 0"
            )


def choose_classes(recipe: Recipe) -> list[str]:
    """Choose classes by the seed, pairs of each other's reverse together, some of each part.

    A fourth each, but at least five, are validation and test classes where there are enough.

    Raises:
        InputError: There are not so many classes.
    """
    wanted = _of_kind(recipe.kind)
    if recipe.classes > len(wanted):
        raise InputError(
            f"--classes {recipe.classes}: there are {len(wanted)} classes in --set {recipe.kind}"
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
    """Return the seed of a class's clip: none is shared, none depends on how many there are."""
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
    """Return names in random order, partners one after the other."""
    order: list[str] = []
    for name in (names[int(i)] for i in rng.permutation(len(names))):
        for member in (name, ACTIONS[name].partner):
            if member in names and member not in order:
                order.append(str(member))
    return order
