"""Motions without a name, without limit: a number draws the class, a clip's seed its variation.

A few dozen named classes teach a few-shot learner these classes; thousands of random ones teach it
to compare motions. Each either happens once, forwards or backwards, or repeats.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from mafsar.synthetic.actions.people import REST, Rng, draw_sign, swing_arms
from mafsar.synthetic.actions.tabletop import THINGS
from mafsar.synthetic.body import FIELDS, field
from mafsar.synthetic.motion import BASE, Motion, Prop, Sprite, path, through

_CLASS_STREAM = 107
# Ranges of the angles of a random pose, degrees.
_ARM = {"arm": (-20, 178), "arm_az": (0, 110), "fore": (-10, 180), "fore_az": (0, 170)}
_ANGLE_JITTER = 7.0  # degrees, variation of a clip's poses
_TIME_JITTER = 0.05  # fraction of the clip, variation of the times of the middle poses


def wild_motion(number: int, scene: str, rng: Rng, p: np.ndarray, *, cyclic: bool) -> Motion:
    """Move as class ``number`` does.

    Args:
        number: Number of the class; draws its poses, paths, things and view.
        scene: "person" or "table".
        rng: Draws the variation of the clip.
        p: float64 (T,) progress in [0, 1].
        cyclic: The motion ends where it begins.
    """
    own = np.random.default_rng([_CLASS_STREAM, number])
    if scene == "person":
        return _person(own, rng, p, cyclic=cyclic)
    return _table(own, rng, p, cyclic=cyclic)


def _person(own: Rng, rng: Rng, p: np.ndarray, *, cyclic: bool) -> Motion:
    base = _draw_pose(own, REST) if own.random() < 0.35 else REST
    keys = [base]
    for _ in range(int(own.integers(1, 4))):
        keys.append(_draw_pose(own, keys[-1] if own.random() < 0.4 else base))
    if cyclic:
        keys.append(base)
    times = np.linspace(0, 1, len(keys))
    times[1:-1] += own.uniform(-0.12, 0.12, len(keys) - 2)
    walk = own.random()
    goal = (own.uniform(-0.5, 0.5), own.uniform(-0.8, 0.6)) if walk < 0.2 else (0.0, 0.0)
    view = float(own.choice([0.0, 0.0, 35.0, 60.0, 80.0]))
    held = own.random() < 0.25
    kind, size, hands = str(own.choice(["box", "ball"])), own.uniform(0.06, 0.13), own.random()
    released = own.uniform(0.4, 0.7) if own.random() < 0.4 and not cyclic else None

    jitter = [_jitter(key, rng) for key in keys]
    if cyclic:
        jitter[-1] = jitter[0]
    times[1:-1] += rng.uniform(-_TIME_JITTER, _TIME_JITTER, len(keys) - 2)
    poses = through(p, *zip(np.sort(times).tolist(), jitter, strict=True))
    if walk < 0.2:
        field(poses, "x")[:] += goal[0] * (p - 0.5)
        field(poses, "z")[:] += goal[1] * (p - 0.5)
        if walk < 0.1:
            steps = 1.5 * p + rng.random()
            swing_arms(poses, steps)
            field(poses, "l_hip")[:] += 24 * np.sin(2 * np.pi * steps)
            field(poses, "r_hip")[:] -= 24 * np.sin(2 * np.pi * steps)
    props = []
    if held:
        size = float(size * rng.uniform(0.85, 1.15))
        # After it is released, the thing lies in front of the feet.
        at = np.tile([0.0, size, 0.3], (len(p), 1))
        grip = np.ones(len(p)) if released is None else path(p, (released, 1), (released + 0.15, 0))
        side = "right" if hands < 0.5 else "both"
        props.append(Prop(kind, at, size, held=grip, hands=side))  # type: ignore[arg-type]
    return Motion(poses, props, view=draw_sign(rng) * view)


def _draw_pose(own: Rng, start: np.ndarray) -> np.ndarray:
    """Change some parts of a pose."""
    target = start.copy()[None]
    arms, legs, trunk = own.random() < 0.8, own.random() < 0.4, own.random() < 0.35
    if not (arms or legs or trunk):
        arms = True
    if arms:
        alike, only = own.random() < 0.55, str(own.choice(["l", "r"]))
        for name, (low, high) in _ARM.items():
            values = own.uniform(low, high, 2)
            for side, value in zip("lr", values, strict=True):
                if alike:
                    field(target, f"{side}_{name}")[:] = values[0]
                elif side == only or own.random() < 0.3:
                    field(target, f"{side}_{name}")[:] = value
    if legs:
        _draw_legs(own, target)
    if trunk:
        field(target, "pitch")[:] = own.choice([own.uniform(15, 100), own.uniform(-20, 10)])
        field(target, "roll")[:] = own.uniform(-35, 35) * (own.random() < 0.5)
        field(target, "twist")[:] = own.uniform(-60, 60) * (own.random() < 0.4)
        field(target, "nod")[:] = own.uniform(-25, 35)
    if own.random() < 0.12:
        field(target, "turn")[:] += own.choice([-1, 1]) * own.uniform(60, 180)
    if own.random() < 0.1:
        field(target, "up")[:] = own.uniform(0.08, 0.28)
    return np.asarray(target[0])


def _draw_legs(own: Rng, target: np.ndarray) -> None:
    if own.random() < 0.5:  # both legs alike: squats and wide stances
        bend = own.uniform(0, 115)
        for side in "lr":
            field(target, f"{side}_hip")[:] = bend
            field(target, f"{side}_knee")[:] = bend * own.uniform(0.9, 1.2)
            field(target, f"{side}_out")[:] = own.uniform(2, 32)
        return
    side = str(own.choice(["l", "r"]))  # one leg: steps, kicks, kneeling
    field(target, f"{side}_hip")[:] = own.uniform(-30, 95)
    field(target, f"{side}_knee")[:] = own.uniform(0, 100)
    field(target, f"{side}_out")[:] = own.uniform(2, 45)


def _jitter(key: np.ndarray, rng: Rng) -> np.ndarray:
    moved = key.copy()
    angles = [i for i, name in enumerate(FIELDS) if name not in ("x", "up", "z", "tip")]
    moved[angles] += rng.normal(0, _ANGLE_JITTER, len(angles)) * (np.abs(key[angles]) > 1)
    return moved


def _table(own: Rng, rng: Rng, p: np.ndarray, *, cyclic: bool) -> Motion:
    """A hand and one or two things, along random paths."""
    count = int(own.integers(2, 5))
    stops = _draw_stops(own, count, cyclic=cyclic)
    times = np.linspace(0, 1, len(stops))
    times[1:-1] += own.uniform(-0.1, 0.1, len(stops) - 2)
    grip = str(own.choice(["top", "side", "none"], p=[0.5, 0.3, 0.2]))
    turns = own.uniform(-120, 120) if own.random() < 0.3 else 0.0
    second = str(own.choice(["none", "block", "thing", "mover", "curtain"]))
    other_at = (own.uniform(-0.55, 0.55), own.uniform(-0.55, 0.55))
    zoom = (own.uniform(0.65, 1.0), own.uniform(1.1, 1.6)) if own.random() < 0.12 else None
    arrives, leaves = own.random() < 0.4, own.random() < 0.4
    reach = (float(own.choice([-0.8, 0.0, 0.8])), float(own.choice([-1.0, 1.0, 1.0])))
    limits = (own.uniform(0, 1), own.uniform(0, 1))

    side = draw_sign(rng)  # mirrored at random: left and right do not matter for a random class
    size = float(rng.uniform(0.13, 0.22))
    times[1:-1] += rng.uniform(-_TIME_JITTER, _TIME_JITTER, len(stops) - 2)
    wobble = rng.normal(0, 0.035, (len(stops), 2))
    if cyclic:
        wobble[-1] = wobble[0]
    at = (np.asarray(stops) + wobble) * [side, 1.0]
    when = np.sort(times).tolist()
    x = path(p, *zip(when, at[:, 0].tolist(), strict=True))
    y = np.maximum(path(p, *zip(when, at[:, 1].tolist(), strict=True)), BASE + size)
    angle = side * turns * (np.sin(np.pi * p) if cyclic else p)
    kind = THINGS[int(rng.integers(len(THINGS)))]
    sprites = [Sprite(kind, x, y, size, angle, role=0)]
    big = float(rng.uniform(0.24, 0.34))
    ox, oy = side * other_at[0], other_at[1]
    still = np.zeros(len(p))
    if second == "mover":
        far = path(p, (0, ox), (1, oy)) if not cyclic else ox + 0.3 * np.sin(2 * np.pi * p)
        other = THINGS[int(rng.integers(len(THINGS)))]
        sprites.append(Sprite(other, far, still + BASE + size, size, colour=1, role=1))
    elif second == "thing":
        other = THINGS[int(rng.integers(len(THINGS)))]
        sprites.insert(0, Sprite(other, still + ox, still + BASE + size, size, colour=1, role=1))
    elif second in ("block", "curtain"):
        block = Sprite("block", still + ox, still + BASE + big, big, colour=1, role=1)
        sprites.insert(0 if second == "block" else len(sprites), block)
    if grip != "none":
        hx, hy = (x, y + size) if grip == "top" else (x + side * (size + 0.08), y)
        away = path(p, *_absence(arrives, leaves, limits))
        hx, hy = hx + side * 0.9 * away * reach[0], hy + 0.9 * away * max(reach[1], 0.3)
        hand = Sprite("hand", hx, hy, 0.14, role=2, reach=(side * (reach[0] or 0.6), reach[1]))
        sprites.insert(len(sprites) - (second == "curtain"), hand)
    return Motion(
        sprites=sprites, zoom=None if zoom is None else path(p, (0, zoom[0]), (1, zoom[1]))
    )


def _draw_stops(own: Rng, count: int, *, cyclic: bool) -> list[tuple[float, float]]:
    """Draw the path of the first thing: on the table, in the air, or out of the picture."""
    stops = []
    for index in range(count):
        high = own.uniform(-0.1, 0.6) if own.random() < 0.5 else BASE
        wide = 1.25 if index in (0, count - 1) and own.random() < 0.2 else 0.65
        stops.append((float(own.uniform(-wide, wide)), float(high)))
    if cyclic:
        stops.append(stops[0])
    return stops


def _absence(arrives: bool, leaves: bool, limits: tuple[float, float]) -> list[tuple[float, float]]:
    """Return when the hand is away from the thing: 1 far away, 0 holding it."""
    first, last = 0.15 + 0.2 * limits[0], 0.65 + 0.2 * limits[1]
    return [(0, float(arrives)), (first, 0), (last, 0), (1, float(leaves))]


def wild_function(number: int, scene: str, *, cyclic: bool) -> partial[Motion]:
    """Return the motion function of class ``number``, as the table of actions has them."""
    return partial(wild_motion, number, scene, cyclic=cyclic)
