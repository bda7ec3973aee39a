"""What the function of an action returns: poses and things over time, as plain arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

BASE = -0.42
"""Height of the table on which things stand in a close view, in the units of `Sprite`."""


@dataclass(frozen=True)
class Prop:
    """A thing near a person, painted among the limbs by its depth.

    Attributes:
        kind: "box", "ball", "chair", "hat" or "cup".
        position: float64 (T, 3), body heights: its centre (for a chair, the middle of the seat's edge).
        size: Half its width, body heights.
        held: float64 (T,): 1 while the hands hold it and ``position`` does not count, 0 while they
            do not; between the two, it is on its way. None is 0 throughout.
        hands: The hands that hold it.
    """

    kind: str
    position: np.ndarray
    size: float
    held: np.ndarray | None = None
    hands: Literal["right", "both"] = "both"


@dataclass(frozen=True)
class Sprite:
    """A thing or a hand in a close view; x to the right, y up, the picture spans -1 to 1.

    Attributes:
        kind: The name of a thing, or "hand"; see ``painting.things``.
        x, y: float64 (T,), the centre (for a hand, its palm).
        size: Half its width.
        angle: float64 (T,) degrees, counter-clockwise; for a lid, how far it is open.
        colour: Index into the clip's colours.
        role: Index of its tracked point: 0 thing, 1 second thing, 2 hand, 3 second hand; None is
            not tracked.
        reach: Direction from the palm to the elbow, for hands.
        grow: float64 (T,) factor on its size, for a thing that comes nearer.
        floor: float64 (T,) height of its shadow, if not ``BASE``.
    """

    kind: str
    x: np.ndarray
    y: np.ndarray
    size: float
    angle: np.ndarray | None = None
    colour: int = 0
    role: int | None = None
    reach: tuple[float, float] = (1.0, -0.6)
    grow: np.ndarray | None = None
    floor: np.ndarray | None = None


@dataclass(frozen=True)
class Motion:
    """The action of one clip: either a person's poses with props, or sprites in painting order.

    Attributes:
        poses: float64 (T, F) or None.
        view: Turn of the camera that shows this action well, degrees.
        zoom: float64 (T,) factor on the scale, or None for 1.
    """

    poses: np.ndarray | None = None
    props: list[Prop] = field(default_factory=list)
    sprites: list[Sprite] = field(default_factory=list)
    view: float = 0.0
    zoom: np.ndarray | None = None


MotionFunction = Callable[[np.random.Generator, np.ndarray], Motion]


def through(progress: np.ndarray, *keys: tuple[float, np.ndarray]) -> np.ndarray:
    """Interpolate vectors between keys.

    Args:
        progress: float64 (T,) in [0, 1].
        keys: (when, vector (F,)) with rising times.

    Returns:
        float64 (T, F).
    """
    times = [when for when, _ in keys]
    stacked = np.stack([value for _, value in keys])
    columns = [np.interp(progress, times, stacked[:, i]) for i in range(stacked.shape[1])]
    return np.stack(columns, axis=1)


def path(progress: np.ndarray, *keys: tuple[float, float]) -> np.ndarray:
    """Interpolate a number between (when, value) keys; float64 (T,)."""
    times, values = zip(*keys, strict=True)
    return np.asarray(np.interp(progress, times, values))
