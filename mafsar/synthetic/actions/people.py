"""Actions of one person: each function turns progress in [0, 1] into poses and props.

An action that happens once begins at 0 and ends at 1; a repeated one goes through one cycle.
Reversed classes run these functions backwards, so they are not written a second time.
"""

from __future__ import annotations

import numpy as np

from mafsar.synthetic.body import field, pose
from mafsar.synthetic.motion import Motion, Prop, path, through

Rng = np.random.Generator
REST = pose()


def draw_side(rng: Rng) -> str:
    return "l" if rng.random() < 0.5 else "r"


def draw_sign(rng: Rng) -> float:
    return 1.0 if rng.random() < 0.5 else -1.0


def one_arm(
    side: str, upper: float, upper_az: float, fore: float, fore_az: float
) -> dict[str, float]:
    return {
        f"{side}_arm": upper,
        f"{side}_arm_az": upper_az,
        f"{side}_fore": fore,
        f"{side}_fore_az": fore_az,
    }


def _still(progress: np.ndarray, x: float, y: float, z: float) -> np.ndarray:
    return np.tile([x, y, z], (len(progress), 1))


def _gait(poses: np.ndarray, steps: np.ndarray, stride: float = 26.0) -> np.ndarray:
    """Add the legs of a walk to poses, in place."""
    swing = np.sin(2 * np.pi * steps)
    lift = np.sin(2 * np.pi * steps + 0.9)
    field(poses, "l_hip")[:] += stride * swing
    field(poses, "r_hip")[:] -= stride * swing
    field(poses, "l_knee")[:] += 8 + 38 * np.maximum(0, lift)
    field(poses, "r_knee")[:] += 8 + 38 * np.maximum(0, -lift)
    return poses


def swing_arms(poses: np.ndarray, steps: np.ndarray, amount: float = 24.0) -> np.ndarray:
    swing = np.sin(2 * np.pi * steps)
    for side, sign in (("l", -1.0), ("r", 1.0)):
        field(poses, f"{side}_arm")[:] = sign * amount * swing
        field(poses, f"{side}_arm_az")[:] = 88
        field(poses, f"{side}_fore")[:] = sign * amount * swing + 18
        field(poses, f"{side}_fore_az")[:] = 88
    return poses


def raise_both_arms(rng: Rng, p: np.ndarray) -> Motion:
    az, up = float(rng.choice([5.0, 80.0])), float(rng.uniform(150, 176))
    top = pose(b_arm=up, b_arm_az=az, b_fore=up + 3, b_fore_az=az)
    return Motion(through(p, (0, REST), (1, top)))


def raise_one_arm(rng: Rng, p: np.ndarray) -> Motion:
    az, up = float(rng.choice([5.0, 80.0])), float(rng.uniform(145, 176))
    return Motion(through(p, (0, REST), (1, pose(**one_arm(draw_side(rng), up, az, up + 4, az)))))


def open_arms(rng: Rng, p: np.ndarray) -> Motion:
    level = float(rng.uniform(78, 95))
    front = pose(b_arm=level, b_arm_az=95, b_fore=level, b_fore_az=98)
    wide = pose(b_arm=level, b_arm_az=5, b_fore=level, b_fore_az=5)
    return Motion(through(p, (0, front), (1, wide)))


def hand_to_head(rng: Rng, p: np.ndarray) -> Motion:
    return Motion(through(p, (0, REST), (1, pose(**one_arm(draw_side(rng), 125, 15, 115, 172)))))


def hands_to_hips(rng: Rng, p: np.ndarray) -> Motion:
    out = float(rng.uniform(45, 55))
    return Motion(
        through(p, (0, REST), (1, pose(b_arm=out, b_arm_az=-8, b_fore=52, b_fore_az=172)))
    )


