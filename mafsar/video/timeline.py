"""The one place that decides time: which frames of a video can be shown, when, and what was repaired.

Times come from the packets of the file, without decoding. A clock that cannot be right is repaired
here, and each repair is one plain sentence: a clock that steps back continues after what came before
it, a gap far above the median step is cut, frames that share their times are spaced equally. Times
and durations of a clip are those of the repaired clock, from the first frame that can be shown.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property

import numpy as np

FALLBACK_RATE = Fraction(25)
"""Frames a second where a file states no rate, or one that no camera has."""

FAR_STEPS = 50
"""A gap is cut only if it is this many median steps long,"""
FAR_SECONDS = 2.0
"""and this many seconds, and longer than all the rest of the clip: a long still is not cut."""

_FEW_TIMES = 8  # clips with fewer different times than this many frames are spaced equally
_RATES = (1, 1000)  # frames a second that a file can state


@dataclass(frozen=True)
class Packets:
    """Every packet of a stream in file order: what a plan of decoding needs."""

    pts: np.ndarray
    """(N,) int64, in units of the stream's time base."""
    dts: np.ndarray
    """(N,) int64; the pts where the file has no decoding timestamp."""
    key: np.ndarray
    """(N,) bool: decoding can start here."""
    shown: np.ndarray
    """(N,) bool: False where an edit list hides the frame, or nothing can decode it."""
    part: np.ndarray | None = None
    """(N,) int64: number of the stretch between two steps back of the clock; None for one."""

    @cached_property
    def order(self) -> np.ndarray:
        """(N,) int64: packet numbers in the order in which their frames are shown."""
        return np.lexsort((self.pts, np.zeros_like(self.pts) if self.part is None else self.part))

    @cached_property
    def place(self) -> np.ndarray:
        """(N,) int64: place of each packet in `order`."""
        place = np.empty(len(self.pts), np.int64)
        place[self.order] = np.arange(len(place))
        return place

    @cached_property
    def by_stamp(self) -> dict[tuple[int, int], int]:
        """Packet numbers by (pts, dts); the last of several with the same."""
        stamps = zip(self.pts.tolist(), self.dts.tolist(), strict=True)
        return {stamp: number for number, stamp in enumerate(stamps)}

    @cached_property
    def seekable(self) -> bool:
        """Whether a timestamp names one packet, so that a seek lands where it should."""
        one_clock = self.part is None or not self.part.any()
        return one_clock and len(self.by_stamp) == len(self.pts)


@dataclass(frozen=True)
class Timeline:
    """The frames of a video stream that can be shown, and their clock."""

    duration_seconds: float
    """From the first frame to the end of the last."""
    fps: float | None
    """Average rate; None for a single picture."""
    frame_count: int | None
    """Frames that can be shown; None where the file was not scanned."""
    times: np.ndarray | None = None
    """(N,) float64, ascending from 0: seconds when each frame is shown; None if not scanned."""
    numbers: np.ndarray | None = None
    """(N,) int64: number of the packet of each frame. None: the k-th time belongs to the k-th frame
    that the decoder returns."""
    packets: Packets | None = None
    """None where the file was not scanned."""
    measured: bool = False
    """Whether the frames are those that the decoder did return, instead of the packets' word."""
    time_base: Fraction = Fraction(1, 1000)
    """Seconds of one tick, for files that were not scanned."""
    first: int = 0
    """Timestamp of the first frame in ticks, for files that were not scanned."""
    repairs: tuple[str, ...] = field(default=())
    """What was repaired and why, plain sentences without the file's name."""

    def seconds(self, ticks: int) -> float:
        """Returns seconds from the first timestamp, for files that were not scanned."""
        return float((ticks - self.first) * self.time_base)

    def with_repairs(self, *sentences: str | None) -> Timeline:
        """Returns this timeline with more repairs; None and what is said already are left out."""
        new = [said for said in sentences if said and said not in self.repairs]
        return replace(self, repairs=(*self.repairs, *new)) if new else self


