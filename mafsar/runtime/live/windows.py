"""Windows of a long video: how long they are, how often one begins, and the frames in them."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from mafsar.errors import InputError, option
from mafsar.runtime.bank.bank import Bank
from mafsar.runtime.encoder import Frames
from mafsar.video.sampling import segment_times

MOST_LENGTHS = 3
_APART = 1.5  # lengths are at least this factor apart
_USUAL = 2.0  # seconds, where no clip has a length
SHORTEST = 0.2
"""The shortest window, seconds."""
_STEPS = 2  # a window begins every so many of the T segments of its length
MANY = 2.75
"""Windows a second of source that are wanted: `tiny` judges more than four times as many on two cores."""


@dataclass(frozen=True)
class WindowPlan:
    """Lengths of the windows and which classes are judged at which.

    Attributes:
        lengths: Seconds, ascending, one to three.
        strides: Seconds from one window to the next of the same length, one for each length.
        own: Whether a class is judged at a length, (lengths, C), bool; at least one for each class.
        frames: T, frames of a window.
    """

    lengths: tuple[float, ...]
    strides: tuple[float, ...]
    own: NDArray[np.bool_]
    frames: int

    @property
    def per_second(self) -> float:
        """Windows a second of source."""
        return sum(1.0 / stride for stride in self.strides)


def plan_windows(
    bank: Bank,
    frames: int,
    lengths: Sequence[float] | None = None,
    stride: float | None = None,
) -> WindowPlan:
    """Chooses lengths by the durations of a bank's clips.

    A class is judged in windows as long as its longest clip, which hold the whole action at any
    tempo that was shown; the alignment finds it inside of them. Classes of similar lengths share the
    longest of them: lengths are a factor of 1.5 apart at least, and three at most.

    Args:
        bank: The bank.
        frames: T.
        lengths: Seconds, of which each class is judged at the nearest; None = by the clips.
        stride: Seconds; None = a quarter of each length (two of eight frames).

    Raises:
        InputError: More than three lengths, or one that is not from 0.2 s on; a stride ≤ 0.
    """
    _check_stride(stride)
    longest = [0.0] * len(bank.classes)
    for clip, index in zip(bank.clips, bank.class_index.tolist(), strict=True):
        if index >= 0:
            longest[index] = max(longest[index], clip.duration_seconds)
    # A class of single pictures has no length.
    wanted = [max(seconds or _USUAL, SHORTEST) for seconds in longest]
    chosen = _checked(lengths) if lengths is not None else _lengths(wanted)
    nearest = [
        int(np.argmin([abs(math.log(length / seconds)) for length in chosen])) for seconds in wanted
    ]
    used = sorted(set(nearest))
    kept = tuple(chosen[number] for number in used)
    own = np.array([[each == number for each in nearest] for number in used])
    strides = tuple(stride or _stride(length, frames) for length in kept)
    return WindowPlan(kept, strides, own, frames)


def name_windows(
    lengths: Sequence[float] | None, frames: int, stride: float | None = None
) -> WindowPlan:
    """A plan without a bank: every class counts at every length.

    Args:
        lengths: Seconds, one to three; None = one of 2 s.
        frames: T.
        stride: Seconds; None = a quarter of each length.

    Raises:
        InputError: As `plan_windows`.
    """
    _check_stride(stride)
    kept = tuple(_checked(lengths or [_USUAL]))
    strides = tuple(stride or _stride(length, frames) for length in kept)
    return WindowPlan(kept, strides, np.ones((len(kept), 1), np.bool_), frames)


def paced(plan: WindowPlan) -> WindowPlan:
    """The same with windows as often as possible, an eighth to half of their length apart.

    Next to the window that just holds an action begins one that lacks a quarter of it; with windows
    every eighth, two more hold nearly all. At most `MANY` a second are made where that is possible;
    those of the length that has most are the first to become fewer. Strides are whole segments: windows
    that share no frames would cost more than they find.
    """
    segments = [length / plan.frames for length in plan.lengths]
    counts = [max(1, round(plan.frames / 8))] * len(segments)
    while True:
        strides = [count * segment for count, segment in zip(counts, segments, strict=True)]
        shorter = [k for k, count in enumerate(counts) if count < plan.frames // 2]
        if sum(1.0 / stride for stride in strides) <= MANY or not shorter:
            return replace(plan, strides=tuple(strides))
        counts[min(shorter, key=strides.__getitem__)] += 1


def _check_stride(stride: float | None) -> None:
    if stride is not None and not (math.isfinite(stride) and stride > 0):
        raise InputError(option(stride=stride), ": must be > 0 seconds")


def _checked(lengths: Sequence[float]) -> list[float]:
    named = option(window=list(lengths))
    if not 1 <= len(lengths) <= MOST_LENGTHS:
        raise InputError(named, f": give one to {MOST_LENGTHS} lengths in seconds")
    for length in lengths:
        if not (math.isfinite(length) and length >= SHORTEST):
            raise InputError(named, f": a window must be at least {SHORTEST:g} s long")
    return sorted(set(lengths))


def _lengths(wanted: Sequence[float]) -> list[float]:
    """One to three lengths for classes that want these: the longest of each group of similar ones."""
    low, high = min(wanted), max(wanted)
    count = min(MOST_LENGTHS, 1 + int(math.log(high / low) / math.log(_APART) + 1e-9))
    borders = np.geomspace(low, high, count + 1)[1:-1]
    group = np.searchsorted(borders, np.array(wanted), side="right")
    return [max(np.array(wanted)[group == number].tolist()) for number in np.unique(group)]


def _stride(length: float, frames: int) -> float:
    """A whole number of segments, so that windows share their frames."""
    return length / frames * max(1, round(frames * _STEPS / 8))


@dataclass(eq=False)
class Window:
    """The frames of one window.

    Attributes:
        region: Number of the region.
        length: Number of its length in the plan.
        start: Seconds of the source's clock.
        end: The same.
        frames: Squares as the model takes them, each (S, S, 3), uint8; T when it is whole.
        times: When each of them is first shown, seconds.
        made: When it was whole, seconds of `time.monotonic`.
        plan: Number of the plan by which it was cut.
    """

    region: int
    length: int
    start: float
    end: float
    frames: list[Frames] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    made: float = 0.0
    plan: int = 0


class WindowCutter:
    """Takes the frames of a source in order and gives windows as soon as they are whole.

    A window begins every stride from 0 on. Its frames are those shown in the middles of its T
    segments, as in a clip (docs/method.md). A frame is resized only if a window takes it, and once
    however many do; it is dropped when no open window holds it.

    Args:
        plan: Lengths and strides.
        regions: How many regions there are; each has windows of its own.
        since: When the first window may begin, seconds.
    """

    def __init__(self, plan: WindowPlan, regions: int = 1, since: float = 0.0) -> None:
        self._plan = plan
        self._regions = regions
        self._middles = [segment_times(length, plan.frames) for length in plan.lengths]
        # Windows of one length that are not whole yet, the oldest first; region by region.
        self._open: list[deque[list[Window]]] = [deque() for _ in plan.lengths]
        self._begun = [math.ceil(since / stride) for stride in plan.strides]

    def take(
        self, seconds: float, until: float, squares: Callable[[], Sequence[Frames]]
    ) -> Iterator[Window]:
        """Gives a frame to all windows that want it.

        Args:
            seconds: When it is first shown.
            until: When the next one is: it is shown in [seconds, until).
            squares: Makes its squares, one for each region; called at most once.

        Yields:
            Windows that are whole now, the shortest first.
        """
        made: Sequence[Frames] | None = None
        for number, (length, stride) in enumerate(
            zip(self._plan.lengths, self._plan.strides, strict=True)
        ):
            waiting, middles = self._open[number], self._middles[number]
            while self._begun[number] * stride + middles[0] < until:
                start = self._begun[number] * stride
                self._begun[number] += 1
                if start + middles[-1] < seconds:
                    continue  # the clock has jumped over it
                waiting.append(
                    [
                        Window(region, number, start, start + length)
                        for region in range(self._regions)
                    ]
                )
            for group in waiting:
                while len(group[0].frames) < self._plan.frames and (
                    group[0].start + middles[len(group[0].frames)] < until
                ):
                    made = squares() if made is None else made
                    for window, square in zip(group, made, strict=True):
                        window.frames.append(square)
                        window.times.append(seconds)
            while waiting and len(waiting[0][0].frames) == self._plan.frames:
                yield from waiting.popleft()

    def finish(self) -> Iterator[Window]:
        """The windows of which at least half was seen, their last frame repeated; then none is left."""
        for waiting in self._open:
            while waiting:
                for window in waiting.popleft():
                    missing = self._plan.frames - len(window.frames)
                    if missing <= self._plan.frames // 2:
                        window.frames += window.frames[-1:] * missing
                        window.times += window.times[-1:] * missing
                        yield window

    def wanted(self, duration: float) -> NDArray[np.float64]:
        """Every moment from 0 to a duration at which a window takes a frame, ascending."""
        moments = [
            np.add.outer(np.arange(0.0, duration, stride), middles).ravel()
            for stride, middles in zip(self._plan.strides, self._middles, strict=True)
        ]
        every = np.unique(np.concatenate(moments))
        return np.asarray(every[every < duration], np.float64)
