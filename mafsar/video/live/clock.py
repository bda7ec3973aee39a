"""The clock of a live source: seconds from its first frame, rising, whatever its timestamps say.

The faults are those of files (`mafsar.video.timeline`), repaired without knowing what comes. A clock
that steps back continues after what came before. A far jump is cut to one step, unless as much time
has really passed: a camera that was away for a minute comes back a minute later.
"""

from __future__ import annotations

from collections import deque

from mafsar.video.timeline import FALLBACK_RATE, FAR_SECONDS, FAR_STEPS

_RECENT = 32  # steps that tell the usual one


class LiveClock:
    """Turns timestamps and times of arrival into seconds from the first frame.

    Args:
        paced: Whether frames arrive as they happen. If not, arrival says nothing.
        fps: What the source states, frames a second, or None.
    """

    def __init__(self, *, paced: bool, fps: float | None = None) -> None:
        self._paced = paced
        self._step = 1.0 / fps if fps and 1.0 <= fps <= 1000.0 else 1.0 / float(FALLBACK_RATE)
        self._steps: deque[float] = deque(maxlen=_RECENT)
        self._stamp: float | None = None
        self._arrived = 0.0
        self._seconds: float | None = None
        self.repairs: list[str] = []

    @property
    def step(self) -> float:
        """The usual time between two frames, seconds: the median of the last ones."""
        return sorted(self._steps)[len(self._steps) // 2] if self._steps else self._step

    @property
    def seconds(self) -> float:
        """Time of the last frame; 0 before the first."""
        return self._seconds or 0.0

    def restart(self) -> None:
        """The source was opened again: its timestamps begin anew, and time has passed."""
        self._stamp = None

    def tick(self, stamp: float | None, arrived: float) -> float:
        """The time of the next frame.

        Args:
            stamp: Its timestamp in seconds, or None.
            arrived: When it arrived, seconds of any clock that does not step.

        Returns:
            Seconds from the first frame, more than those of the frame before.
        """
        if self._seconds is None:
            self._seconds = 0.0
        else:
            passed = arrived - self._arrived
            self._seconds += self._next_step(stamp, passed)
        self._stamp, self._arrived = stamp, arrived
        return self._seconds

    def _next_step(self, stamp: float | None, passed: float) -> float:
        if stamp is None or self._stamp is None:
            return max(passed, 1e-3) if self._paced else self.step
        step = stamp - self._stamp
        if step <= 0:
            if step <= -self.step:
                self._say(f"the clock steps back at {self.seconds:.2f} s; it is continued")
            return self.step
        if step > max(FAR_SECONDS, FAR_STEPS * self.step) and not (
            self._paced and passed > step / 2
        ):
            self._say(f"the clock jumps by {step:.1f} s at {self.seconds:.2f} s; the gap is cut")
            return self.step
        self._steps.append(step)
        return step

    def _say(self, sentence: str) -> None:
        if len(self.repairs) < _RECENT:
            self.repairs.append(sentence)
