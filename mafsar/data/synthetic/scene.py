"""Everything about a clip that does not depend on its action: body, place, light, camera, tempo."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from mafsar.data.synthetic.body import Build, draw_build
from mafsar.data.synthetic.palette import Colour, name_of, pick, shade

_NUISANCE_STREAM, _PICTURE_STREAM, _SCENE_STREAM = 101, 102, 106
KINDS = ("plain", "gradient", "stripes", "checks", "cloudy", "clutter", "room", "blurred")


@dataclass(frozen=True)
class Nuisance:
    """What is drawn for a clip from its seed alone, whatever the action.

    Attributes:
        yaw: Turn of the view around the person, degrees.
        tilt: How far the camera looks down, degrees.
        roll: Turn of the camera about its own axis, degrees.
        scale: A standing person's height as a fraction of the picture.
        offset: Where the action sits, fractions of the picture from its usual place.
        start, end: When the action begins and ends, fractions of the clip.
        cycles: Repetitions, for actions that repeat.
        phase: Where in a repetition the clip begins, fraction.
        shake: Camera positions, float64 (n, 2) control points, fractions of the picture.
    """

    build: Build
    background: str
    yaw: float
    tilt: float
    roll: float
    scale: float
    offset: tuple[float, float]
    mirror: bool
    start: float
    end: float
    cycles: float
    phase: float
    shake: np.ndarray
    light: tuple[float, float]
    gain: tuple[float, float, float]
    falloff: tuple[float, float]
    noise: float
    coarse: float


def draw_nuisance(seed: int) -> Nuisance:
    """Draw the nuisance of a clip."""
    rng = np.random.default_rng([_NUISANCE_STREAM, seed])
    angle = rng.uniform(-2.6, -0.5)
    brightness = rng.uniform(0.6, 1.2)
    tint = rng.normal(1.0, 0.05, 3)
    gain = np.clip(brightness * tint, 0.5, 1.35)
    return Nuisance(
        build=draw_build(rng),
        background=KINDS[int(rng.integers(len(KINDS)))],
        yaw=float(rng.uniform(-30, 30)),
        tilt=float(rng.uniform(0, 16)),
        roll=float(rng.normal(0, 2.0)),
        scale=float(rng.uniform(0.5, 0.76)),
        offset=(float(rng.uniform(-0.1, 0.1)), float(rng.uniform(-0.05, 0.05))),
        mirror=bool(rng.random() < 0.5),
        start=float(rng.uniform(0.0, 0.2)),
        end=float(rng.uniform(0.8, 1.0)),
        cycles=float(rng.uniform(1.7, 3.0)),
        phase=float(rng.random()),
        shake=rng.normal(0, float(rng.choice([0.0, 0.004, 0.012])), (6, 2)),
        light=(float(np.cos(angle)), float(np.sin(angle))),
        gain=(float(gain[0]), float(gain[1]), float(gain[2])),
        falloff=(float(rng.uniform(-0.25, 0.25)), float(rng.uniform(-0.25, 0.25))),
        noise=float(rng.choice([0.0, 2.0, 4.0, 8.0])),
        coarse=float(rng.choice([1.0, 1.0, 1.0, 0.6, 0.45])),
    )


def paint_background(kind: str, seed: int, size: int) -> tuple[np.ndarray, str]:
    """Paint a background of one of KINDS.

    Returns:
        uint8 (size, size, 3) RGB, and a few words for it.
    """
    rng = np.random.default_rng([_PICTURE_STREAM, seed])
    first_name, first = pick(rng)
    _, second = pick(rng)
    words = {
        "plain": f"a plain {first_name} wall",
        "gradient": f"a {first_name} wall",
        "stripes": f"a striped {first_name} wall",
        "checks": f"a checked {first_name} wall",
        "cloudy": "clouds",
        "clutter": "a cluttered place",
        "room": f"a room with a {first_name} wall",
        "blurred": "a blurred place",
    }[kind]
    if kind == "plain":
        picture = np.empty((size, size, 3), np.float32)
        picture[:] = first
    elif kind == "gradient":
        ramp = np.linspace(0, 1, size, dtype=np.float32)
        weight = (ramp[:, None] * rng.random() + ramp[None] * rng.random())[..., None]
        picture = (1 - weight) * np.asarray(first, np.float32) + weight * np.asarray(
            second, np.float32
        )
    elif kind in ("stripes", "checks"):
        picture = _pattern(kind, first, second, rng, size)
    elif kind in ("cloudy", "blurred"):
        picture = _cloudy(first, second, rng, size, octaves=5 if kind == "cloudy" else 3)
    else:
        picture = _furnished(kind == "room", first, second, rng, size)
    if kind not in ("room", "clutter") and rng.random() < 0.5:
        floor = int(size * rng.uniform(0.6, 0.85))
        picture[floor:] = picture[floor:] * rng.uniform(0.55, 0.85)
    # Real places are paler than named colours; things in front of them need not be.
    grey = picture.mean(axis=-1, keepdims=True)
    picture = grey + rng.uniform(0.25, 1.0) * (picture - grey)
    picture = np.clip(picture + rng.normal(0, 3, (size, size, 1)), 0, 255)
    if kind in ("cloudy", "clutter", "blurred"):
        words = f"{words} mostly {name_of(picture.mean(axis=(0, 1)))}"
    return picture.astype(np.uint8), words


def _pattern(
    kind: str, first: Colour, second: Colour, rng: np.random.Generator, size: int
) -> np.ndarray:
    angle = rng.uniform(0, np.pi)
    period = size * rng.uniform(0.07, 0.25)
    ys, xs = np.mgrid[:size, :size].astype(np.float32)
    across = np.sin((xs * np.cos(angle) + ys * np.sin(angle)) * 2 * np.pi / period)
    if kind == "checks":
        across = across * np.sin((ys * np.cos(angle) - xs * np.sin(angle)) * 2 * np.pi / period)
    weight = np.clip(across * 4 + 0.5, 0, 1)[..., None] * rng.uniform(0.3, 1.0)
    picture: np.ndarray = (1 - weight) * np.asarray(first, np.float32) + weight * np.asarray(
        second, np.float32
    )
    return picture


def _cloudy(
    first: Colour, second: Colour, rng: np.random.Generator, size: int, octaves: int
) -> np.ndarray:
    """Sum smooth noise of several scales, as in photographs of nature."""
    weight = np.zeros((size, size), np.float32)
    tint = np.zeros((size, size, 3), np.float32)
    for octave in range(octaves):
        cells = 3 * 2**octave
        small = rng.normal(0, 1, (cells, cells)).astype(np.float32)
        grown = Image.fromarray(small).resize((size, size), Image.Resampling.BICUBIC)
        weight += np.asarray(grown) * 0.62**octave
    for channel in range(3):
        small = rng.normal(0, 25, (4, 4)).astype(np.float32)
        grown = Image.fromarray(small).resize((size, size), Image.Resampling.BICUBIC)
        tint[..., channel] = np.asarray(grown)
    weight = np.clip(0.5 + 0.35 * weight, 0, 1)[..., None]
    picture: np.ndarray = (
        (1 - weight) * np.asarray(first, np.float32)
        + weight * np.asarray(second, np.float32)
        + tint
    )
    return picture


def _furnished(
    room: bool, first: Colour, second: Colour, rng: np.random.Generator, size: int
) -> np.ndarray:
    """Paint a room with pictures and furniture, or a heap of shapes."""
    image = Image.new("RGB", (size, size), first)
    draw = ImageDraw.Draw(image)
    if room:
        floor = int(size * rng.uniform(0.6, 0.85))
        draw.rectangle((0, floor, size, size), fill=shade(second, 0.7))
        draw.line((0, floor, size, floor), fill=shade(first, 0.5), width=2)
    for _ in range(int(rng.integers(3, 7)) if room else int(rng.integers(12, 30))):
        colour = shade(pick(rng)[1], float(rng.uniform(0.6, 1.1)))
        x, y = rng.uniform(-0.1, 1.0, 2) * size
        w, h = rng.uniform(0.06, 0.35, 2) * size
        if room and rng.random() < 0.5:
            y = floor - h
        box = (x, y, x + w, y + h)
        if rng.random() < (0.85 if room else 0.5):
            draw.rectangle(box, fill=colour, outline=shade(colour, 0.6))
        else:
            draw.ellipse(box, fill=colour)
    return np.asarray(image, dtype=np.float32)


def paint_scene_clip(seed: int, take: int, *, frames: int = 8, size: int = 112) -> np.ndarray:
    """Paint one take of a place where shapes drift about and nothing in particular happens.

    Takes of the same seed show the same place and shapes, from another window and at other times:
    they are alike in appearance only.

    Returns:
        uint8 (frames, size, size, 3).
    """
    place = np.random.default_rng([_SCENE_STREAM, seed])
    own = np.random.default_rng([_SCENE_STREAM, seed, take + 1])
    wide = size * 3 // 2
    picture, _ = paint_background(KINDS[int(place.integers(len(KINDS)))], seed, wide)
    shapes = [
        (pick(place)[1], place.uniform(0.04, 0.16), place.uniform(0.1, 0.9, 2), place.random())
        for _ in range(int(place.integers(1, 7)))
    ]
    window = own.uniform(0.68, 0.9)
    start, stop = own.uniform(0, 1 - window, (2, 2))
    stop = start + 0.3 * (stop - start)
    gain = own.uniform(0.85, 1.15) * (1 + own.normal(0, 0.03, 3))
    phase = own.uniform(0, 2 * np.pi, len(shapes))
    clip = np.empty((frames, size, size, 3), np.uint8)
    for t in range(frames):
        image = Image.fromarray(picture)
        draw = ImageDraw.Draw(image)
        for (colour, radius, centre, round_one), angle in zip(shapes, phase, strict=True):
            turn = angle + 2 * np.pi * t / frames
            x, y = (centre + 0.12 * np.array([np.cos(turn), np.sin(turn)])) * wide
            box = (x - radius * wide, y - radius * wide, x + radius * wide, y + radius * wide)
            (draw.ellipse if round_one < 0.6 else draw.rectangle)(box, fill=colour)
        corner = (start + (stop - start) * t / max(1, frames - 1)) * wide
        box = (corner[0], corner[1], corner[0] + window * wide, corner[1] + window * wide)
        seen = image.resize((size, size), Image.Resampling.BILINEAR, box=box)
        clip[t] = np.clip(np.asarray(seen) * gain + own.normal(0, 3, (size, size, 1)), 0, 255)
    return clip
