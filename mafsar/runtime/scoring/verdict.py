"""What leave-one-out says of a support against chance: counts, an interval, and a kind."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mafsar.runtime.scoring.leave_one_out import LeftOut

_Z95 = 1.959964  # of the normal distribution, two-sided


@dataclass(frozen=True)
class Verdict:
    """How many left-out clips are right, against chance.

    Attributes:
        right: Left-out clips that the others name rightly.
        judged: Clips that could be judged: those of classes with two clips or more.
        chance: What naming every clip after the largest class gets, 0–1. With equal classes this
            is one over their number.
    """

    right: int
    judged: int
    chance: float

    @classmethod
    def of(cls, left_out: LeftOut) -> Verdict:
        """The verdict on answers by leave-one-out."""
        counts = np.bincount(left_out.class_index)
        return cls(
            int(left_out.right[left_out.judged].sum()),
            int(left_out.judged.sum()),
            float(counts.max() / counts.sum()),
        )

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the accuracy, 0–1."""
        return wilson(self.right, self.judged)

    @property
    def kind(self) -> Literal["unjudged", "few", "chance", "apart"]:
        """What can be said.

        "unjudged": no clip could be judged. "few": even if all were right, chance would be within
        the interval. "chance": the accuracy is not above chance, beyond its interval. "apart": it
        is.
        """
        if self.judged == 0 or self.chance == 1.0:
            return "unjudged"
        if wilson(self.judged, self.judged)[0] <= self.chance:
            return "few"
        return "chance" if self.interval[0] <= self.chance else "apart"


def wilson(right: int, judged: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a share (Wilson 1927); 0 to 1 where nothing was judged."""
    if judged == 0:
        return 0.0, 1.0
    share, z2 = right / judged, _Z95**2
    middle = (share + z2 / (2 * judged)) / (1 + z2 / judged)
    spread = math.sqrt(share * (1 - share) / judged + z2 / (4 * judged**2))
    half = _Z95 * spread / (1 + z2 / judged)
    return max(0.0, middle - half), min(1.0, middle + half)
