"""Actions of hands and things on a table, close up; see people.py for the conventions."""

from __future__ import annotations

import numpy as np

from mafsar.synthetic.motion import BASE, Motion, Sprite, path

Rng = np.random.Generator
THINGS = ("block", "can", "bottle", "fruit", "car", "ball", "cup")


def draw_thing(rng: Rng, *, without: tuple[str, ...] = ()) -> tuple[str, float]:
    kinds = [kind for kind in THINGS if kind not in without]
    return kinds[int(rng.integers(len(kinds)))], float(rng.uniform(0.15, 0.22))


def held(p: np.ndarray, value: float) -> np.ndarray:
    return np.full(len(p), value)


def hand_at(x: np.ndarray, y: np.ndarray, reach: tuple[float, float], role: int = 2) -> Sprite:
    return Sprite("hand", x, y, 0.14, role=role, reach=reach)


def push_across(rng: Rng, p: np.ndarray) -> Motion:
    kind, size = draw_thing(rng, without=("ball",))
    far = float(rng.uniform(0.4, 0.6))
    x = path(p, (0.15, -far), (0.9, far))
    hand = path(p, (0, -1.3), (0.15, -far - size - 0.1), (0.9, far - size - 0.1), (1, far - 0.5))
    y = held(p, BASE + size)
    return Motion(sprites=[Sprite(kind, x, y, size, role=0), hand_at(hand, y, (-1.0, -0.35))])


def roll_across(rng: Rng, p: np.ndarray) -> Motion:
    size = float(rng.uniform(0.15, 0.22))
    x = path(p, (0, -0.95), (1, 0.95))
    return Motion(
        sprites=[Sprite("ball", x, held(p, BASE + size), size, -np.degrees(x / size), role=0)]
    )


def lift_object(rng: Rng, p: np.ndarray) -> Motion:
    kind, size = draw_thing(rng)
    x = float(rng.uniform(-0.25, 0.25))
    high = float(rng.uniform(0.4, 0.6))
    y = path(p, (0.3, BASE + size), (1, high))
    hand = path(p, (0, 0.9), (0.3, BASE + 2 * size), (1, high + size))
    return Motion(
        sprites=[Sprite(kind, held(p, x), y, size, role=0), hand_at(held(p, x), hand, (0.5, 1.0))]
    )


def drop_object(rng: Rng, p: np.ndarray) -> Motion:
    kind, size = draw_thing(rng)
    x, high, floor = float(rng.uniform(-0.25, 0.25)), 0.6, BASE + size
    fall = np.clip((p - 0.35) / 0.25, 0, 1) ** 2
    hop = 0.22 * np.sin(np.pi * np.clip((p - 0.6) / 0.25, 0, 1))
    y = high + (floor - high) * fall + hop
    hand = path(p, (0, high + size), (0.4, high + size), (1, 1.0))
    return Motion(
        sprites=[Sprite(kind, held(p, x), y, size, role=0), hand_at(held(p, x), hand, (0.6, 1.0))]
    )


def cover_object(rng: Rng, p: np.ndarray) -> Motion:
    kind, size = draw_thing(rng, without=("bottle",))
    size *= 0.8
    x = float(rng.uniform(-0.25, 0.25))
    side = 1.0 if rng.random() < 0.5 else -1.0
    big = 1.75 * size
    cx = path(p, (0, x + side * 1.1), (0.5, x), (1, x))
    cy = path(p, (0, 0.25), (0.5, 0.3), (1, BASE + big))
    return Motion(
        sprites=[
            Sprite(kind, held(p, x), held(p, BASE + size), size, role=0),
            Sprite("cover", cx, cy, big, colour=1, role=1),
            hand_at(cx, cy + big, (0.6 * side, 1.0)),
        ]
    )


def put_in_box(rng: Rng, p: np.ndarray) -> Motion:
    kind, size = draw_thing(rng, without=("bottle",))
    size *= 0.85
    side = 1.0 if rng.random() < 0.5 else -1.0
    big = 0.34
    x = path(p, (0, side * 0.95), (0.4, 0), (1, 0))
    y = path(p, (0, BASE + size), (0.3, 0.45), (0.4, 0.45), (0.75, BASE + size + 0.05))
    hx = path(p, (0, side * 0.95), (0.4, 0), (0.75, 0), (1, side * 0.5))
    hy = path(p, (0, BASE + 2 * size), (0.3, 0.45 + size), (0.4, 0.45 + size), (0.75, BASE + 0.5))
    hy = np.where(p > 0.75, path(p, (0.75, BASE + 0.5), (1, 0.6)), hy)
    box = (held(p, 0.0), held(p, BASE + big * 0.8))
    return Motion(
        sprites=[
            Sprite("box_back", *box, big, colour=1),
            Sprite(kind, x, y, size, role=0),
            Sprite("box_front", *box, big, colour=1, role=1),
            hand_at(hx, hy, (0.8 * side, 1.0)),
        ]
    )