def stretches(packets: Packets, known: np.ndarray, *, reordered: bool) -> np.ndarray:
    """Numbers the stretches of a stream between which its clock steps back.

    A decoder returns all frames before a key frame first, so a key frame that claims an earlier time
    than one before it has another clock; so has a packet whose decoding time falls.

    Args:
        packets: In file order.
        known: Which packets have a decoding time in the file, (N,) bool.
        reordered: Whether the codec reorders frames. Where it does and yet all packets claim to be
            key frames, the claim says nothing.

    Returns:
        (N,) int64, rising from 0.
    """
    pts, dts = packets.pts, packets.dts
    trusted = packets.key & (not (reordered and bool(packets.key.all())))
    part = np.zeros(len(pts), np.int64)
    timed = np.flatnonzero(known)
    falls = np.flatnonzero(trusted[1:]) + 1
    falls = np.union1d(falls, timed[1:][np.diff(dts[timed]) < 0])
    top, seen, number = pts[0], 1, 0
    for start in falls.tolist():
        if start > seen:
            top = max(top, pts[seen:start].max())
            seen = start
        if pts[start] < top:
            number += 1
            part[start:] = number
            top = pts[start]
            seen = start + 1
    return part


def timeline_of(
    packets: Packets,
    base: Fraction,
    *,
    last_duration: int = 0,
    rate: Fraction | None = None,
    frames: int = 1,
    by_rank: bool = False,
) -> Timeline:
    """Makes the timeline of a scanned stream.

    Args:
        packets: At least one of them shown.
        base: Seconds of one tick.
        last_duration: How long the last frame is shown, in ticks; ≤ 0 if the file does not say.
        rate: What the file states, frames a second.
        frames: T, how many moments are to be taken.
        by_rank: The file's order of frames is not to be trusted: the k-th time belongs to the k-th
            frame of the decoder.
    """
    numbers = packets.order[packets.shown[packets.order]]
    ticks = packets.pts[numbers].astype(np.int64)
    repairs: list[str] = []
    steps = np.diff(ticks)
    rising = steps[steps > 0]
    typical = int(np.median(rising)) if len(rising) else _ticks(rate, base)
    back = np.flatnonzero(steps < 0)
    # Back by less than a frame is a clock that trembles, not another clock.
    restarts = back[steps[back] <= -typical]
    if len(restarts):
        last = int(restarts[0])
        begin, end = (float(int(ticks[i] - ticks[0]) * base) for i in (last, last + 1))
        repairs.append(
            f"the clock steps back {_times(len(restarts))} after {begin:.2f} s, to {end:.2f} s; what "
            "follows is shown after what came before"
        )
    ticks = np.maximum.accumulate(_joined(ticks, restarts, typical))
    ticks, gaps = _cut(ticks, typical, base)
    repairs += gaps
    if last_duration <= 0 or _is_far(last_duration, typical, int(ticks[-1] - ticks[0]), base):
        if last_duration > 0 and len(ticks) > 1:
            repairs.append(
                f"the last frame claims to last {float(last_duration * base):.1f} s; it is taken as "
                "one median step"
            )
        last_duration = typical
    times = (ticks - ticks[0]) * base.numerator / base.denominator
    duration = float((int(ticks[-1]) - int(ticks[0]) + last_duration) * base)
    distinct = len(np.unique(ticks))
    if distinct < min(len(ticks), max(frames, _FEW_TIMES)):
        steady = plausible(rate)
        times, duration = np.arange(len(ticks)) / float(steady), len(ticks) / float(steady)
        repairs.append(
            f"its {len(ticks)} frames have only {distinct} different "
            f"time{'' if distinct == 1 else 's'}; they are spaced equally, at {float(steady):g} fps"
        )
    return Timeline(
        duration_seconds=duration,
        fps=len(ticks) / duration if len(ticks) > 1 and duration > 0 else None,
        frame_count=len(ticks),
        times=times,
        numbers=None if by_rank else numbers,
        packets=packets,
        repairs=tuple(repairs),
    )


