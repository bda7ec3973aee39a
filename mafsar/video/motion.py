"""Whether anything moves in a clip, from its pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CELLS = 14  # a side of the grid in which brightness is compared
STILL_LEVELS = 3.0
"""A clip in which no cell of the picture changes by more grey levels (0–255) than this is still."""

_NOISE_SHARE = 6.0  # the largest of a few hundred ranges of noise, in its standard deviations
_MOST_NOISE = 20.0  # grey levels; what flickers more than a camera's sensor is not still
_STEP_SIDE, _STEP_BLOCKS = 80, 10  # pixels of a side at least, and blocks along it


def motion_levels(pixels: np.ndarray) -> float:
    """How much the brightest change in a clip exceeds its noise, grey levels (0–255).

    The picture is divided into 14 × 14 cells. Of each cell's mean brightness the range over the
    frames counts, less what the noise of single pixels explains. A change of the whole picture's
    brightness is not motion.

    Args:
        pixels: uint8 RGB, (T, S, S, 3).

    Returns:
        At least 0; 0 for one frame.
    """
    frames, side = pixels.shape[:2]
    if frames < 2:
        return 0.0
    red, green, blue = np.moveaxis(pixels, -1, 0).astype(np.uint16)
    sums = red + green + blue
    grey = (sums - _medians(sums)[:, None, None]) / np.float32(3)
    steps = np.abs(np.diff(grey[:, ::2, ::2], axis=0))  # a quarter of the pixels says the noise
    # Pixels that do not move are the quieter ones: the lower quartile of |x − y| of equal normal
    # noise is 0.4506 standard deviations (0.3186 · √2).
    noise = float(np.quantile(steps, 0.25)) / 0.4506
    cell = max(1, side // CELLS)
    kept = side // cell * cell
    means = _block_means(grey[:, :kept, :kept], kept // cell)
    largest = float(np.ptp(means, axis=0).max())
    return float(max(0.0, largest - _NOISE_SHARE * min(noise, _MOST_NOISE) / cell))


def _medians(sums: NDArray[np.uint16]) -> NDArray[np.float32]:
    """The median of each picture's whole numbers below 766, (T, S, S): a count is faster than a sort."""
    found = np.empty(len(sums), np.float32)
    for k, picture in enumerate(sums):
        upto = np.bincount(picture.ravel(), minlength=766).cumsum()
        low, high = np.searchsorted(upto, ((picture.size + 1) // 2, picture.size // 2 + 1))
        found[k] = (low + high) / 2
    return found


def is_still(levels: float) -> bool:
    """Whether a clip with this `motion_levels` is still; a negative number is unknown."""
    return 0.0 <= levels <= STILL_LEVELS


def step_levels(frames: Sequence[np.ndarray]) -> NDArray[np.float64]:
    """How much moves from each frame to the next, grey levels (0–255), (T − 1,).

    The root mean square difference in the one of 10 × 10 blocks that differs most. Pixels are averaged
    in pairs or more first, which takes away half of a camera's noise or more.

    Args:
        frames: uint8 RGB, (S, S, 3) each, all of one size.
    """
    if len(frames) < 2:
        return np.zeros(0)
    factor = max(1, frames[0].shape[0] // _STEP_SIDE)
    small = np.stack(
        [
            np.asarray(Image.fromarray(frame).convert("L").reduce(factor), np.float32)
            for frame in frames
        ]
    )
    side = small.shape[1]
    block = max(1, side // _STEP_BLOCKS)
    count = side // block
    kept = count * block
    means = _block_means(np.diff(small, axis=0)[:, :kept, :kept] ** 2, count)
    return np.asarray(np.sqrt(means.reshape(len(means), -1).max(axis=1)), np.float64)


def _block_means(values: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Means of count × count blocks of squares (T, S, S), S a multiple: rows first, which are contiguous."""
    frames, side = values.shape[:2]
    rows = values.reshape(frames, count, side // count, side).mean(axis=2)
    return np.asarray(rows.reshape(frames, count, count, side // count).mean(axis=3), np.float32)
