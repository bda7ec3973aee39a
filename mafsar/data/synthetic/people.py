"""Actions of one person: each function turns progress in [0, 1] into poses and props.

One-off actions go from their beginning at 0 to their end at 1; those that repeat go once round.
Reversed classes are these functions run backwards, so they are not written twice.
"""

from __future__ import annotations

import numpy as np

from mafsar.data.synthetic.body import field, pose
from mafsar.data.synthetic.motion import Motion, Prop, path, through

Rng = np.random.Generator
REST = pose()


def _side(rng: Rng) -> str:
    return "l" if rng.random() < 0.5 else "r"


def _sign(rng: Rng) -> float:
    return 1.0 if rng.random() < 0.5 else -1.0


def _arm(side: str, upper: float, upper_az: float, fore: float, fore_az: float) -> dict[str, float]:
    return {
        f"{side}_arm": upper,
        f"{side}_arm_az": upper_az,
        f"{side}_fore": fore,
        f"{side}_fore_az": fore_az,
    }


def _still(progress: np.ndarray, x: float, y: float, z: float) -> np.ndarray:
    return np.tile([x, y, z], (len(progress), 1))


def _wave_form(progress: np.ndarray) -> np.ndarray:
    return np.sin(2 * np.pi * progress)


def _gait(poses: np.ndarray, steps: np.ndarray, stride: float = 26.0) -> np.ndarray:
    """Add a walk to poses in place: legs swing, arms against them."""
    swing = np.sin(2 * np.pi * steps)
    lift = np.sin(2 * np.pi * steps + 0.9)
    field(poses, "l_hip")[:] += stride * swing
    field(poses, "r_hip")[:] -= stride * swing
    field(poses, "l_knee")[:] += 8 + 38 * np.maximum(0, lift)
    field(poses, "r_knee")[:] += 8 + 38 * np.maximum(0, -lift)
    return poses


def _swing_arms(poses: np.ndarray, steps: np.ndarray, amount: float = 24.0) -> np.ndarray:
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
    return Motion(through(p, (0, REST), (1, pose(**_arm(_side(rng), up, az, up + 4, az)))))


def open_arms(rng: Rng, p: np.ndarray) -> Motion:
    level = float(rng.uniform(78, 95))
    front = pose(b_arm=level, b_arm_az=95, b_fore=level, b_fore_az=98)
    wide = pose(b_arm=level, b_arm_az=5, b_fore=level, b_fore_az=5)
    return Motion(through(p, (0, front), (1, wide)))


def hand_to_head(rng: Rng, p: np.ndarray) -> Motion:
    return Motion(through(p, (0, REST), (1, pose(**_arm(_side(rng), 100, 25, 128, 165)))))


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
    return Motion(poses, [chair], view=_sign(rng) * 48)


def squat_down(rng: Rng, p: np.ndarray) -> Motion:
    low = pose(b_hip=112, b_knee=128, b_out=14, pitch=26, b_arm=70, b_arm_az=85, b_fore=75)
    return Motion(through(p, (0, REST), (1, low)), view=_sign(rng) * 35)


def bend_forward(rng: Rng, p: np.ndarray) -> Motion:
    deep = float(rng.uniform(75, 100))
    low = pose(pitch=deep, nod=10, b_arm=deep, b_arm_az=88, b_fore=deep, b_fore_az=88, b_hip=-6)
    return Motion(through(p, (0, REST), (1, low)), view=_sign(rng) * 52)


def kneel_down(rng: Rng, p: np.ndarray) -> Motion:
    front, back = ("l", "r") if rng.random() < 0.5 else ("r", "l")
    half = pose(**{f"{front}_hip": 85, f"{front}_knee": 85, f"{back}_knee": 88, "pitch": 12})
    return Motion(
        through(p, (0, REST), (0.5, half), (1, pose(b_knee=92, b_hip=2))), view=_sign(rng) * 50
    )


def lie_down(rng: Rng, p: np.ndarray) -> Motion:
    squat = pose(b_hip=105, b_knee=120, pitch=30, z=0.1)
    seated = pose(
        tip=-35, b_hip=85, b_knee=60, pitch=12, z=0.25, b_arm=-30, b_arm_az=88, b_fore=-20
    )
    flat = pose(tip=-88, z=0.45)
    poses = through(p, (0, REST), (0.35, squat), (0.65, seated), (1, flat))
    return Motion(poses, view=_sign(rng) * 75)


def walk_across(rng: Rng, p: np.ndarray) -> Motion:
    far = float(rng.uniform(0.42, 0.6))
    poses = through(p, (0, pose(turn=80, x=-far)), (1, pose(turn=80, x=far)))
    steps = p * 1.6 + rng.random()
    return Motion(_swing_arms(_gait(poses, steps), steps))