def put_on_box(rng: Rng, p: np.ndarray) -> Motion:
    kind, size = draw_thing(rng, without=("ball",))
    side = 1.0 if rng.random() < 0.5 else -1.0
    big, at = 0.28, -0.2 * side
    top = BASE + 2 * big
    x = path(p, (0, side * 0.8), (0.3, side * 0.7), (0.6, at), (1, at))
    y = path(
        p, (0, BASE + size), (0.35, top + size + 0.25), (0.55, top + size + 0.25), (0.8, top + size)
    )
    hx = path(p, (0, side * 0.8), (0.3, side * 0.7), (0.6, at), (0.8, at), (1, side * 0.5))
    hy = y + size + path(p, (0.8, 0), (1, 0.4))
    return Motion(
        sprites=[
            Sprite("block", held(p, at), held(p, BASE + big), big, colour=1, role=1),
            Sprite(kind, x, y, size, role=0),
            hand_at(hx, hy, (0.8 * side, 1.0)),
        ]
    )


def hide_behind(rng: Rng, p: np.ndarray) -> Motion:
    kind, size = draw_thing(rng, without=("bottle",))
    side = 1.0 if rng.random() < 0.5 else -1.0
    big, at = 0.32, -0.25 * side
    x = path(p, (0, side * 0.75), (0.15, side * 0.75), (0.85, at))
    y = held(p, BASE + size + 0.08)
    hx = np.where(p < 0.85, x + side * (size + 0.1), path(p, (0.85, at + 0.3 * side), (1, side)))
    return Motion(
        sprites=[
            Sprite(kind, x, y, size, role=0),
            hand_at(hx, y, (side, -0.2)),
            Sprite("block", held(p, at), held(p, BASE + big), big, colour=1, role=1),
        ]
    )


def tip_over(rng: Rng, p: np.ndarray) -> Motion:
    kind = "bottle" if rng.random() < 0.5 else "can"
    size = float(rng.uniform(0.16, 0.2))
    side = 1.0 if rng.random() < 0.5 else -1.0
    tall = 2.0 * size if kind == "bottle" else 1.3 * size
    lean = path(p, (0.3, 0), (0.75, 88))
    radians = np.radians(lean)
    # It turns about the foot on the side to which it falls.
    x = side * (size * 0.5 * (1 - np.cos(radians)) + tall * np.sin(radians)) * 0.9
    y = BASE + tall * np.cos(radians) + size * 0.6 * np.sin(radians)
    touch = np.minimum(p, 0.5)
    hx = path(touch, (0, -side * 1.1), (0.3, -side * (size + 0.05)), (0.5, -side * size * 0.2))
    hx = np.where(p > 0.5, path(p, (0.5, -side * size * 0.2), (1, -side * 1.0)), hx)
    return Motion(
        sprites=[
            Sprite(kind, x, y, size, -side * lean, role=0),
            hand_at(hx, held(p, BASE + 1.6 * tall), (-side, 0.1)),
        ]
    )


def bring_together(rng: Rng, p: np.ndarray) -> Motion:
    (a, size), (b, other) = draw_thing(rng, without=("ball",)), draw_thing(rng, without=("ball",))
    far = float(rng.uniform(0.5, 0.65))
    left, right = (
        path(p, (0.1, -far), (0.9, -size - 0.01)),
        path(p, (0.1, far), (0.9, other + 0.01)),
    )
    ya, yb = held(p, BASE + size), held(p, BASE + other)
    return Motion(
        sprites=[
            Sprite(a, left, ya, size, role=0),
            Sprite(b, right, yb, other, colour=1, role=1),
            hand_at(left - size - 0.08, ya, (-1.0, -0.5)),
            hand_at(right + other + 0.08, yb, (1.0, -0.5), role=3),
        ]
    )


