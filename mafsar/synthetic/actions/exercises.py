"""Repeated actions of one person: progress in [0, 1] is one cycle; see people.py."""

from __future__ import annotations

import numpy as np

from mafsar.synthetic.actions.people import REST, Rng, draw_side, draw_sign, one_arm, swing_arms
from mafsar.synthetic.body import field, pose
from mafsar.synthetic.motion import Motion, through


def _wave_form(progress: np.ndarray) -> np.ndarray:
    return np.sin(2 * np.pi * progress)


def wave_hand(rng: Rng, p: np.ndarray) -> Motion:
    side = draw_side(rng)
    poses = through(p, (0, pose(**one_arm(side, 100, 10, 180, 0))))
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
    return Motion(swing_arms(poses, p, 30), view=draw_sign(rng) * 20)


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
    return Motion(poses, view=draw_sign(rng) * 60)


def kick(rng: Rng, p: np.ndarray) -> Motion:
    side = draw_side(rng)
    back = pose(**{f"{side}_hip": -25, f"{side}_knee": 55})
    out = pose(**{f"{side}_hip": float(rng.uniform(65, 90)), f"{side}_knee": 5}, pitch=-10)
    poses = through(p, (0, REST), (0.3, back), (0.55, out), (1, REST))
    return Motion(poses, view=draw_sign(rng) * 55)


def punch(rng: Rng, p: np.ndarray) -> Motion:
    guard = one_arm("l", 35, 80, 140, 100) | one_arm("r", 35, 80, 140, 100) | {"l_hip": 14.0}
    ready = pose(**guard)
    left, right = (pose(**(guard | one_arm(side, 88, 95, 88, 92))) for side in "lr")
    poses = through(p, (0, ready), (0.25, left), (0.5, ready), (0.75, right), (1, ready))
    return Motion(poses, view=draw_sign(rng) * 45)


def side_bend(rng: Rng, p: np.ndarray) -> Motion:
    poses = through(p, (0, pose(b_arm=170, b_arm_az=5, b_fore=176) if rng.random() < 0.5 else REST))
    field(poses, "roll")[:] = float(rng.uniform(28, 38)) * _wave_form(p)
    return Motion(poses)


def arm_circles(rng: Rng, p: np.ndarray) -> Motion:
    az = float(rng.choice([8.0, 80.0]))
    poses = through(p, (0, pose(b_arm_az=az, b_fore_az=az)))
    for name in ("l_arm", "r_arm", "l_fore", "r_fore"):
        field(poses, name)[:] = 360 * p
    return Motion(poses, view=0.0 if az < 40 else draw_sign(rng) * 40)


def twist(rng: Rng, p: np.ndarray) -> Motion:
    level = float(rng.uniform(60, 85))
    poses = through(p, (0, pose(b_arm=level, b_arm_az=8, b_fore=level + 5, b_fore_az=8)))
    field(poses, "twist")[:] = 62 * _wave_form(p)
    return Motion(poses)


def lunge(rng: Rng, p: np.ndarray) -> Motion:
    front, back = ("l", "r") if rng.random() < 0.5 else ("r", "l")
    low = {f"{front}_hip": 82, f"{front}_knee": 82, f"{back}_hip": -22, f"{back}_knee": 62}
    return Motion(through(p, (0, REST), (0.5, pose(**low)), (1, REST)), view=draw_sign(rng) * 65)


def flap_arms(rng: Rng, p: np.ndarray) -> Motion:
    poses = through(p, (0, pose(b_arm=72, b_arm_az=4, b_fore=66, b_fore_az=4)))
    beat = float(rng.uniform(30, 42)) * _wave_form(p)
    for name, part in (("l_arm", 1.0), ("r_arm", 1.0), ("l_fore", 1.2), ("r_fore", 1.2)):
        field(poses, name)[:] += part * beat
    return Motion(poses)


def squats(rng: Rng, p: np.ndarray) -> Motion:
    deep = float(rng.uniform(95, 115))
    low = pose(b_hip=deep, b_knee=deep + 14, b_out=12, pitch=24, b_arm=86, b_arm_az=88, b_fore=88)
    return Motion(through(p, (0, REST), (0.5, low), (1, REST)), view=draw_sign(rng) * 40)


def toe_touches(rng: Rng, p: np.ndarray) -> Motion:
    high = pose(b_arm=172, b_arm_az=50, b_fore=176, b_fore_az=50)
    deep = float(rng.uniform(85, 105))
    low = pose(pitch=deep, nod=10, b_arm=deep, b_arm_az=88, b_fore=deep, b_fore_az=88, b_hip=-6)
    return Motion(through(p, (0, high), (0.5, low), (1, high)), view=draw_sign(rng) * 55)


def hop_on_one_leg(rng: Rng, p: np.ndarray) -> Motion:
    side = draw_side(rng)
    up = {f"{side}_hip": 30, f"{side}_knee": 95}
    poses = through(p, (0, pose(**up, b_arm=45, b_fore=40)))
    field(poses, "up")[:] = float(rng.uniform(0.09, 0.14)) * np.abs(_wave_form(p / 2))
    return Motion(poses, view=draw_sign(rng) * 35)


def clap_overhead(rng: Rng, p: np.ndarray) -> Motion:
    wide = float(rng.uniform(118, 132))
    apart = pose(b_arm=wide, b_arm_az=4, b_fore=wide + 20, b_fore_az=4)
    together = pose(b_arm=168, b_arm_az=4, b_fore=196, b_fore_az=4)
    return Motion(through(p, (0, apart), (0.5, together), (1, apart)))


def swing_both_arms(rng: Rng, p: np.ndarray) -> Motion:
    poses = through(p, (0, pose(b_arm_az=88, b_fore_az=88)))
    beat = float(rng.uniform(60, 85)) * _wave_form(p)
    for name in ("l_arm", "r_arm", "l_fore", "r_fore"):
        field(poses, name)[:] = 12 + beat
    for side in "lr":
        field(poses, f"{side}_knee")[:] = 18 + 10 * np.cos(4 * np.pi * p)
        field(poses, f"{side}_hip")[:] = 9 + 5 * np.cos(4 * np.pi * p)
    return Motion(poses, view=draw_sign(rng) * 62)
