"""Which moments of a clip are sampled: pure functions of numbers.

Frames are taken by time, not by count, so variable frame rates need no special case: the clip is
divided into T equal segments, one moment is chosen in each, and the frame shown at that moment is
taken.
"""

from __future__ import annotations

import numpy as np

from mafsar.errors import InputError

CLOCK_TOLERANCE_SECONDS = 1e-6
"""A frame that starts this little after a moment counts as shown then: covers float rounding."""


def segment_times(
    duration: float, frames: int, rng: np.random.Generator | None = None
) -> np.ndarray:
    """Returns one moment in each of T equal segments ``[i, i+1)·duration/T``.

    Args:
        duration: Length of the clip in seconds, ≥ 0.
        frames: T, ≥ 1.
        rng: Draws a random moment in each segment; None takes the middle.

    Returns:
        Seconds from the first timestamp, (T,), float64, ascending.

    Raises:
        InputError: ``frames`` < 1, or ``duration`` is negative or not finite.
    """
    if frames < 1:
        raise InputError(f"frames must be at least 1, got {frames}")
    if not (np.isfinite(duration) and duration >= 0):
        raise InputError(f"duration must be finite and at least 0 seconds, got {duration}")
    within = np.full(frames, 0.5) if rng is None else rng.random(frames)
    return (np.arange(frames) + within) * duration / frames


def frames_shown(timestamps: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Returns the index of the frame that is shown at each moment.

    That is the last frame whose timestamp is ≤ t; before the first frame it is the first.

    Args:
        timestamps: Seconds, ascending, (N,), N ≥ 1.
        times: Seconds on the same clock, any shape.

    Returns:
        Indices in [0, N), the shape of ``times``, int64.

    Raises:
        InputError: There is no timestamp.
    """
    if len(timestamps) == 0:
        raise InputError("timestamps must contain at least one frame, got none")
    moments = np.asarray(times, dtype=np.float64) + CLOCK_TOLERANCE_SECONDS
    return np.maximum(np.searchsorted(timestamps, moments, side="right") - 1, 0)