def enter(rng: Rng, p: np.ndarray) -> Motion:
    side = _sign(rng)
    poses = through(
        p, (0, pose(turn=-side * 75, x=side * 1.25)), (1, pose(turn=-side * 75, x=side * 0.05))
    )
    steps = p * 1.7 + rng.random()
    return Motion(_swing_arms(_gait(poses, steps), steps))


def come_closer(rng: Rng, p: np.ndarray) -> Motion:
    poses = through(p, (0, pose(z=-1.5)), (1, pose(z=0.9)))
    steps = p * 2 + rng.random()
    return Motion(_swing_arms(_gait(poses, steps), steps))


def turn_away(rng: Rng, p: np.ndarray) -> Motion:
    return Motion(through(p, (0, REST), (1, pose(turn=_sign(rng) * 175))))


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
    return Motion(poses, [thing], view=_sign(rng) * 50)


def lift_overhead(rng: Rng, p: np.ndarray) -> Motion:
    low = pose(b_arm=14, b_arm_az=85, b_fore=80, b_fore_az=96)
    mid = pose(b_arm=75, b_arm_az=80, b_fore=150, b_fore_az=90)
    high = pose(b_arm=168, b_arm_az=80, b_fore=176, b_fore_az=90)
    kind = "box" if rng.random() < 0.5 else "ball"
    poses = through(p, (0, low), (0.5, mid), (1, high))
    thing = Prop(kind, _still(p, 0, 0, 0), 0.11, held=np.ones(len(p)))
    return Motion(poses, [thing], view=_sign(rng) * 25)


def throw_ball(rng: Rng, p: np.ndarray) -> Motion:
    back = pose(**_arm("r", 130, 130, 170, 120), turn=10, l_hip=15)
    let_go = pose(**_arm("r", 110, 88, 110, 88), pitch=12, l_hip=25, l_knee=15)
    after = pose(**_arm("r", 45, 88, 50, 88), pitch=20, l_hip=25, l_knee=15)
    poses = through(p, (0, back), (0.45, let_go), (1, after))
    z = path(p, (0.45, 0.4), (1, 1.4))
    y = path(p, (0.45, 0.88), (0.7, 0.97), (1, 0.75))
    at = np.stack([np.full(len(p), -0.13), y, z], axis=1)
    ball = Prop("ball", at, 0.065, held=path(p, (0.44, 1), (0.46, 0)), hands="right")
    return Motion(poses, [ball], view=_sign(rng) * 68)


def put_on_hat(rng: Rng, p: np.ndarray) -> Motion:
    low = pose(b_arm=15, b_arm_az=80, b_fore=75, b_fore_az=98)
    high = pose(b_arm=100, b_arm_az=45, b_fore=150, b_fore_az=135)
    poses = through(p, (0, low), (0.6, high), (0.72, high), (1, REST))
    hat = Prop("hat", _still(p, 0, 1.01, 0.02), 0.085, held=path(p, (0.4, 1), (0.6, 0)))
    return Motion(poses, [hat], view=_sign(rng) * 20)


def wave_hand(rng: Rng, p: np.ndarray) -> Motion:
    side = _side(rng)
    poses = through(p, (0, pose(**_arm(side, 100, 10, 180, 0))))
    field(poses, f"{side}_fore")[:] += float(rng.uniform(28, 42)) * _wave_form(p)
    return Motion(poses)


def wave_both_arms(rng: Rng, p: np.ndarray) -> Motion:
    poses = through(p, (0, pose(b_arm=172, b_arm_az=3, b_fore=176, b_fore_az=3)))
    sway = float(rng.uniform(24, 36)) * _wave_form(p)
    for side, sign in (("l", 1.0), ("r", -1.0)):
        field(poses, f"{side}_arm")[:] += sign * sway
        field(poses, f"{side}_fore")[:] += sign * sway
    field(poses, "roll")[:] += 0.25 * sway
    return Motion(poses)


def clap(rng: Rng, p: np.ndarray) -> Motion:
    high = float(rng.uniform(50, 75))
    poses = through(p, (0, pose(b_arm=high, b_arm_az=65, b_fore=high + 25, b_fore_az=120)))
    for side in "lr":
        field(poses, f"{side}_fore_az")[:] += 42 * np.cos(2 * np.pi * p)
    return Motion(poses)


def jump(rng: Rng, p: np.ndarray) -> Motion:
    bent = pose(b_hip=48, b_knee=70, pitch=18, b_arm=-20, b_arm_az=88, b_fore=-10, b_fore_az=88)
    air = pose(up=float(rng.uniform(0.18, 0.28)), b_arm=120, b_arm_az=70, b_fore=125)
    return Motion(through(p, (0, bent), (0.25, REST), (0.5, air), (0.75, REST), (1, bent)))