def ranked_timeline(ticks: np.ndarray, rate: Fraction, packets: Packets | None = None) -> Timeline:
    """Frames are shown in the order in which the decoder returns them, the k-th at ticks[k] / rate."""
    ticks = ticks - ticks[0]
    last = float(np.median(np.diff(ticks))) if len(ticks) > 1 else 1.0
    ticks, gaps = _cut(ticks, max(round(last), 1), 1 / Fraction(rate))
    duration = (float(ticks[-1]) + last) / float(rate)
    return Timeline(
        duration_seconds=duration,
        fps=len(ticks) / duration,
        frame_count=len(ticks),
        times=ticks / float(rate),
        packets=packets,
        repairs=tuple(gaps),
    )


def measured_timeline(timeline: Timeline, returned: np.ndarray) -> Timeline:
    """The timeline of the frames that a decoder did return.

    Args:
        timeline: Of the scanned packets.
        returned: Packet numbers of the frames in the order of the decoder, (K,), K ≥ 1.

    Returns:
        Their times: of the frames themselves where the decoder's order is that of their times, else
        the sorted times, given in the decoder's order.
    """
    assert timeline.times is not None
    total = len(timeline.times)
    step = float(np.median(np.diff(timeline.times))) if total > 1 else timeline.duration_seconds
    if timeline.numbers is None:
        times = timeline.times[: len(returned)]
        returned = returned[: len(times)]
    else:
        at = dict(zip(timeline.numbers.tolist(), timeline.times.tolist(), strict=True))
        known = np.array([number in at for number in returned.tolist()])
        returned = returned[known]
        times = np.sort(np.array([at[number] for number in returned.tolist()]))
    lost = total - len(returned)
    said = None
    if lost > 0:
        said = f"of {total} frames only {len(returned)} can be shown"
    times = times - times[0] if len(times) else times
    duration = float(times[-1]) + step if lost and len(times) else timeline.duration_seconds
    return replace(
        timeline,
        duration_seconds=duration,
        fps=len(times) / duration if len(times) > 1 and duration > 0 else None,
        frame_count=len(times),
        times=times,
        numbers=returned,
        measured=True,
    ).with_repairs(said)


def plausible(rate: Fraction | None) -> Fraction:
    """The rate that a file states, or 25 frames a second where it cannot be right."""
    return rate if rate is not None and _RATES[0] <= rate <= _RATES[1] else FALLBACK_RATE


def _ticks(rate: Fraction | None, base: Fraction) -> int:
    return max(int(1 / (rate or FALLBACK_RATE) / base), 1)


def _joined(ticks: np.ndarray, restarts: np.ndarray, typical: int) -> np.ndarray:
    """Lets each stretch of the clock begin one step after the stretch before it."""
    shift = np.zeros_like(ticks)
    for last in restarts.tolist():
        shift[last + 1 :] += ticks[last] - ticks[last + 1] + typical
    return np.asarray(ticks + shift)


def _cut(ticks: np.ndarray, typical: int, base: Fraction) -> tuple[np.ndarray, list[str]]:
    """Shortens gaps that are far above the median step to one such step."""
    steps = np.diff(ticks)
    far = (steps > FAR_STEPS * typical) & (steps * float(base) > FAR_SECONDS)
    rest = int(steps[~far].sum())
    cut = np.flatnonzero(far & (steps > rest)) if len(steps) > 2 else np.array([], np.int64)
    if not len(cut):
        return ticks, []
    at = float((ticks[cut[0]] - ticks[0]) * base)
    longest = float(steps[cut].max() * base)
    said = (
        f"the clock jumps {_times(len(cut))} at {at:.2f} s, by {longest:.1f} s; the gap is cut to one "
        "frame"
    )
    steps[cut] = typical
    return np.concatenate([ticks[:1], ticks[0] + np.cumsum(steps)]), [said]


def _is_far(step: int, typical: int, rest: int, base: Fraction) -> bool:
    return step > FAR_STEPS * typical and step * float(base) > FAR_SECONDS and step > rest


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times, first"
