"""Named colours, which captions use."""

from __future__ import annotations

import numpy as np

Colour = tuple[int, int, int]

NAMED: dict[str, Colour] = {
    "red": (200, 45, 45),
    "orange": (232, 135, 40),
    "yellow": (230, 208, 70),
    "green": (60, 150, 70),
    "blue": (50, 95, 190),
    "purple": (125, 70, 165),
    "pink": (230, 140, 170),
    "brown": (125, 82, 50),
    "black": (35, 35, 40),
    "grey": (128, 130, 132),
    "white": (232, 232, 228),
    "turquoise": (60, 180, 180),
}

SKINS: tuple[Colour, ...] = (
    (250, 219, 196),
    (236, 188, 150),
    (205, 150, 110),
    (160, 105, 70),
    (110, 72, 48),
    (75, 48, 35),
)

HAIRS: tuple[Colour, ...] = (
    (30, 24, 20),
    (80, 52, 32),
    (140, 95, 50),
    (215, 180, 110),
    (150, 150, 150),
    (150, 60, 30),
)


def pick(rng: np.random.Generator) -> tuple[str, Colour]:
    """Draw the name of a colour and a value near it."""
    names = list(NAMED)
    name = names[int(rng.integers(len(names)))]
    return name, jitter(NAMED[name], rng)


def jitter(colour: Colour, rng: np.random.Generator, spread: float = 18.0) -> Colour:
    """Shift a colour a little at random."""
    shifted = np.clip(np.asarray(colour) + rng.normal(0.0, spread, 3), 0, 255)
    return (int(shifted[0]), int(shifted[1]), int(shifted[2]))


def shade(colour: Colour, factor: float) -> Colour:
    """Darken (factor < 1) or lighten (factor > 1) a colour."""
    r, g, b = (min(255, int(channel * factor)) for channel in colour)
    return (r, g, b)


def brightness(colour: Colour | np.ndarray) -> float:
    """Return the perceived brightness of an RGB value, [0, 255]."""
    return float(np.dot(np.asarray(colour, float), [0.299, 0.587, 0.114]))


def name_of(mean: np.ndarray) -> str:
    """Return the named colour nearest to an RGB value."""
    names = list(NAMED)
    gaps = [float(np.sum((np.asarray(NAMED[n], float) - mean) ** 2)) for n in names]
    return names[int(np.argmin(gaps))]