def sit_down(rng: Rng, p: np.ndarray) -> Motion:
    going = pose(b_hip=55, b_knee=60, pitch=42, z=-0.12, b_arm=40, b_arm_az=88, b_fore=60)
    seated = pose(b_hip=88, b_knee=86, pitch=4, z=-0.2, b_arm=25, b_arm_az=85, b_fore=70)
    chair = Prop("chair", _still(p, 0, 0.24, -0.2), 0.15)
    poses = through(p, (0, REST), (0.5, going), (1, seated))
    return Motion(poses, [chair], view=draw_sign(rng) * 48)


def squat_down(rng: Rng, p: np.ndarray) -> Motion:
    low = pose(b_hip=112, b_knee=128, b_out=14, pitch=26, b_arm=70, b_arm_az=85, b_fore=75)
    return Motion(through(p, (0, REST), (1, low)), view=draw_sign(rng) * 35)


def bend_forward(rng: Rng, p: np.ndarray) -> Motion:
    deep = float(rng.uniform(75, 100))
    low = pose(pitch=deep, nod=10, b_arm=deep, b_arm_az=88, b_fore=deep, b_fore_az=88, b_hip=-6)
    return Motion(through(p, (0, REST), (1, low)), view=draw_sign(rng) * 52)


def kneel_down(rng: Rng, p: np.ndarray) -> Motion:
    front, back = ("l", "r") if rng.random() < 0.5 else ("r", "l")
    half = pose(**{f"{front}_hip": 85, f"{front}_knee": 85, f"{back}_knee": 88, "pitch": 12})
    return Motion(
        through(p, (0, REST), (0.5, half), (1, pose(b_knee=92, b_hip=2))), view=draw_sign(rng) * 50
    )


def lie_down(rng: Rng, p: np.ndarray) -> Motion:
    squat = pose(b_hip=105, b_knee=120, pitch=30, z=0.1)
    seated = pose(
        tip=-35, b_hip=85, b_knee=60, pitch=12, z=0.25, b_arm=-30, b_arm_az=88, b_fore=-20
    )
    flat = pose(tip=-88, z=0.45)
    poses = through(p, (0, REST), (0.35, squat), (0.65, seated), (1, flat))
    return Motion(poses, view=draw_sign(rng) * 75)


def walk_across(rng: Rng, p: np.ndarray) -> Motion:
    far = float(rng.uniform(0.42, 0.6))
    poses = through(p, (0, pose(turn=80, x=-far)), (1, pose(turn=80, x=far)))
    steps = p * 1.6 + rng.random()
    return Motion(swing_arms(_gait(poses, steps), steps))


def enter(rng: Rng, p: np.ndarray) -> Motion:
    side = draw_sign(rng)
    poses = through(
        p, (0, pose(turn=-side * 75, x=side * 1.25)), (1, pose(turn=-side * 75, x=side * 0.05))
    )
    steps = p * 1.7 + rng.random()
    return Motion(swing_arms(_gait(poses, steps), steps))


def come_closer(rng: Rng, p: np.ndarray) -> Motion:
    poses = through(p, (0, pose(z=-1.5)), (1, pose(z=0.9)))
    steps = p * 2 + rng.random()
    return Motion(swing_arms(_gait(poses, steps), steps))


def turn_away(rng: Rng, p: np.ndarray) -> Motion:
    return Motion(through(p, (0, REST), (1, pose(turn=draw_sign(rng) * 175))))


def push_box(rng: Rng, p: np.ndarray) -> Motion:
    lean = {
        "turn": 85.0,
        "pitch": 28.0,
        "b_arm": 48.0,
        "b_arm_az": 88.0,
        "b_fore": 58.0,
        "b_fore_az": 88.0,
    }
    poses = through(p, (0, pose(x=-0.62, **lean)), (1, pose(x=0.12, **lean)))
    poses = _gait(poses, p * 1.5 + rng.random(), 20)
    size = float(rng.uniform(0.13, 0.18))
    at = np.stack([field(poses, "x") + 0.36 + size, np.full(len(p), size), 0 * p], axis=1)
    return Motion(poses, [Prop("box", at, size)])


