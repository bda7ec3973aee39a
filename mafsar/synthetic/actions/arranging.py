"""More actions of hands on a table: where things are put; see people.py for the conventions."""

from __future__ import annotations

import numpy as np

from mafsar.synthetic.actions.people import draw_sign
from mafsar.synthetic.actions.tabletop import Rng, draw_thing, hand_at, held
from mafsar.synthetic.motion import BASE, Motion, Sprite, path

_NEARER = 0.16  # how much lower in the picture a thing in front stands


def put_in_front(rng: Rng, p: np.ndarray) -> Motion:
    kind, size = draw_thing(rng, without=("bottle", "ball"))
    side, big = draw_sign(rng), float(rng.uniform(0.3, 0.38))
    at = float(rng.uniform(-0.15, 0.15))
    low = BASE - _NEARER + size
    x = path(p, (0, side * 1.0), (0.3, side * 0.7), (0.65, at), (1, at))
    y = path(p, (0, low), (0.35, low + 0.35), (0.6, low + 0.35), (0.85, low))
    hx = np.where(p > 0.85, path(p, (0.85, at), (1, side * 0.7)), x)
    box = Sprite("block", held(p, 0.0), held(p, BASE + big), big, colour=1, role=1)
    return Motion(
        sprites=[
            box,
            Sprite(kind, x, y, size, role=0, floor=held(p, BASE - _NEARER)),
            hand_at(hx, y + size + path(p, (0.85, 0), (1, 0.3)), (0.7 * side, 1.0)),
        ]
    )


def put_next_to(rng: Rng, p: np.ndarray) -> Motion:
    (kind, size), (other, wide) = draw_thing(rng, without=("ball",)), draw_thing(rng)
    side = draw_sign(rng)
    at, stay = side * 0.22, -side * 0.2
    x = path(p, (0, side * 1.2), (0.65, at), (1, at))
    y = BASE + size + path(p, (0, 0.5), (0.4, 0.42), (0.65, 0.3), (0.85, 0))
    hx = np.where(p > 0.85, path(p, (0.85, at), (1, side * 0.8)), x)
    return Motion(
        sprites=[
            Sprite(other, held(p, stay), held(p, BASE + wide), wide, colour=1, role=1),
            Sprite(kind, x, y, size, role=0),
            hand_at(hx, y + size + path(p, (0.85, 0), (1, 0.4)), (0.7 * side, 1.0)),
        ]
    )


def bring_into_view(rng: Rng, p: np.ndarray) -> Motion:
    kind, size = draw_thing(rng, without=("ball",))
    side = draw_sign(rng)
    x = path(p, (0, side * 1.6), (0.9, float(rng.uniform(-0.1, 0.1))))
    y = held(p, BASE + size)
    return Motion(
        sprites=[Sprite(kind, x, y, size, role=0), hand_at(x + side * (size + 0.1), y, (side, 0.3))]
    )


def move_nearer(rng: Rng, p: np.ndarray) -> Motion:
    kind, size = draw_thing(rng, without=("bottle", "ball"))
    side, x = draw_sign(rng), float(rng.uniform(-0.2, 0.2))
    grow = path(p, (0.1, 0.6), (0.9, float(rng.uniform(1.6, 1.9))))
    foot = path(p, (0.1, -0.12), (0.9, -0.78))
    y = foot + size * grow
    return Motion(
        sprites=[
            Sprite(kind, held(p, x), y, size, role=0, grow=grow, floor=foot),
            hand_at(x + side * size * grow, y + 0.5 * size * grow, (side, 0.25)),
        ]
    )


def fold_paper(rng: Rng, p: np.ndarray) -> Motion:
    size, side = float(rng.uniform(0.34, 0.44)), draw_sign(rng)
    angle = path(p, (0.15, 0), (0.85, 170))
    radians = np.radians(angle)
    y = BASE + 0.25
    hx, hy = side * size * np.cos(radians), y + 0.7 * size * np.sin(radians)
    paper = Sprite("paper", held(p, 0.0), held(p, y), side * size, angle, colour=0, role=0)
    return Motion(sprites=[paper, hand_at(hx, hy, (side, 0.8))])
