"""The nuisance of a clip, what does not depend on its action: body, place, light, camera, tempo."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mafsar.synthetic.body import Build, draw_build, draw_posture
from mafsar.synthetic.painting.backgrounds import draw_kind

_NUISANCE_STREAM = 101


@dataclass(frozen=True)
class Film:
    """The effects of camera, light and compression on a picture.

    Attributes:
        gain: Factor on each channel.
        falloff: Slope of the light across and down the picture.
        gamma: Exponent of the tone curve; 1 leaves it.
        saturation: 0 is a grey clip, 1 keeps the painted colours.
        blur: Radius of defocus, fractions of the picture.
        noise: Standard deviation of the grain, grey levels.
        frozen: The grain is the same in every frame, as after compression.
        pixels: Side at which the picture is stored before it is enlarged, or None for its own.
        quality: JPEG quality at which it is stored, or None.
    """

    gain: tuple[float, float, float]
    falloff: tuple[float, float]
    gamma: float
    saturation: float
    blur: float
    noise: float
    frozen: bool
    pixels: int | None
    quality: int | None


@dataclass(frozen=True)
class Nuisance:
    """What is drawn for a clip from its seed alone, independently of the action.

    Attributes:
        yaw: Turn of the view around the person, degrees.
        tilt: How far the camera looks down, degrees.
        roll: Turn of the camera about its own axis, degrees.
        scale: A standing person's height as a fraction of the picture.
        perspective: How much nearer things grow, per body height.
        offset: Shift of the action from the middle, fractions of the picture.
        close: Half the width of a close view, in the units of `Sprite`.
        table: Height of the table's far edge in a close view, in the same units.
        reach: Turn of the arms in a close view, degrees, and how far they come from below.
        hand: Size of a hand in a close view, relative to the usual.
        posture: Habits of the person: float64 (2, len(FIELDS)), offsets of the angles and
            amplitudes of their slow sway, degrees.
        bystander: Another person stands in the background.
        start, end: Times at which the action begins and ends, fractions of the clip.
        ease: How much the action speeds up and slows down, [0, 1].
        rush: Exponent on its progress: below 1 it is early, above 1 late.
        cycles: Repetitions, for actions that repeat.
        phase: Fraction of a repetition at which the clip begins.
        shake: Camera positions, float64 (n, 2) control points, fractions of the picture.
        edge: Tone of the rims of painted volumes, relative to their middle.
        texture: Strength of the fine texture on people and things.
    """

    build: Build
    background: str
    yaw: float
    tilt: float
    roll: float
    scale: float
    perspective: float
    offset: tuple[float, float]
    close: float
    table: float
    reach: tuple[float, float]
    hand: float
    mirror: bool
    posture: np.ndarray
    bystander: bool
    start: float
    end: float
    ease: float
    rush: float
    cycles: float
    phase: float
    shake: np.ndarray
    light: tuple[float, float]
    edge: float
    texture: float
    film: Film


def draw_nuisance(seed: int) -> Nuisance:
    """Draw the nuisance of a clip."""
    rng = np.random.default_rng([_NUISANCE_STREAM, seed])
    angle = rng.uniform(-2.6, -0.5)
    scale = float(np.exp(rng.uniform(np.log(0.45), np.log(0.95))))
    # A standing person stays in the picture: head and feet bound the offset.
    highest, lowest = 0.5 * scale - 0.55, 0.49 - 0.5 * scale
    across = 0.14 * (1.3 - scale)
    yaw = float(np.clip(rng.normal(0, 24), -65, 65))
    return Nuisance(
        build=draw_build(rng),
        background=draw_kind(rng),
        yaw=yaw,
        tilt=float(rng.uniform(-6, 24)),
        roll=float(rng.normal(0, 2.0)),
        scale=scale,
        perspective=float(rng.uniform(0.16, 0.36)),
        offset=(
            float(rng.uniform(-across, across)),
            float(rng.uniform(max(-0.12, highest), min(0.12, lowest))),
        ),
        close=float(rng.uniform(0.8, 1.25)),
        table=float(rng.uniform(-0.28, 0.5)) if rng.random() < 0.65 else 9.0,
        reach=(float(rng.normal(0, 16)), float(rng.choice([0.0, 0.0, 0.35, 0.8]))),
        hand=float(rng.uniform(0.85, 1.35)),
        mirror=bool(rng.random() < 0.5),
        posture=draw_posture(rng),
        bystander=bool(rng.random() < 0.12),
        start=float(rng.uniform(0.0, 0.28)),
        end=float(rng.uniform(0.72, 1.0)),
        ease=float(rng.random()),
        rush=float(np.exp(rng.normal(0, 0.18))),
        cycles=float(rng.uniform(1.2, 3.2)),
        phase=float(rng.random()),
        shake=rng.normal(0, float(rng.choice([0.0, 0.0, 0.004, 0.012])), (6, 2)),
        light=(float(np.cos(angle)), float(np.sin(angle))),
        edge=float(rng.uniform(0.62, 0.98)),
        texture=float(rng.uniform(0.0, 0.16)),
        film=_draw_film(rng),
    )


def _draw_film(rng: np.random.Generator) -> Film:
    gain = np.clip(rng.uniform(0.7, 1.2) * rng.normal(1.0, 0.05, 3), 0.55, 1.35)
    coarse = bool(rng.random() < 0.45)
    quality = int(rng.integers(35 if coarse else 15, 91))
    return Film(
        gain=(float(gain[0]), float(gain[1]), float(gain[2])),
        falloff=(float(rng.uniform(-0.2, 0.2)), float(rng.uniform(-0.2, 0.2))),
        gamma=float(np.exp(rng.normal(0, 0.16))),
        saturation=0.0 if rng.random() < 0.3 else float(rng.uniform(0.25, 1.1)),
        # A picture that is stored small is blurred by that already.
        blur=float(rng.uniform(0.002, 0.008)) if rng.random() < 0.4 and not coarse else 0.0,
        noise=float(rng.choice([0.0, 1.5, 3.0, 6.0])),
        frozen=bool(rng.random() < 0.5),
        pixels=int(rng.integers(50, 97)) if coarse else None,
        quality=quality if rng.random() < 0.7 else None,
    )
