"""Learning rate schedules."""

from __future__ import annotations

import math


def cosine_schedule(step: int, steps: int, warm_up: int) -> float:
    """Factor on the learning rate: a linear warm-up, then half a cosine down to 0.

    Args:
        step: Steps done, from 0.
        steps: Steps of the whole run.
        warm_up: Steps of the warm-up.

    Returns:
        In [0, 1].
    """
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm_up) / max(1, steps - warm_up))))
