"""Where an action begins and ends by what moves: between the rests before and after it.

The alignment finds an action to within a few frames of a window. Where someone rests before and after
it, the pictures say more exactly when something moved. Rests are known by the floor, the lower quartile
of the last half minute; an action by the strongest of its steps. Where both are alike, because the
camera moves or nobody ever rests, the pictures say nothing, and the alignment's answer stays.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

RECENT = 30.0
"""Seconds from which the floor is taken."""
CONTRAST = 2.0
"""Times the floor: an action that moves less has no borders here."""
_FLOOR, _TOP = 0.25, 0.9  # quantiles of the steps: of the recent ones, and of those of an action
_LEAST = 0.5  # grey levels; the floor of a source without noise
_FEWEST = 8  # recent steps without which there is no floor
_KEPT = 1024


@dataclass(frozen=True)
class Step:
    """What moves from one frame to the next.

    Attributes:
        begin: When the first is shown, seconds.
        end: When the next one is.
        level: See `mafsar.video.motion.step_levels`.
    """

    begin: float
    end: float
    level: float


class Moves:
    """What moves in one region of one source.

    Attributes:
        steps: The newest steps.
    """

    def __init__(self) -> None:
        self.steps: deque[Step] = deque(maxlen=_KEPT)

    def take(self, steps: tuple[Step, ...]) -> None:
        """Takes in the steps of a window that follow those of the windows before it."""
        for step in steps:
            if step.end > step.begin and (
                not self.steps or step.begin >= self.steps[-1].end - 1e-3
            ):
                self.steps.append(step)

    def clear(self) -> None:
        """Forgets all of them."""
        self.steps.clear()

    def borders(self, first: float, last: float, since: float, until: float) -> tuple[float, float]:
        """The borders of the motion around a part of the source.

        A step is a part of it if it is above the geometric mean of the floor and the strongest steps
        of the part. One quiet step between two others does not interrupt it.

        Args:
            first: Where an action begins by the alignment, seconds.
            last: Where it ends.
            since: What it was seen in: a border is never before this,
            until: nor after this.

        Returns:
            First and last; the same as were given where nothing stands out.
        """
        if len(self.steps) < _FEWEST:
            return first, last
        begin, end, level = np.array(
            [(step.begin, step.end, step.level) for step in self.steps], np.float64
        ).T
        around = np.r_[0.0, level, 0.0]  # one strong step alone is a cut or a flash, no motion
        level = np.minimum(level, np.maximum(around[:-2], around[2:]))
        core = (end >= first) & (begin <= last)
        recent = end > end[-1] - RECENT
        if not core.any() or recent.sum() < _FEWEST:
            return first, last
        floor = max(float(np.quantile(level[recent], _FLOOR)), _LEAST)
        top = float(np.quantile(level[core], _TOP))
        if top < CONTRAST * floor:
            return first, last
        middle = (begin + end) / 2
        inside = (middle >= since) & (middle <= until)
        moving = np.flatnonzero((level >= np.sqrt(floor * top)) & inside)
        runs = np.split(moving, np.flatnonzero(np.diff(moving) > 2) + 1)
        run = max(runs, key=lambda each: (int(core[each].sum()), len(each)))
        if not core[run].any():
            return first, last
        return float(begin[run[0]]), float(end[run[-1]])
