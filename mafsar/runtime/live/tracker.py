"""From the answers to windows to events: consensus, hysteresis, and when an action began and ended.

An action is accepted when two of the last three windows of one length name it, as much changes in them
as in a clip of it, and they are well below the threshold of p_none on average: that windows that share
most of their frames are barely below it says little. From then on weaker
answers hold it, too, and it ends when it was not named for the gap. Each window that names it votes
for the part in which the alignment finds the action; it lasts from the first to the last moment that
has half as many votes as the moment with the most. Windows overlap, so that one that reaches beyond
the action is outvoted by those around it. An action longer than its windows has no such moment, each
of them holds another part: it lasts from the first of these parts to the last. What moves in the
pictures then says its borders more exactly, where it does (`Moves`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from mafsar.runtime.live.motion import Moves, Step

WINDOWS, AGREEING = 3, 2
"""Of so many windows of one length so many have to agree,"""
DOUBT = 0.7
"""and their mean p_none is at most this share of the threshold."""
SHARE = 0.5
"""Of the most votes: what a moment of the action has at least."""
LONG = 1.25
"""Times the length of its windows: an action whose parts reach over more lasts over all of them."""
_KEPT = 256  # votes from the beginning and from the end of a long action


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
        doubt: p_none as a share of its threshold; 0 without calibration.
        moving: Whether as much changes in it as an action of its class needs.
        steps: What moves from each of its frames to the next.
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
    doubt: float = 0.0
    moving: bool = True
    steps: tuple[Step, ...] = ()

    @property
    def vote(self) -> tuple[float, float, float]:
        """First, last, and the weight of its vote."""
        return self.first, self.last, 1.0 if self.p_none is None else 1.0 - self.p_none


@dataclass
class Span:
    """An action that was accepted.

    Attributes:
        label: Its class.
        t_start: Seconds.
        t_end: Where it ends so far, seconds.
        score: The largest so far.
        p_none: The smallest so far.
        named: End of the last part of a window that named it, seconds.
        window: Length of the longest window that named it, seconds.
        since: Start of the first window that named it, seconds.
        until: End of the last one.
    """

    label: str
    t_start: float
    t_end: float
    score: float = 0.0
    p_none: float | None = None
    named: float = 0.0
    window: float = 0.0
    since: float = np.inf
    until: float = -np.inf
    _early: list[tuple[float, float, float]] = field(default_factory=list)
    _late: deque[tuple[float, float, float]] = field(default_factory=lambda: deque(maxlen=_KEPT))

    def support(self, reading: Reading) -> None:
        """Takes in a window that names it."""
        self.score = max(self.score, reading.score)
        if reading.p_none is not None:
            self.p_none = min(reading.p_none, 1.0 if self.p_none is None else self.p_none)
        self.named = max(self.named, reading.last)
        self.window = max(self.window, reading.end - reading.start)
        self.since, self.until = min(self.since, reading.start), max(self.until, reading.end)
        (self._early if len(self._early) < _KEPT else self._late).append(reading.vote)

    def settle(self, after: float, shortest: float, moves: Moves) -> None:
        """Sets start and end by the votes so far and what moved, the start not before `after`."""
        votes = [*self._early, *self._late]
        begun, ended = min(vote[0] for vote in votes), max(vote[1] for vote in votes)
        if ended - begun <= LONG * self.window:
            begun, ended = extent(votes)
        begun, ended = moves.borders(begun, ended, self.since, self.until)
        self.t_start = max(begun, after)
        self.t_end = max(ended, self.t_start + shortest)


class Tracker:
    """The actions of one region of one source.

    Args:
        gap: An action of the same class that follows within this is the same action, seconds.
        min_duration: Shorter actions are left out, seconds.
    """

    def __init__(self, gap: float, min_duration: float) -> None:
        self._gap, self._min_duration = gap, min_duration
        self._recent: dict[int, deque[Reading]] = {}
        self._moves = Moves()
        self._span: Span | None = None
        self._free = -np.inf  # end of the action before
        self._alone = True  # no length has had a second window

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
        self._alone = self._alone and len(recent) == 1
        if reading.length == 0:  # the shortest: the finest steps
            self._moves.take(reading.steps)
        span = self._span
        if span is not None:
            if reading.best == span.label and (reading.accepted or reading.held):
                span.support(reading)
            elif reading.end - span.named > self._gap + (reading.end - reading.start) / 2:
                yield from self._end()
        agreeing = [each for each in recent if _says(each, reading.best)]
        if not _says(reading, reading.best) or len(agreeing) < AGREEING:
            return
        if self._span is not None and self._span.label == reading.best:
            return
        if sum(each.doubt for each in agreeing) > DOUBT * len(agreeing):
            return
        following = Span(reading.best, 0.0, 0.0)
        for each in agreeing:
            following.support(each)
        following.settle(-np.inf, 0.0, self._moves)
        if following.t_end - following.t_start < self._min_duration:
            return
        if self._span is not None:
            yield from self._end(following.t_start)
        following.settle(self._free, self._min_duration, self._moves)
        self._span = following
        yield "start", following

    def finish(self) -> Iterator[tuple[str, Span]]:
        """Ends the action that goes on: the source is over, or lost.

        A source so short that it had one window of each length is named by that window alone.
        """
        every = [each for recent in self._recent.values() for each in recent]
        named = [each for each in every if _says(each, each.best)]
        if self._alone and named:
            best = min(named, key=lambda each: each.doubt)
            self._span = Span(best.best, 0.0, 0.0)
            self._span.support(best)
            self._span.settle(self._free, self._min_duration, self._moves)
            yield "start", self._span
        self._alone = False
        self._recent.clear()
        yield from self._end()
        self._moves.clear()

    def _end(self, before: float = np.inf) -> Iterator[tuple[str, Span]]:
        """Ends the action that goes on, where another begins before its end at that one's start."""
        span, self._span = self._span, None
        if span is not None:
            span.settle(self._free, self._min_duration, self._moves)
            span.t_end = min(span.t_end, max(before, span.t_start + self._min_duration))
            self._free = span.t_end
            yield "end", span


def _says(reading: Reading, label: str) -> bool:
    """Whether a window speaks for an action that was not accepted before."""
    return reading.accepted and reading.moving and reading.best == label


def extent(votes: Sequence[tuple[float, float, float]]) -> tuple[float, float]:
    """The first and the last moment with at least `SHARE` of the most votes.

    Args:
        votes: Parts as first, last (seconds) and weight; at least one.
    """
    first, last, weight = np.array(votes, np.float64).T
    edges = np.unique(np.concatenate([first, last]))
    change = np.zeros(len(edges))
    np.add.at(change, np.searchsorted(edges, first), weight)
    np.add.at(change, np.searchsorted(edges, last), -weight)
    total = np.cumsum(change)[:-1]  # of each interval between two edges
    if len(total) == 0 or total.max() <= 0:
        return float(edges[0]), float(edges[-1])
    on = np.flatnonzero(total >= SHARE * total.max() - 1e-9)
    return float(edges[on[0]]), float(edges[on[-1] + 1])