def pick_up_object(rng: Rng, p: np.ndarray) -> Motion:
    reach = pose(b_hip=62, b_knee=70, pitch=68, b_arm=62, b_arm_az=88, b_fore=66, b_fore_az=95)
    hold = pose(b_arm=18, b_arm_az=85, b_fore=84, b_fore_az=96)
    poses = through(p, (0, REST), (0.45, reach), (0.55, reach), (1, hold))
    kind = "box" if rng.random() < 0.5 else "ball"
    thing = Prop(kind, _still(p, 0, 0.09, 0.3), 0.09, held=path(p, (0.5, 0), (0.6, 1)))
    return Motion(poses, [thing], view=draw_sign(rng) * 50)


def lift_overhead(rng: Rng, p: np.ndarray) -> Motion:
    low = pose(b_arm=14, b_arm_az=85, b_fore=80, b_fore_az=96)
    mid = pose(b_arm=75, b_arm_az=80, b_fore=150, b_fore_az=90)
    high = pose(b_arm=168, b_arm_az=80, b_fore=176, b_fore_az=90)
    kind = "box" if rng.random() < 0.5 else "ball"
    poses = through(p, (0, low), (0.5, mid), (1, high))
    thing = Prop(kind, _still(p, 0, 0, 0), 0.11, held=np.ones(len(p)))
    return Motion(poses, [thing], view=draw_sign(rng) * 25)


def throw_ball(rng: Rng, p: np.ndarray) -> Motion:
    back = pose(**one_arm("r", 130, 130, 170, 120), turn=10, l_hip=15)
    let_go = pose(**one_arm("r", 110, 88, 110, 88), pitch=12, l_hip=25, l_knee=15)
    after = pose(**one_arm("r", 45, 88, 50, 88), pitch=20, l_hip=25, l_knee=15)
    poses = through(p, (0, back), (0.45, let_go), (1, after))
    z = path(p, (0.45, 0.4), (1, 1.4))
    y = path(p, (0.45, 0.88), (0.7, 0.97), (1, 0.75))
    at = np.stack([np.full(len(p), -0.13), y, z], axis=1)
    ball = Prop("ball", at, 0.065, held=path(p, (0.44, 1), (0.46, 0)), hands="right")
    return Motion(poses, [ball], view=draw_sign(rng) * 68)


def put_on_hat(rng: Rng, p: np.ndarray) -> Motion:
    low = pose(b_arm=15, b_arm_az=80, b_fore=75, b_fore_az=98)
    high = pose(b_arm=100, b_arm_az=45, b_fore=150, b_fore_az=135)
    poses = through(p, (0, low), (0.6, high), (0.72, high), (1, REST))
    hat = Prop("hat", _still(p, 0, 1.01, 0.02), 0.085, held=path(p, (0.4, 1), (0.6, 0)))
    return Motion(poses, [hat], view=draw_sign(rng) * 20)


def raise_leg(rng: Rng, p: np.ndarray) -> Motion:
    side = draw_side(rng)
    if rng.random() < 0.5:  # to the side, seen from the front
        top = pose(**{f"{side}_out": float(rng.uniform(55, 75))}, b_arm=30)
        return Motion(through(p, (0, REST), (1, top)))
    top = pose(**{f"{side}_hip": float(rng.uniform(70, 95)), f"{side}_knee": 5}, pitch=-4)
    return Motion(through(p, (0, REST), (1, top)), view=draw_sign(rng) * 65)


def cross_arms(rng: Rng, p: np.ndarray) -> Motion:
    level = float(rng.uniform(40, 55))
    folded = pose(b_arm=level, b_arm_az=70, b_fore=88, b_fore_az=158)
    return Motion(through(p, (0, REST), (1, folded)))