def star_jumps(rng: Rng, p: np.ndarray) -> Motion:
    wide = pose(b_arm=float(rng.uniform(150, 170)), b_arm_az=4, b_fore=168, b_fore_az=4, b_out=28)
    poses = through(p, (0, REST), (0.5, wide), (1, REST))
    field(poses, "up")[:] = 0.07 * np.abs(_wave_form(p))
    return Motion(poses)


def march(rng: Rng, p: np.ndarray) -> Motion:
    high = float(rng.uniform(75, 95))
    poses = through(p, (0, REST))
    swing = _wave_form(p)
    for side, sign in (("l", 1.0), ("r", -1.0)):
        field(poses, f"{side}_hip")[:] = high * np.maximum(0, sign * swing)
        field(poses, f"{side}_knee")[:] = high * np.maximum(0, sign * swing)
    return Motion(_swing_arms(poses, p, 30), view=_sign(rng) * 20)


def run_in_place(rng: Rng, p: np.ndarray) -> Motion:
    poses = through(p, (0, pose(pitch=10)))
    swing = _wave_form(p)
    for side, sign in (("l", 1.0), ("r", -1.0)):
        field(poses, f"{side}_hip")[:] = 22 + 32 * sign * swing
        field(poses, f"{side}_knee")[:] = 60 - 42 * sign * swing
        field(poses, f"{side}_arm")[:] = -40 * sign * swing
        field(poses, f"{side}_arm_az")[:] = 88
        field(poses, f"{side}_fore")[:] = 85 - 30 * sign * swing
        field(poses, f"{side}_fore_az")[:] = 88
    field(poses, "up")[:] = 0.05 * np.abs(swing)
    return Motion(poses, view=_sign(rng) * 60)


def kick(rng: Rng, p: np.ndarray) -> Motion:
    side = _side(rng)
    back = pose(**{f"{side}_hip": -25, f"{side}_knee": 55})
    out = pose(**{f"{side}_hip": float(rng.uniform(65, 90)), f"{side}_knee": 5}, pitch=-10)
    poses = through(p, (0, REST), (0.3, back), (0.55, out), (1, REST))
    return Motion(poses, view=_sign(rng) * 55)


def punch(rng: Rng, p: np.ndarray) -> Motion:
    guard = _arm("l", 35, 80, 140, 100) | _arm("r", 35, 80, 140, 100) | {"l_hip": 14.0}
    ready = pose(**guard)
    left, right = (pose(**(guard | _arm(side, 88, 95, 88, 92))) for side in "lr")
    poses = through(p, (0, ready), (0.25, left), (0.5, ready), (0.75, right), (1, ready))
    return Motion(poses, view=_sign(rng) * 45)


def side_bend(rng: Rng, p: np.ndarray) -> Motion:
    poses = through(p, (0, pose(b_arm=170, b_arm_az=5, b_fore=176) if rng.random() < 0.5 else REST))
    field(poses, "roll")[:] = float(rng.uniform(28, 38)) * _wave_form(p)
    return Motion(poses)


def arm_circles(rng: Rng, p: np.ndarray) -> Motion:
    az = float(rng.choice([8.0, 80.0]))
    poses = through(p, (0, pose(b_arm_az=az, b_fore_az=az)))
    for name in ("l_arm", "r_arm", "l_fore", "r_fore"):
        field(poses, name)[:] = 360 * p
    return Motion(poses, view=0.0 if az < 40 else _sign(rng) * 40)


def twist(rng: Rng, p: np.ndarray) -> Motion:
    level = float(rng.uniform(60, 85))
    poses = through(p, (0, pose(b_arm=level, b_arm_az=8, b_fore=level + 5, b_fore_az=8)))
    field(poses, "twist")[:] = 62 * _wave_form(p)
    return Motion(poses)


def lunge(rng: Rng, p: np.ndarray) -> Motion:
    front, back = ("l", "r") if rng.random() < 0.5 else ("r", "l")
    low = {f"{front}_hip": 82, f"{front}_knee": 82, f"{back}_hip": -22, f"{back}_knee": 62}
    return Motion(through(p, (0, REST), (0.5, pose(**low)), (1, REST)), view=_sign(rng) * 65)


def flap_arms(rng: Rng, p: np.ndarray) -> Motion:
    poses = through(p, (0, pose(b_arm=72, b_arm_az=4, b_fore=66, b_fore_az=4)))
    beat = float(rng.uniform(30, 42)) * _wave_form(p)
    for name, part in (("l_arm", 1.0), ("r_arm", 1.0), ("l_fore", 1.2), ("r_fore", 1.2)):
        field(poses, name)[:] += part * beat
    return Motion(poses)
