"""Actions of hands that fail, are only pretended, or change nothing; see people.py."""

from __future__ import annotations

import numpy as np

from mafsar.synthetic.actions.people import draw_sign
from mafsar.synthetic.actions.tabletop import Rng, draw_thing, hand_at, held
from mafsar.synthetic.motion import BASE, Motion, Sprite, path


def fail_to_lift(rng: Rng, p: np.ndarray) -> Motion:
    """The hand grips and pulls twice; the thing rises a little and slips back."""
    kind, size = draw_thing(rng)
    x = float(rng.uniform(-0.25, 0.25))
    rise = path(p, (0.2, 0), (0.38, 0.16), (0.46, 0), (0.54, 0), (0.68, 0.16), (0.76, 0))
    hand = path(p, (0, 0.9), (0.2, BASE + 2 * size)) + rise
    hand += path(p, (0.38, 0), (0.46, 0.4), (0.54, 0), (0.68, 0), (0.78, 0.4), (1, 0.9))
    thing = Sprite(kind, held(p, x), BASE + size + rise, size, role=0)
    return Motion(sprites=[thing, hand_at(held(p, x), hand, (0.5, 1.0))])


def fail_to_push(rng: Rng, p: np.ndarray) -> Motion:
    """The hand pushes a thing again and again, and it does not move."""
    big, side = float(rng.uniform(0.3, 0.38)), draw_sign(rng)
    edge = side * (big + 0.1)
    hx = path(p, (0, side * 1.3), (0.2, edge), (0.35, edge + side * 0.3), (0.5, edge),
              (0.65, edge + side * 0.3), (0.8, edge), (1, side * 1.3))  # fmt: skip
    y = held(p, BASE + big)
    return Motion(
        sprites=[
            Sprite("block", held(p, 0.0), y, big, colour=1, role=0),
            hand_at(hx, y, (side, 0.1)),
        ]
    )


def fail_to_open(rng: Rng, p: np.ndarray) -> Motion:
    """A lid opens a little and falls shut, twice."""
    side, big = draw_sign(rng), float(rng.uniform(0.34, 0.42))
    angle = path(p, (0.2, 0), (0.38, 32), (0.45, 0), (0.55, 0), (0.73, 32), (0.8, 0))
    radians, top = np.radians(angle), BASE + 1.3 * big
    tip_x, tip_y = side * (-big + 2 * big * np.cos(radians)), top + 2 * big * np.sin(radians)
    away = path(p, (0, 0.8), (0.2, 0), (0.38, 0), (0.45, 0.3), (0.55, 0), (0.73, 0), (0.8, 0.3),
                (1, 0.9))  # fmt: skip
    chest = Sprite(
        "chest", held(p, 0.0), held(p, BASE + 0.65 * big), side * big, angle, colour=1, role=1
    )
    return Motion(sprites=[chest, hand_at(tip_x + side * away, tip_y + 0.3 * away, (side, 0.5))])


def tilt_and_let_back(rng: Rng, p: np.ndarray) -> Motion:
    """A finger tilts a thing, which comes back upright."""
    size, side = float(rng.uniform(0.16, 0.2)), draw_sign(rng)
    lean = path(p, (0.25, 0), (0.5, float(rng.uniform(32, 42))), (0.75, 0))
    radians, tall = np.radians(lean), 2.0 * size
    x = side * (size * 0.5 * (1 - np.cos(radians)) + tall * np.sin(radians)) * 0.9
    y = BASE + tall * np.cos(radians) + size * 0.6 * np.sin(radians)
    push = path(p, (0, -1.1), (0.25, -size - 0.05), (0.5, 0.3), (0.75, -size - 0.05), (1, -1.1))
    return Motion(
        sprites=[
            Sprite("bottle", x, y, size, -side * lean, role=0),
            hand_at(side * push, held(p, BASE + 1.6 * tall), (-side, 0.1)),
        ]
    )


def poke(rng: Rng, p: np.ndarray) -> Motion:
    """A finger touches a thing so lightly that it stays where it is."""
    kind, size = draw_thing(rng, without=("ball",))
    side = draw_sign(rng)
    near = size + 0.13
    hx = path(p, (0, 1.3), (0.4, near), (0.5, near - 0.06), (0.6, near), (1, 1.3))
    y = held(p, BASE + size)
    thing = Sprite(kind, held(p, 0.0), y, size, role=0)
    return Motion(sprites=[thing, hand_at(side * hx, y, (side, 0.15))])


def pretend_to_put_in(rng: Rng, p: np.ndarray) -> Motion:
    """A hand lowers a thing into a box and takes it out again."""
    kind, size = draw_thing(rng, without=("bottle",))
    size *= 0.85
    side, big = draw_sign(rng), 0.34
    x = path(p, (0, side * 1.1), (0.3, 0), (0.7, 0), (1, side * 1.1))
    deep = BASE + 0.8 * big
    y = path(p, (0, 0.4), (0.3, 0.45), (0.5, deep), (0.7, 0.45), (1, 0.4))
    box = (held(p, 0.0), held(p, BASE + big * 0.8))
    return Motion(
        sprites=[
            Sprite("box_back", *box, big, colour=1),
            Sprite(kind, x, y, size, role=0),
            Sprite("box_front", *box, big, colour=1, role=1),
            hand_at(x, y + size, (0.8 * side, 1.0)),
        ]
    )


def push_off(rng: Rng, p: np.ndarray) -> Motion:
    """A thing is pushed over the edge of a stand and falls."""
    kind, size = draw_thing(rng, without=("ball", "bottle"))
    size, side, big = 0.8 * size, draw_sign(rng), 0.34
    top, gone = BASE + 2 * big, big + 0.9 * size
    x = path(p, (0.1, -0.1), (0.5, gone), (0.75, gone + 0.15))
    fall = np.clip((p - 0.5) / 0.25, 0, 1) ** 2
    y = top + size - (top - BASE) * fall
    angle = -side * path(p, (0.45, 0), (0.75, 90))
    hx = np.minimum(x, gone) - size - 0.1
    hx = np.where(p < 0.1, path(p, (0, -0.9), (0.1, -0.2 - size)), hx)
    hx = np.where(p > 0.5, path(p, (0.5, gone - size - 0.1), (1, -0.7)), hx)
    return Motion(
        sprites=[
            Sprite("block", held(p, 0.0), held(p, BASE + big), big, colour=1, role=1),
            Sprite(kind, side * x, y, size, angle, role=0),
            hand_at(side * hx, held(p, top + size), (-side, 0.25)),
        ]
    )


def knock(rng: Rng, p: np.ndarray) -> Motion:
    """A hand knocks on the table."""
    x = float(rng.uniform(-0.3, 0.3))
    y = BASE + 0.08 + float(rng.uniform(0.3, 0.45)) * np.abs(np.sin(np.pi * p))
    kind, size = draw_thing(rng, without=("ball",))
    beside = Sprite(kind, held(p, x - 0.5), held(p, BASE + size), size, role=0)
    return Motion(sprites=[beside, hand_at(held(p, x), y, (0.9, 0.7))])
