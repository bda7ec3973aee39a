"""Poses of a person, and the joints and volumes that follow from them.

A pose is a vector of angles (degrees) and displacements (body heights). Axes of the body: x to the
person's left, y up, z to where the person faces. A person of height 1 stands on y = 0: the feet, or
whatever is lowest, are put on the ground, so that sitting and kneeling lower the body.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mafsar.synthetic.palette import HAIRS, SKINS, Colour, jitter, pick, shade

FIELDS = (
    "x", "up", "z", "turn", "tip", "pitch", "roll", "twist", "nod",
    "l_arm", "l_arm_az", "l_fore", "l_fore_az",
    "r_arm", "r_arm_az", "r_fore", "r_fore_az",
    "l_hip", "l_out", "l_knee", "r_hip", "r_out", "r_knee",
)  # fmt: skip
_INDEX = {name: i for i, name in enumerate(FIELDS)}
_REST = {
    "l_arm": 9.0, "l_arm_az": 20.0, "l_fore": 14.0, "l_fore_az": 60.0,
    "r_arm": 9.0, "r_arm_az": 20.0, "r_fore": 14.0, "r_fore_az": 60.0,
    "l_out": 4.0, "r_out": 4.0,
}  # fmt: skip

# Spread of people's angles in the same action, degrees.
_SPREAD = {
    "turn": 4.0, "pitch": 2.5, "roll": 2.0, "twist": 3.0, "nod": 7.0, "arm": 5.0, "arm_az": 8.0,
    "fore": 7.0, "fore_az": 8.0, "hip": 2.0, "out": 3.0, "knee": 4.0,
}  # fmt: skip

JOINTS = (
    "pelvis", "chest", "head", "l_shoulder", "r_shoulder", "l_elbow", "r_elbow", "l_hand",
    "r_hand", "l_hipjoint", "r_hipjoint", "l_kneejoint", "r_kneejoint", "l_ankle", "r_ankle",
    "l_toe", "r_toe", "face",
)  # fmt: skip
J = {name: i for i, name in enumerate(JOINTS)}


def pose(**fields: float) -> np.ndarray:
    """Change a pose of standing at rest; a field that starts with ``b_`` sets both sides.

    Returns:
        float64 (len(FIELDS),).
    """
    vector = np.zeros(len(FIELDS))
    for name, value in _REST.items():
        vector[_INDEX[name]] = value
    for name, value in fields.items():
        for target in (f"l_{name[2:]}", f"r_{name[2:]}") if name.startswith("b_") else (name,):
            vector[_INDEX[target]] = value
    return vector


def field(poses: np.ndarray, name: str) -> np.ndarray:
    """Return a writable view of one field of poses (T, F)."""
    view: np.ndarray = poses[:, _INDEX[name]]
    return view


@dataclass(frozen=True)
class Build:
    """How a person looks, independently of the action.

    Attributes:
        girth: Thickness of limbs and trunk, relative.
        arm, leg, shoulders: Lengths and width, relative.
        head: Its radius, body heights.
        belly: Thickness of the trunk on top of girth, relative.
        hair: Colour of the hair, or of a cap.
        stripes: Colour of stripes on the shirt, or None.
        coat: How far the shirt covers the thighs, [0, 1].
        skirt: A skirt to the knees instead of trousers.
        pack: Colour of a bag on the back, or None.
    """

    girth: float
    arm: float
    leg: float
    shoulders: float
    head: float
    belly: float
    skin: Colour
    hair: Colour
    shirt: Colour
    trousers: Colour
    shoes: Colour
    shirt_name: str
    trousers_name: str
    long_sleeves: bool
    shorts: bool
    long_hair: bool
    stripes: Colour | None
    coat: float
    skirt: bool
    pack: Colour | None


def draw_build(rng: np.random.Generator) -> Build:
    """Draw a person's build and clothes."""
    shirt_name, shirt = pick(rng)
    trousers_name, trousers = pick(rng)
    child = bool(rng.random() < 0.12)
    hair = pick(rng)[1] if rng.random() < 0.15 else HAIRS[int(rng.integers(len(HAIRS)))]
    return Build(
        girth=float(rng.uniform(0.75, 1.4)),
        arm=float(rng.uniform(0.95, 1.14)),
        leg=float(rng.uniform(0.92, 1.08)) - (0.1 if child else 0.0),
        shoulders=float(rng.uniform(0.85, 1.18)),
        head=float(rng.uniform(0.062, 0.078)) + (0.012 if child else 0.0),
        belly=float(rng.choice([1.0, 1.0, 1.2, 1.4])),
        skin=jitter(SKINS[int(rng.integers(len(SKINS)))], rng, 8.0),
        hair=jitter(hair, rng, 8.0),
        shirt=shirt,
        trousers=trousers,
        shoes=shade(pick(rng)[1], 0.8),
        shirt_name=shirt_name,
        trousers_name=trousers_name,
        long_sleeves=bool(rng.random() < 0.5),
        shorts=bool(rng.random() < 0.3),
        long_hair=bool(rng.random() < 0.35),
        stripes=pick(rng)[1] if rng.random() < 0.25 else None,
        coat=float(rng.uniform(0.3, 0.8)) if rng.random() < 0.2 else 0.0,
        skirt=bool(rng.random() < 0.12),
        pack=pick(rng)[1] if rng.random() < 0.1 else None,
    )