def reach_forward(rng: Rng, p: np.ndarray) -> Motion:
    level = float(rng.uniform(80, 95))
    close = pose(b_arm=25, b_arm_az=-60, b_fore=125, b_fore_az=95)
    out = pose(b_arm=level, b_arm_az=92, b_fore=level, b_fore_az=92)
    return Motion(through(p, (0, close), (1, out)), view=draw_sign(rng) * 60)


def drink(rng: Rng, p: np.ndarray) -> Motion:
    low = pose(**one_arm("r", 18, 80, 78, 96))
    high = pose(**one_arm("r", 95, 72, 122, 165), nod=-8)
    cup = Prop("cup", _still(p, 0, 0, 0), 0.045, held=np.ones(len(p)), hands="right")
    return Motion(through(p, (0, low), (1, high)), [cup], view=draw_sign(rng) * 25)


def curl_up(rng: Rng, p: np.ndarray) -> Motion:
    tall = pose(b_arm=172, b_arm_az=10, b_fore=176, b_fore_az=10, b_out=14)
    small = pose(b_hip=118, b_knee=140, pitch=62, nod=35, b_arm=75, b_arm_az=85, b_fore=60)
    return Motion(through(p, (0, tall), (0.35, REST), (1, small)), view=draw_sign(rng) * 45)


def step_forward(rng: Rng, p: np.ndarray) -> Motion:
    lead, other = ("l", "r") if rng.random() < 0.5 else ("r", "l")
    far = float(rng.uniform(0.3, 0.4))
    stride = {f"{lead}_hip": 34, f"{lead}_knee": 12, f"{other}_hip": -26, f"{other}_knee": 14}
    poses = through(
        p, (0, pose(z=-far / 2)), (0.5, pose(**stride, z=0)), (1, pose(z=far / 2))
    )  # fmt: skip
    return Motion(poses, view=draw_sign(rng) * 75)


def run_across(rng: Rng, p: np.ndarray) -> Motion:
    far = float(rng.uniform(0.6, 0.85))
    lean = {"turn": 82.0, "pitch": 14.0, "b_fore": 95.0, "b_fore_az": 88.0}
    poses = through(p, (0, pose(x=-far, **lean)), (1, pose(x=far, **lean)))
    steps = p * 2.2 + rng.random()
    poses = _gait(poses, steps, 44)
    swing = np.sin(2 * np.pi * steps)
    for side, sign in (("l", -1.0), ("r", 1.0)):
        field(poses, f"{side}_arm")[:] = 42 * sign * swing
        field(poses, f"{side}_arm_az")[:] = 88
        field(poses, f"{side}_knee")[:] += 22
        field(poses, f"{side}_fore")[:] += 30 * sign * swing
    field(poses, "up")[:] = 0.05 * np.abs(np.sin(2 * np.pi * steps))
    return Motion(poses)


def hop_across(rng: Rng, p: np.ndarray) -> Motion:
    far = float(rng.uniform(0.45, 0.65))
    poses = through(p, (0, pose(turn=78, x=-far)), (1, pose(turn=78, x=far)))
    hops = np.abs(np.sin(np.pi * p * float(rng.choice([2, 3]))))
    field(poses, "up")[:] = 0.17 * hops
    for side in "lr":
        field(poses, f"{side}_hip")[:] = 45 * (1 - hops) + 12
        field(poses, f"{side}_knee")[:] = 62 * (1 - hops) + 18
        field(poses, f"{side}_arm")[:] = 70 * hops
        field(poses, f"{side}_arm_az")[:] = 88
    return Motion(poses)


def sidestep_across(rng: Rng, p: np.ndarray) -> Motion:
    far = float(rng.uniform(0.35, 0.5))
    poses = through(p, (0, pose(x=-far, b_arm=20)), (1, pose(x=far, b_arm=20)))
    apart = 22 * np.abs(np.sin(np.pi * p * 3))
    for side in "lr":
        field(poses, f"{side}_out")[:] = 4 + apart
    field(poses, "up")[:] = 0.02 * np.abs(np.sin(np.pi * p * 6))
    return Motion(poses)
