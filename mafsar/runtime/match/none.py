"""Whether a query shows none of a bank's classes: p_none, the threshold, and still clips."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mafsar.choices import check_far, check_threshold
from mafsar.errors import UnavailableError, option
from mafsar.runtime.bank.bank import Bank
from mafsar.runtime.encoder import Float32, Frames
from mafsar.runtime.scoring.none import NoneJudge
from mafsar.video.motion import is_still, motion_levels

Threshold = float | Literal["auto", "off"]

WINDOW_LOOKS = 2
"""Looks at an action that windows of a long video count as: an event needs windows that agree, and
those that begin a quarter of their length apart are two."""


class NoneAnswers:
    """Decides which queries a matcher answers with none.

    Args:
        bank: The bank.
        threshold: See `mafsar.Matcher`.
        far: See `mafsar.Matcher`.
        looks: How many answers have to agree: for all of them to accept `far`, each may accept
            far^(1 / looks).

    Attributes:
        moving: Whether something moves in every clip of the classes.

    Raises:
        InputError: `threshold` or `far` is out of range.
        UnavailableError: One of them is asked for, and the bank is not calibrated.
    """

    def __init__(
        self, bank: Bank, threshold: Threshold, far: float | None, *, looks: int = 1
    ) -> None:
        check_threshold(threshold)
        if far is not None:
            check_far(far)
        if bank.none is None and (far is not None or threshold not in ("auto", "off")):
            raise UnavailableError(
                option(threshold=threshold) if far is None else option(far=far),
                ": p_none is not calibrated in this bank: its model brings no negatives, or it was"
                " enrolled by an older version; enroll the clips again, or use ",
                option(threshold="off"),
            )
        self._bank, self._threshold, self._far, self._looks = bank, threshold, far, looks
        self.moving = bank.motion is not None and not any(
            is_still(float(value)) for value in bank.motion[bank.class_index >= 0]
        )
        self._kept: tuple[bytes, tuple[NoneJudge | None, float | None]] | None = None

    def for_windows(self) -> NoneAnswers:
        """The same for windows of a long video, of which `WINDOW_LOOKS` have to agree."""
        return NoneAnswers(self._bank, self._threshold, self._far, looks=WINDOW_LOOKS)

    def judge_of(self, class_index: NDArray[np.intp]) -> tuple[NoneJudge | None, float | None]:
        """What computes p_none, and the p_none above which an answer is none.

        It is kept until it is asked for with other clips.

        Args:
            class_index: Class of each clip of the bank, (n,); negative for clips that are left out.

        Returns:
            None for the first if the bank is not calibrated; for the second if no answer is none.
        """
        key = class_index.tobytes()
        if self._kept is None or self._kept[0] != key:
            self._kept = key, self._calibrate(class_index)
        return self._kept[1]

    def answer(
        self, frames: Float32, class_index: NDArray[np.intp], *, still: bool
    ) -> tuple[float | None, bool]:
        """p_none of a query, None without calibration, and whether it is answered with none.

        Args:
            frames: Its features by the query graph, (T, E).
            class_index: As in `judge_of`.
            still: Whether it is still; see `is_still`.
        """
        judge, threshold = self.judge_of(class_index)
        if judge is None:
            return None, False
        p_none = 1.0 if still else float(judge.p_none(frames[None])[0])
        return p_none, threshold is not None and p_none > threshold

    def is_still(self, pixels: Frames) -> bool:
        """Whether nothing moves in a query, though something moves in every clip of the classes.

        Args:
            pixels: Its frames, (T, S, S, 3), uint8 RGB.
        """
        return self.moving and is_still(motion_levels(pixels))

    def _calibrate(self, class_index: NDArray[np.intp]) -> tuple[NoneJudge | None, float | None]:
        basis = self._bank.none
        if basis is None:
            return None, None
        rows = np.flatnonzero(class_index >= 0)
        position = np.unique(class_index[rows], return_inverse=True)[1]
        background = self._bank.query[self._bank.class_index < 0]
        judge = basis.judge(self._bank.query[rows], position, background)
        if self._threshold == "off":
            return judge, None
        if self._threshold != "auto":
            return judge, float(self._threshold)
        far = basis.far if self._far is None else self._far
        return judge, judge.threshold(far ** (1 / self._looks))
