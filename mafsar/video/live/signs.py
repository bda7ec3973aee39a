"""Signs that a camera shows nothing: a dark picture, and one that does not change at all."""

from __future__ import annotations

from typing import Literal

import numpy as np

Sign = Literal["dark", "frozen"]

DARK_LEVEL = 12.0
"""A picture is dark where 99 of 100 values are below this grey level, 0–255."""
DARK_SECONDS = 2.0
"""How long it has to be dark."""
FROZEN_SECONDS = 10.0
"""How long no value may change: sensors are never without noise."""
_STRIDE = 4  # of the pixels that are looked at


class Signs:
    """Watches one source for darkness and standstill."""

    def __init__(self) -> None:
        self._before: np.ndarray | None = None
        self._lit = self._changed = self._began = -np.inf

    def see(self, seconds: float, picture: np.ndarray) -> Sign | None:
        """Looks at the next picture.

        Args:
            seconds: Its time, rising.
            picture: RGB, (H, W, 3), uint8, of one size.

        Returns:
            What the source has been showing long enough, or None.
        """
        seen = picture[::_STRIDE, ::_STRIDE]
        if self._before is None:
            self._lit = self._changed = self._began = seconds
        if is_lit(seen):
            self._lit = seconds
        before, self._before = self._before, seen
        if before is None or before.shape != seen.shape or (before != seen).any():
            self._changed = seconds
        if seconds - self._lit >= DARK_SECONDS:
            return "dark"
        return "frozen" if seconds - self._changed >= FROZEN_SECONDS else None


def is_lit(picture: np.ndarray) -> bool:
    """Whether more than one value of a hundred is above the darkest levels."""
    return bool(np.count_nonzero(picture >= DARK_LEVEL) * 100 > picture.size)
