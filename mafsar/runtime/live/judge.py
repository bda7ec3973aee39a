"""From windows to readings: one call of the encoder for the windows of several sources."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from mafsar.runtime.live.extent import aligned_rows
from mafsar.runtime.live.motion import Step
from mafsar.runtime.live.tracker import Reading
from mafsar.runtime.live.windows import Window, WindowPlan
from mafsar.runtime.match.answers import Match
from mafsar.runtime.match.matcher import Matcher
from mafsar.video import Clip
from mafsar.video.motion import step_levels

MOVING = 0.5
"""Of what usually changes in the clips of a class: less is no action of it, but a rest."""
HOLD = 0.3
"""A window holds an action that was accepted up to this part of the way from the threshold to 1."""


class Judge:
    """Names the action of windows by a matcher and a plan.

    Args:
        matcher: Its answers have evidence, for the alignment.
        plan: Which class is judged at which length.
    """

    def __init__(self, matcher: Matcher, plan: WindowPlan) -> None:
        self.matcher, self.plan = matcher, plan
        # A matcher of an uncalibrated bank has none.
        self._threshold = matcher.threshold
        self._class = {label: number for number, label in enumerate(matcher.bank.labels)}

    def read(self, windows: Sequence[Window]) -> list[Reading]:
        """A reading of each window, encoded as one batch."""
        clips = [
            Clip(
                pixels=np.stack(window.frames),
                times_seconds=np.array(window.times),
                duration_seconds=window.end - window.start,
                fps=None,
                decode_seconds=0.0,
                preprocess_seconds=0.0,
            )
            for window in windows
        ]
        answers = self.matcher.answer_clips(clips, "window")
        return [self._reading(*pair) for pair in zip(windows, answers, strict=True)]

    def _reading(self, window: Window, answer: Match) -> Reading:
        best = answer.topk[0].label
        own = bool(self.plan.own[window.length, self._class[best]])
        first, last, moving = window.start, window.end, True
        if answer.evidence is not None:
            moving = answer.evidence.change >= MOVING
            begin, end = aligned_rows(answer.evidence.distances)
            segment = (window.end - window.start) / self.plan.frames
            first, last = window.start + begin * segment, window.start + (end + 1) * segment
        limit, p_none = self._threshold, answer.p_none
        held = holds(p_none, limit)
        return Reading(
            window.length,
            window.start,
            window.end,
            best,
            own and not answer.none,
            own and held,
            answer.score,
            p_none,
            first,
            last,
            doubt(p_none, limit),
            moving,
            steps_of(window),
        )

    def seconds_per_window(self, batch: int) -> float:
        """How long the encoder and the matching take for one window, the less of two calls."""
        spec = self.matcher.encoder.spec
        side = spec.image_size
        blank = [np.zeros((side, side, 3), np.uint8)] * spec.frames
        windows = [Window(0, 0, 0.0, 1.0, blank, [0.0] * spec.frames) for _ in range(batch)]
        self.read(windows)  # graphs are opened at first use
        taken = []
        for _ in range(2):
            began = time.perf_counter()
            self.read(windows)
            taken.append(time.perf_counter() - began)
        return min(taken) / batch


def steps_of(window: Window) -> tuple[Step, ...]:
    """What moves from each frame of a window to the next."""
    levels = step_levels(window.frames).tolist()
    return tuple(map(Step, window.times[:-1], window.times[1:], levels))


def holds(p_none: float | None, limit: float | None) -> bool:
    """Whether a window with this p_none holds an action that was accepted, at a threshold."""
    return p_none is not None and limit is not None and p_none <= limit + HOLD * (1 - limit)


def doubt(p_none: float | None, limit: float | None) -> float:
    """p_none as a share of its threshold; 0 without calibration."""
    return 0.0 if p_none is None or not limit else p_none / limit
