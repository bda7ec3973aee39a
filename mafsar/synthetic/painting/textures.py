"""Fine texture of surfaces: random fields, the same on every machine, cut and bent to size.

Photographs have energy at every scale, falling with frequency; flat paint does not. Everything that
is painted is multiplied by such a field.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image

_FIELD_STREAM = 107
_SIDE = 512
KINDS = ("cloud", "cloth", "grain", "boards", "bricks", "leaves")


@lru_cache(maxsize=len(KINDS))
def field(kind: str) -> np.ndarray:
    """Return a field that repeats seamlessly, float32 (512, 512), mean 0, deviation 1, in ±2.5."""
    rng = np.random.default_rng([_FIELD_STREAM, KINDS.index(kind)])
    painted = {
        "cloud": lambda: _noise(rng, 1.6),
        "cloth": lambda: _noise(rng, 1.15),
        "grain": lambda: _noise(rng, 0.35),
        "boards": lambda: _boards(rng),
        "bricks": lambda: _bricks(rng),
        "leaves": lambda: _leaves(rng),
    }[kind]()
    painted = (painted - painted.mean()) / painted.std()
    return np.asarray(np.clip(painted, -2.5, 2.5), np.float32)


def cut(kind: str, rng: np.random.Generator, size: int, *, grow: float = 1.0) -> np.ndarray:
    """Cut a piece out of a field, transposed or mirrored at random.

    Args:
        kind: One of KINDS.
        rng: Draws the position.
        size: Side of the piece, pixels.
        grow: Factor on the size of its structure, relative to pictures of 112 pixels.

    Returns:
        float32 (size, size).
    """
    side = int(np.clip(112 / grow, 16, _SIDE))
    x, y = (int(at) for at in rng.integers(0, _SIDE, 2))
    piece = roll_window(field(kind), x, y, side)
    if rng.random() < 0.5:
        piece = piece[:, ::-1]
    if kind not in ("boards", "bricks") and rng.random() < 0.5:
        piece = piece.T
    grown = Image.fromarray(np.ascontiguousarray(piece)).resize(
        (size, size), Image.Resampling.BILINEAR
    )
    return np.asarray(grown)


def lay_down(surface: np.ndarray, width: int, height: int) -> np.ndarray:
    """Bend a square surface, (n, n) or (n, n, 3), into ground that goes away from the viewer."""
    if surface.ndim == 3:
        layers = [lay_down(surface[..., c], width, height) for c in range(3)]
        return np.stack(layers, axis=-1)
    side = surface.shape[0]
    near = side * 0.28
    corners = (0, 0, side / 2 - near, side, side / 2 + near, side, side, 0)
    image = Image.fromarray(np.ascontiguousarray(surface, np.float32))
    bent = image.transform(
        (width, height), Image.Transform.QUAD, corners, Image.Resampling.BILINEAR
    )
    return np.asarray(bent)


def roll_window(surface: np.ndarray, x: int, y: int, side: int) -> np.ndarray:
    """Return the (side, side) window at (x, y) of a surface that repeats."""
    height, width = surface.shape
    rows, columns = (y + np.arange(side)) % height, (x + np.arange(side)) % width
    return np.asarray(surface[rows[:, None], columns[None]])


def _noise(rng: np.random.Generator, slope: float) -> np.ndarray:
    """Draw noise whose amplitude falls with frequency to this power."""
    frequency = np.hypot(np.fft.fftfreq(_SIDE)[:, None], np.fft.rfftfreq(_SIDE)[None])
    frequency[0, 0] = 1.0
    amplitude = frequency**-slope
    amplitude[0, 0] = 0.0
    phase = rng.uniform(0, 2 * np.pi, amplitude.shape)
    return np.asarray(np.fft.irfft2(amplitude * np.exp(1j * phase), (_SIDE, _SIDE)))


def _boards(rng: np.random.Generator) -> np.ndarray:
    """Paint planks: a tone each, grain along them, dark joints."""
    grain = np.repeat(_noise(rng, 0.9)[:, ::16], 16, axis=1)
    smooth = np.fft.irfft2(
        np.fft.rfft2(grain) * np.exp(-((np.fft.rfftfreq(_SIDE)[None] * 60) ** 2)), grain.shape
    )
    tone = np.repeat(rng.normal(0, 1, 8), _SIDE // 8)[:, None]
    joint = (np.arange(_SIDE) % (_SIDE // 8) < 3)[:, None]
    return np.asarray(smooth / smooth.std() + 0.8 * tone - 3.0 * joint)


def _bricks(rng: np.random.Generator) -> np.ndarray:
    high, wide = _SIDE // 32, _SIDE // 12
    rows, columns = np.arange(_SIDE)[:, None] // high, np.arange(_SIDE)[None]
    along = columns + (rows % 2) * (wide // 2)
    tone = rng.normal(0, 1, (33, 14))[rows % 33, (along // wide) % 12]
    joint = (np.arange(_SIDE)[:, None] % high < 2) | (along % wide < 2)
    rough = _noise(rng, 0.8)
    return np.asarray(0.7 * tone + 0.5 * rough / rough.std() + 2.2 * joint)


def _leaves(rng: np.random.Generator) -> np.ndarray:
    """Heap discs of all sizes on one another: the edges and scales of natural scenes."""
    heap = np.zeros((_SIDE, _SIDE))
    for _ in range(700):
        radius = 4.0 / np.sqrt(rng.uniform(0.004, 1.0))
        x, y = rng.uniform(0, _SIDE, 2)
        reach = np.arange(-int(radius) - 1, int(radius) + 2)
        columns, rows = int(x) + reach, int(y) + reach
        inside = (columns - x)[None] ** 2 + (rows - y)[:, None] ** 2 < radius * radius
        window = np.ix_(rows % _SIDE, columns % _SIDE)
        heap[window] = np.where(inside, rng.normal(), heap[window])
    rough = _noise(rng, 1.0)
    return np.asarray(heap + 0.3 * rough / rough.std())
