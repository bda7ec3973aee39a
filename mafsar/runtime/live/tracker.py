"""From the answers to windows to events: consensus, hysteresis, and when an action began and ended.

An action is accepted when two of the last three windows of one length name it. From then on it is
held by weaker answers too, and it ends when it has not been named for the gap. Where it began and
ended is read from the alignment of the windows that named it, not from their borders.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

WINDOWS, AGREEING = 3, 2
"""An action is accepted when so many of the last windows of one length agree."""


@dataclass(frozen=True)
class Reading:
    """What one window says.

    Attributes:
        length: Number of its length.
        start: Seconds.
        end: Seconds.
        best: The nearest class.
        accepted: Whether it is not "none", and the class is judged at this length.
        held: Whether it would keep an action that was accepted before.
        score: Share of the best class.
        p_none: None without calibration.
        first: Where the action begins in the window by the alignment, seconds.
        last: Where it ends.
    """

    length: int
    start: float
    end: float
    best: str
    accepted: bool
    held: bool
    score: float
    p_none: float | None
    first: float
    last: float


@dataclass
class Span:
    """An action that was accepted.

    Attributes:
        label: Its class.
        t_start: Seconds.
        t_end: Where it ends so far, seconds.
        score: The largest so far.
        p_none: The smallest so far.
        number: The number of the action in its region.
    """

    label: str
    t_start: float
    t_end: float
    score: float
    p_none: float | None
    number: int

    def support(self, reading: Reading) -> None:
        """Takes in a window that names it."""
        self.score = max(self.score, reading.score)
        if reading.p_none is not None:
            self.p_none = min(reading.p_none, 1.0 if self.p_none is None else self.p_none)
        self.t_end = max(self.t_end, reading.last)


class Tracker:
    """The actions of one region of one source.

    Args:
        gap: An action of the same class that follows within this is the same action, seconds.
        min_duration: Shorter actions are left out, seconds.
    """

    def __init__(self, gap: float, min_duration: float) -> None:
        self._gap, self._min_duration = gap, min_duration
        self._recent: dict[int, deque[Reading]] = {}
        self._span: Span | None = None
        self._count = 0

    @property
    def active(self) -> Span | None:
        """The action that goes on."""
        return self._span

    def take(self, reading: Reading) -> Iterator[tuple[str, Span]]:
        """Takes in the next window.

        Yields:
            "start" or "end" with its action.
        """
        recent = self._recent.setdefault(reading.length, deque(maxlen=WINDOWS))
        recent.append(reading)
        span = self._span
        if span is not None and reading.best == span.label and (reading.accepted or reading.held):
            span.support(reading)
        elif span is not None and reading.end - span.t_end > self._gap + _length(reading):
            yield from self.finish()
        agreeing = [each for each in recent if each.accepted and each.best == reading.best]
        if not reading.accepted or len(agreeing) < AGREEING:
            return
        if self._span is not None and self._span.label == reading.best:
            return
        begun = min(each.first for each in agreeing)
        if self._span is not None:
            if self._span.t_end > begun:
                self._span.t_end = max(begun, self._span.t_start)
            yield from self.finish()
        last = max(each.last for each in agreeing)
        if last - begun < self._min_duration:
            return
        self._count += 1
        p_nones = [each.p_none for each in agreeing if each.p_none is not None]
        self._span = Span(
            reading.best,
            begun,
            last,
            max(each.score for each in agreeing),
            min(p_nones) if p_nones else None,
            self._count,
        )
        yield "start", self._span

    def finish(self) -> Iterator[tuple[str, Span]]:
        """Ends the action that goes on: the source is over, or lost."""
        span, self._span = self._span, None
        self._recent.clear()
        if span is not None:
            yield "end", span


def _length(reading: Reading) -> float:
    return (reading.end - reading.start) / 2