def draw_posture(rng: np.random.Generator) -> np.ndarray:
    """Draw a person's habits: constant offsets of the angles, and amplitudes of a slow sway.

    Returns:
        float64 (2, len(FIELDS)): offsets and amplitudes, degrees; 0 for displacements.
    """
    spread = np.array(
        [_SPREAD.get(name.removeprefix("l_").removeprefix("r_"), 0) for name in FIELDS]
    )
    offsets = rng.normal(0, spread)
    for name in ("l_knee", "r_knee", "l_out", "r_out"):
        offsets[_INDEX[name]] = abs(offsets[_INDEX[name]])
    return np.stack([offsets, rng.uniform(0, 0.4, len(FIELDS)) * spread])


def sway(poses: np.ndarray, posture: np.ndarray, times: np.ndarray) -> None:
    """Add a person's offsets and slow sway to their poses, in place.

    Args:
        poses: float64 (T, F), see FIELDS.
        posture: As ``draw_posture`` gives it.
        times: float64 (T,), fractions of the clip.
    """
    offsets, amplitude = posture
    slow = np.sin(2 * np.pi * (times[:, None] * 0.8 + np.linspace(0, 3, len(FIELDS))))
    poses += offsets + amplitude * slow


def joints(poses: np.ndarray, build: Build) -> np.ndarray:
    """Place the joints of each pose.

    Args:
        poses: float64 (T, F), see FIELDS.
        build: The person; only proportions are used.

    Returns:
        float64 (T, J, 3) in body heights, the lowest point on y = 0 unless ``up`` lifts it.
    """
    value = {name: poses[:, i] for name, i in _INDEX.items()}
    out = np.zeros((len(poses), len(JOINTS), 3))
    thigh, shin = 0.25 * build.leg, 0.24 * build.leg
    torso = _about_z(-value["roll"]) @ _about_x(value["pitch"]) @ _about_y(value["twist"])
    top = np.einsum("tij,j->ti", torso, [0.0, 0.29, 0.0])
    out[:, J["chest"]] = top
    nodding = torso @ _about_x(value["nod"])
    out[:, J["head"]] = top + np.einsum("tij,j->ti", nodding, [0.0, 0.05 + build.head, 0.01])
    out[:, J["face"]] = out[:, J["head"]] + np.einsum("tij,j->ti", nodding, [0, 0, build.head])
    for side, sign in (("l", 1.0), ("r", -1.0)):
        shoulder = top + np.einsum("tij,j->ti", torso, [sign * 0.115 * build.shoulders, -0.02, 0.0])
        upper = _direction(value[f"{side}_arm"], value[f"{side}_arm_az"], sign)
        fore = _direction(value[f"{side}_fore"], value[f"{side}_fore_az"], sign)
        elbow = shoulder + 0.165 * build.arm * np.einsum("tij,tj->ti", torso, upper)
        out[:, J[f"{side}_shoulder"]] = shoulder
        out[:, J[f"{side}_elbow"]] = elbow
        out[:, J[f"{side}_hand"]] = elbow + 0.165 * build.arm * np.einsum("tij,tj->ti", torso, fore)
        hip = np.array([sign * 0.06, 0.0, 0.0])
        bend, spread = value[f"{side}_hip"], value[f"{side}_out"]
        knee = hip + thigh * _leg(bend, spread, sign)
        ankle = knee + shin * _leg(bend - value[f"{side}_knee"], spread, sign)
        out[:, J[f"{side}_hipjoint"]] = hip
        out[:, J[f"{side}_kneejoint"]] = knee
        out[:, J[f"{side}_ankle"]] = ankle
        out[:, J[f"{side}_toe"]] = ankle + np.array([sign * 0.015, -0.02, 0.07])
    out = np.einsum("tij,tnj->tni", _about_y(value["turn"]) @ _about_x(value["tip"]), out)
    out[:, :, 1] -= out[:, :, 1].min(axis=1, keepdims=True) - 0.025
    placed: np.ndarray = out + np.stack([value["x"], value["up"], value["z"]], axis=-1)[:, None]
    return placed


def _direction(elevation: np.ndarray, azimuth: np.ndarray, side: float) -> np.ndarray:
    e, a = np.radians(elevation), np.radians(azimuth)
    return np.stack([side * np.sin(e) * np.cos(a), -np.cos(e), np.sin(e) * np.sin(a)], axis=-1)


def _leg(bend: np.ndarray, spread: np.ndarray, side: float) -> np.ndarray:
    b, s = np.radians(bend), np.radians(spread)
    return np.stack([side * np.sin(s), -np.cos(b) * np.cos(s), np.sin(b) * np.cos(s)], axis=-1)


def _about_x(degrees: np.ndarray) -> np.ndarray:
    return _rotation(degrees, 1, 2)


def _about_y(degrees: np.ndarray) -> np.ndarray:
    return _rotation(degrees, 2, 0)


def _about_z(degrees: np.ndarray) -> np.ndarray:
    return _rotation(degrees, 0, 1)


def _rotation(degrees: np.ndarray, i: int, j: int) -> np.ndarray:
    angle = np.radians(degrees)
    matrix = np.tile(np.eye(3), (len(angle), 1, 1))
    matrix[:, i, i] = matrix[:, j, j] = np.cos(angle)
    matrix[:, i, j] = -np.sin(angle)
    matrix[:, j, i] = np.sin(angle)
    return matrix
