"""How much the features of a clip change from frame to frame, beside what is usual in a class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mafsar.runtime.encoder import Float32


def usual_change(clips: Float32) -> float:
    """The median over clips, (n, T, E), of the mean distance from each frame to the next."""
    return float(np.median(_mean_steps(clips)))


def change_share(frames: Float32, usual: float) -> NDArray[np.float64]:
    """What changes in clips as a share of what is usual, (n,); infinite where nothing usually does.

    Args:
        frames: Raw features, (n, T, E).
        usual: See `usual_change`.
    """
    steps = _mean_steps(frames)
    return steps / usual if usual > 0 else np.full(len(steps), np.inf)


def _mean_steps(frames: Float32) -> NDArray[np.float64]:
    if frames.shape[1] < 2:
        return np.zeros(len(frames))
    steps = np.linalg.norm(np.diff(frames, axis=1), axis=-1)
    return np.asarray(steps.mean(axis=1), np.float64)
