"""Searching an index: the best moments of each class, and the events as `watch` would give them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mafsar.choices import Progress
from mafsar.runtime.archive.index import Index, Shard
from mafsar.runtime.archive.moments import Moments, moments_of_scan
from mafsar.runtime.archive.rerank import rerank
from mafsar.runtime.archive.scan import CHUNK, Scan, in_chunks, scan_index
from mafsar.runtime.archive.scorer import BankScorer
from mafsar.runtime.archive.shortlist import shortlist
from mafsar.runtime.encoder import Float32
from mafsar.runtime.live.judge import MOVING, doubt, holds
from mafsar.runtime.live.tracker import Reading, Span, Tracker

SCHEMA = 1
EXACT = 200_000
"""Windows up to which an index is searched exactly where nothing else is asked."""
_GAP, _SHORTEST = 1.0, 0.3  # seconds; the defaults of `watch`


@dataclass(frozen=True)
class Found:
    """A place in the archive; fields are named as in the JSON of `mafsar search`.

    Attributes:
        found: "moment": one window, of the nearest to a class; "event": an action as `watch` finds
            it, over all windows that show it.
        bank: Name of the bank.
        label: The class.
        rank: Place among the moments of the class, from 1; None for an event.
        source: Name of the file.
        t_start: Where the action begins, seconds of the file's clock.
        t_end: Where it ends.
        score: Share of the class among the bank's, 0–1.
        distance: The metric's value; smaller is nearer. None for an event.
        p_none: Probability that it is none of the classes; None without calibration.
        none: Whether p_none is above the threshold.
        path: The file; not in the JSON.
    """

    found: Literal["moment", "event"]
    bank: str
    label: str
    rank: int | None
    source: str
    t_start: float
    t_end: float
    score: float
    distance: float | None
    p_none: float | None
    none: bool
    path: str

    def to_json(self) -> dict[str, Any]:
        """The JSON object that `mafsar search` prints."""
        values = asdict(self)
        del values["path"]
        digits = {"t_start": 3, "t_end": 3, "score": 4, "p_none": 4, "distance": 5}
        return {"schema": SCHEMA} | {
            name: round(value, digits[name]) if name in digits and value is not None else value
            for name, value in values.items()
        }


def search_index(
    index: Index,
    scorer: BankScorer,
    *,
    topk: int = 10,
    labels: Sequence[str] | None = None,
    events: bool = False,
    exact: bool | None = None,
    progress: Progress | None = None,
) -> Iterator[Found]:
    """Finds the classes of a bank in an index.

    The moments of a class are the windows in which it is the best class, the nearest first; windows
    that show the same moment count once.

    Args:
        index: The index.
        scorer: The bank.
        topk: Moments of each class, at most.
        labels: Classes to look for; None = all. The others are compared with all the same.
        events: Also find events. This computes p_none of every window.
        exact: Whether all windows are compared with all classes, as they are for events; else those
            of a shortlist are, where the index has a small copy. None = up to `EXACT` windows.
        progress: Called with (rows done, rows, "searching").

    Yields:
        Moments, class by class, then events by file and time.
    """
    numbers = range(len(scorer.bank.labels))
    wanted = numbers if labels is None else [scorer.class_number(label) for label in labels]
    if exact is None:
        exact = len(index) <= EXACT
    if exact or events or index.basis is None:
        scan = scan_index(index, scorer, progress=progress)
        nearest = [moments_of_scan(index, scorer, scan, number, topk) for number in wanted]
    else:
        shortlists = shortlist(index, scorer, wanted, progress=progress)
        nearest = rerank(index, scorer, wanted, shortlists, topk)
    yield from _best_moments(index, scorer, wanted, nearest)
    if events:
        yield from find_events(index, scorer, scan, set(wanted), progress)


def _best_moments(
    index: Index, scorer: BankScorer, wanted: Sequence[int], nearest: Sequence[Moments]
) -> Iterator[Found]:
    """The moments of some classes, class by class; features of many are read together."""
    held: list[tuple[int, Moments]] = []
    for class_index, moments in zip(wanted, nearest, strict=True):
        held.append((class_index, moments))
        if sum(len(moments.rows) for _, moments in held) >= CHUNK:
            yield from _moments(index, scorer, held)
            held = []
    yield from _moments(index, scorer, held)


def _moments(
    index: Index, scorer: BankScorer, held: Sequence[tuple[int, Moments]]
) -> Iterator[Found]:
    if not held:
        return
    all_rows = np.concatenate([moments.rows for _, moments in held])
    all_frames = index.frames(all_rows).astype(np.float32)
    all_p_none = scorer.p_none(all_frames, index.motion[all_rows])
    at = 0
    for class_index, moments in held:
        parts = scorer.parts(all_frames[at : at + len(moments.rows)], class_index)
        for place, (row, part) in enumerate(zip(moments.rows, parts, strict=True)):
            start, end = _seconds(index, int(row), part)
            none = None if all_p_none is None else float(all_p_none[at])
            at += 1
            source = index.sources[index.file[row]]
            yield Found(
                "moment",
                scorer.bank.name,
                scorer.bank.labels[class_index],
                place + 1,
                source.name,
                start,
                min(end, max(source.record.duration_seconds, start)),
                float(moments.score[place]),
                float(moments.distance[place]),
                none,
                none is not None and scorer.threshold is not None and none > scorer.threshold,
                source.record.path,
            )


def find_events(
    index: Index,
    scorer: BankScorer,
    scan: Scan,
    wanted: set[int],
    progress: Progress | None = None,
) -> Iterator[Found]:
    """The events of all files, by the same rules as `watch`."""
    if len(index) == 0:
        return
    p_none = _all_p_none(index, scorer, progress)
    order = np.argsort(index.file, kind="stable")
    files, firsts = np.unique(index.file[order], return_index=True)
    for number, rows in zip(files, np.split(order, firsts[1:]), strict=True):
        tracker = Tracker(_GAP, _SHORTEST)
        spans: list[Span] = []
        for reading in _readings(index, scorer, scan, rows, p_none):
            spans += [span for word, span in tracker.take(reading) if word == "end"]
        spans += [span for word, span in tracker.finish() if word == "end"]
        source = index.sources[number]
        for span in spans:
            end = min(span.t_end, max(source.record.duration_seconds, span.t_start))
            if scorer.bank.labels.index(span.label) in wanted:
                yield Found(
                    "event", scorer.bank.name, span.label, None, source.name, span.t_start,
                    end, span.score, None, span.p_none, False, source.record.path,
                )  # fmt: skip


def _all_p_none(
    index: Index, scorer: BankScorer, progress: Progress | None
) -> NDArray[np.float64] | None:
    none = index.frames(np.zeros(0, np.intp)).astype(np.float32)
    if scorer.p_none(none, np.zeros(0, np.float32)) is None:
        return None
    found = np.zeros(len(index))

    def work(shard: Shard, first: int, last: int) -> None:
        here = slice(shard.first + first, shard.first + last)
        frames = shard.frames[first:last].astype(np.float32)
        each = scorer.p_none(frames, index.motion[here])
        if each is not None:
            found[here] = each

    in_chunks(index, work, progress=progress)
    return found


def _readings(
    index: Index,
    scorer: BankScorer,
    scan: Scan,
    rows: NDArray[np.intp],
    p_none: NDArray[np.float64] | None,
) -> Iterator[Reading]:
    """What `watch` would have read from the windows of a file."""
    for first in range(0, len(rows), CHUNK):
        some = rows[first : first + CHUNK]
        frames = index.frames(some).astype(np.float32)
        for row, each in zip(some, frames, strict=True):
            yield _reading(index, scorer, scan, int(row), each, p_none)


def _reading(
    index: Index,
    scorer: BankScorer,
    scan: Scan,
    row: int,
    frames: Float32,
    all_p_none: NDArray[np.float64] | None,
) -> Reading:
    """What `watch` would have read from a window."""
    best, limit = int(scan.best[row]), scorer.threshold
    own = bool(scorer.own[index.length[row], best])
    p_none = None if all_p_none is None else float(all_p_none[row])
    accepted = own and not (p_none is not None and limit is not None and p_none > limit)
    held = own and holds(p_none, limit)
    first, last = float(index.t_start[row]), float(index.t_end[row])
    start, end = first, last
    moving = bool(scorer.changes(frames[None], best)[0] >= MOVING)
    if accepted or held:
        first, last = _seconds(index, row, scorer.parts(frames[None], best)[0])
    return Reading(
        int(index.length[row]), start, end, scorer.bank.labels[best], accepted, held,
        float(scan.score[row]), p_none, first, last, doubt(p_none, limit), moving,
    )  # fmt: skip


def _seconds(index: Index, row: int, part: NDArray[np.float64]) -> tuple[float, float]:
    """Begin and end of a part of a window, seconds of the file's clock."""
    start, end = float(index.t_start[row]), float(index.t_end[row])
    return start + float(part[0]) * (end - start), start + float(part[1]) * (end - start)


def clock(seconds: float) -> str:
    """A time as people read it: 1:02:03.4."""
    minutes, rest = divmod(round(seconds, 1), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{rest:04.1f}" if hours else f"{minutes}:{rest:04.1f}"