def camera_approach(rng: Rng, p: np.ndarray) -> Motion:
    sprites = []
    for i, at in enumerate((0.0, float(rng.choice([-0.55, 0.55])))):
        kind, size = draw_thing(rng)
        size *= 1.0 if i == 0 else 0.8
        sprites.append(Sprite(kind, held(p, at), held(p, BASE + size), size, colour=i, role=i))
    return Motion(sprites=sprites, zoom=path(p, (0, 0.55), (1, 1.7)))


def open_lid(rng: Rng, p: np.ndarray) -> Motion:
    side = 1.0 if rng.random() < 0.5 else -1.0
    big = float(rng.uniform(0.34, 0.42))
    angle = path(p, (0.2, 0), (0.9, float(rng.uniform(95, 125))))
    top, radians = BASE + 1.3 * big, np.radians(angle)
    tip_x, tip_y = side * (-big + 2 * big * np.cos(radians)), top + 2 * big * np.sin(radians)
    hx = np.where(p < 0.2, path(p, (0, side * 1.2), (0.2, side * big)), tip_x)
    box = (held(p, 0.0), held(p, BASE + 0.65 * big))
    return Motion(
        sprites=[
            Sprite("chest", *box, side * big, angle, colour=1, role=1),
            hand_at(hx, tip_y, (side, 0.5)),
        ]
    )


def turn_round(rng: Rng, p: np.ndarray) -> Motion:
    first = float(rng.uniform(-60, 60))
    angle = first - path(p, (0, 0), (1, 150))
    long = float(rng.uniform(0.36, 0.46))
    x, y = held(p, 0.0), held(p, -0.1)
    hx, hy = long * np.cos(np.radians(angle)), -0.1 + long * np.sin(np.radians(angle))
    return Motion(
        sprites=[Sprite("pencil", x, y, long, angle, role=0), hand_at(hx, hy, (0.8, -1.0))]
    )


def bounce_ball(rng: Rng, p: np.ndarray) -> Motion:
    size, x = float(rng.uniform(0.13, 0.18)), float(rng.uniform(-0.3, 0.3))
    hop = np.abs(np.cos(np.pi * p))
    high = BASE + size + 0.8 * hop
    return Motion(
        sprites=[
            Sprite("ball", held(p, x), high, size, role=0),
            hand_at(held(p, x), 0.62 + 0.12 * hop, (0.9, 0.6)),
        ]
    )


def shake_object(rng: Rng, p: np.ndarray) -> Motion:
    kind, size = draw_thing(rng, without=("ball", "car"))
    sway = float(rng.uniform(0.2, 0.3)) * np.sin(2 * np.pi * p)
    y = held(p, float(rng.uniform(-0.1, 0.2)))
    return Motion(
        sprites=[
            Sprite(kind, sway, y, size, -60 * sway, role=0),
            hand_at(sway, y - 0.3 * size, (0.7, -1.0)),
        ]
    )


def wipe_table(rng: Rng, p: np.ndarray) -> Motion:
    x = float(rng.uniform(0.45, 0.6)) * np.sin(2 * np.pi * p)
    y = BASE + 0.1 + 0.08 * np.cos(4 * np.pi * p)
    return Motion(
        sprites=[Sprite("cloth", x, y, 0.24, colour=1, role=0), hand_at(x, y + 0.06, (0.4, 1.0))]
    )


def stir(rng: Rng, p: np.ndarray) -> Motion:
    big = float(rng.uniform(0.3, 0.38))
    x, y = 0.6 * big * np.cos(2 * np.pi * p), BASE + 2.2 * big + 0.1 * np.sin(2 * np.pi * p)
    side = 1.0 if rng.random() < 0.5 else -1.0
    return Motion(
        sprites=[
            Sprite("spoon", x, y, 0.3, 12 * np.cos(2 * np.pi * p), colour=1, role=0),
            Sprite("cup", held(p, 0.0), held(p, BASE + big), big, role=1),
            hand_at(x + 0.03, y + 0.3, (side, 0.6)),
        ]
    )


def swing(rng: Rng, p: np.ndarray) -> Motion:
    size, long = float(rng.uniform(0.15, 0.2)), float(rng.uniform(0.9, 1.1))
    angle = float(rng.uniform(30, 42)) * np.sin(2 * np.pi * p)
    x, y = long * np.sin(np.radians(angle)), 0.8 - long * np.cos(np.radians(angle))
    return Motion(sprites=[Sprite("pendulum", x, y, size, angle, role=0)])
