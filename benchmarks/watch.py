"""`mafsar watch` on rendered streams whose events are known, beside argmax with a majority vote.

    python benchmarks/watch.py --seeds 3,4          # two banks of five classes, two streams of each
    python benchmarks/watch.py --idle-hours 2 --real DIR  # and false events in streams without those classes
    python benchmarks/watch.py --loop-minutes 20    # growth of memory over a looped stream

Both sides answer the very same windows by the same matcher and the same p_none threshold. The baseline
calls an action what two of three successive windows of one length name, from the border of the first
window to that of the last, as sliding-window recipes do; events of one label that touch are joined.
`watch` adds consensus by doubt and hysteresis, and reads start and end from the alignment. "oracle" is
told where every true event begins and ends, and names it as a clip: what is left is not the tracker's.

Segment F1: a found event is right if its label and its overlap with a true one (intersection over
union ≥ 0.5) are; each true event counts once. Delay: from the true start to the moment of the stream at
which `start` was said, over found events of the right label that overlap the true one and were said after
it began. With --features, encoded windows are kept, so that an interrupted run goes on where it was;
speed is that of windows that were not.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from watch_features import KeptFeatures
from watch_streams import Segment, stream, support, truth_of

import mafsar
from mafsar.runtime.live.judge import Judge
from mafsar.runtime.live.tracker import Reading, Tracker
from mafsar.runtime.live.watch import Watch, WatchOptions
from mafsar.video import load_clip
from mafsar.video.live.place import places_of

LENGTHS = ((0.5, 1.5), (1.5, 4.0), (4.0, 12.5))
OVERLAP = 0.5


@dataclass
class Side:
    """What one side found in all streams, and what was there."""

    found: list[list[Segment]] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)


class Recorder(Judge):
    """A judge that keeps its readings, so that the baseline sees the same answers."""

    readings: list[Reading]

    def read(self, windows: Sequence[object]) -> list[Reading]:
        made = super().read(windows)  # type: ignore[arg-type]
        self.readings += made
        return made


def watched(
    matcher: mafsar.Matcher, source: object, options: WatchOptions
) -> tuple[list[Segment], list[Reading], Watch]:
    """The events of a source with the moment at which each start was said, and all readings."""
    watch = Watch(lambda: matcher, places_of(source), options)
    recorder = Recorder(watch.matcher, watch.plan)
    recorder.readings = []
    watch._judge = recorder  # the readings of this very run
    said: dict[str, float] = {}
    found = []
    for event in watch:
        if event.event == "start":
            said[event.id] = max(each.end for each in recorder.readings)
        else:
            assert event.t_end is not None
            found.append(Segment(event.label, event.t_start, event.t_end, said[event.id]))
    return found, recorder.readings, watch


def said_at(found: list[Segment], readings: list[Reading]) -> list[Segment]:
    """The same with `said` as the end of the window that decided, not of its batch."""
    tracker, out = Tracker(1.0, 0.3), []
    said = began = 0.0
    for reading in readings:
        for word, span in tracker.take(reading):
            if word == "start":
                said = reading.end
            else:
                out.append(Segment(span.label, span.t_start, span.t_end, began))
        if tracker.active is not None and said == reading.end:
            began = said
    for _, span in tracker.finish():
        out.append(Segment(span.label, span.t_start, span.t_end, began))
    assert [(s.label, s.start, s.end) for s in out] == [(s.label, s.start, s.end) for s in found]
    return out


def argmax(readings: Sequence[Reading]) -> list[Segment]:
    """The baseline: per length, the label of two of three windows; adjacent ones are joined."""
    found: list[Segment] = []
    for length in {each.length for each in readings}:
        recent: deque[Reading] = deque(maxlen=3)
        current: Segment | None = None
        for reading in (each for each in readings if each.length == length):
            recent.append(reading)
            names = [each.best for each in recent if each.accepted]
            best = max(set(names), key=names.count, default=None)
            agreed = best if best is not None and names.count(best) >= 2 else None
            if current is not None and agreed != current.label:
                found.append(current)
                current = None
            if agreed is None:
                continue
            members = [each for each in recent if each.accepted and each.best == agreed]
            if current is None:
                current = Segment(agreed, members[0].start, members[-1].end, reading.end)
            else:
                current = Segment(agreed, current.start, members[-1].end, current.said)
        if current is not None:
            found.append(current)
    joined: list[Segment] = []
    for each in sorted(found, key=lambda each: each.start):
        for k, other in enumerate(joined):
            if other.label == each.label and each.start <= other.end:
                said = min(each.said, other.said)
                joined[k] = Segment(each.label, other.start, max(each.end, other.end), said)
                break
        else:
            joined.append(each)
    return joined


def overlap(one: Segment, other: Segment) -> float:
    """Intersection over union of two segments, 0–1."""
    shared = min(one.end, other.end) - max(one.start, other.start)
    return max(shared, 0.0) / (max(one.end, other.end) - min(one.start, other.start) + 1e-9)


def matched(found: Sequence[Segment], truth: Sequence[Segment]) -> dict[int, int]:
    """Which true event each found one is, by index; the largest overlaps first."""
    pairs = sorted(
        (
            (overlap(one, other), i, j)
            for i, one in enumerate(found)
            for j, other in enumerate(truth)
            if one.label == other.label and overlap(one, other) >= OVERLAP
        ),
        reverse=True,
    )
    taken: dict[int, int] = {}
    for _, i, j in pairs:
        if i not in taken and j not in taken.values():
            taken[i] = j
    return taken


def scored(
    side: Side, truths: Sequence[Sequence[Segment]], labels: Sequence[str], hours: float
) -> dict[str, object]:
    """F1 by length of the true event, precision, recall, delays, and found events that touch no true one."""
    right = found_count = true_count = false = 0
    by_length = {bounds: [0, 0] for bounds in LENGTHS}
    delays = []
    for found, every in zip(side.found, truths, strict=True):
        truth = [each for each in every if each.label in labels]
        taken = matched(found, truth)
        right += len(taken)
        found_count += len(found)
        true_count += len(truth)
        for j, each in enumerate(truth):
            for (low, high), counts in by_length.items():
                if low <= each.end - each.start < high:
                    counts[0] += j in taken.values()
                    counts[1] += 1
            # One that was said before the action began is another that was not ended in time.
            hits = [
                one.said
                for one in found
                if one.label == each.label and overlap(one, each) > 0 and one.said >= each.start
            ]
            if hits:
                delays.append(min(hits) - each.start)
        false += sum(
            not any(
                one.label == each.label and one.start < each.end and one.end > each.start
                for each in truth
            )
            for one in found
        )
    precision, recall = right / max(found_count, 1), right / max(true_count, 1)
    return {
        "f1": 2 * precision * recall / max(precision + recall, 1e-9),
        "precision": precision,
        "recall": recall,
        "recall_by_length": {
            f"{low:g}-{high:g} s": [a, b] for (low, high), (a, b) in by_length.items()
        },
        "delay_median": float(np.median(delays)) if delays else None,
        "delay_mean": float(np.mean(delays)) if delays else None,
        "delay_p95": float(np.percentile(delays, 95)) if delays else None,
        "false_per_hour": false / hours,
        "found": found_count,
        "true": true_count,
    }


@dataclass
class Runs:
    """What was found in some streams."""

    sides: dict[str, Side]
    truths: list[list[Segment]] = field(default_factory=list)
    labels: set[str] = field(default_factory=set)
    seconds: float = 0.0

    def scores(self) -> dict[str, object]:
        """Of each side."""
        hours = self.seconds / 3600
        return {
            name: scored(side, self.truths, sorted(self.labels), hours)
            for name, side in self.sides.items()
        }


def compare(matcher: mafsar.Matcher, paths: Sequence[Path], runs: Runs) -> dict[str, object]:
    """Adds what each side finds in the streams of one bank; says what it took."""
    seconds, windows = 0.0, 0
    began, cpu = time.perf_counter(), time.process_time()
    for path in paths:
        found, readings, watch = watched(matcher, path, WatchOptions())
        seconds += watch.watched_seconds
        windows += watch.windows
        truth = [each for each in truth_of(path) if each.label in matcher.bank.labels]
        runs.truths.append(truth)
        runs.sides["watch"].found.append(said_at(found, readings))
        runs.sides["argmax"].found.append(argmax(readings))
        runs.sides["oracle"].found.append(oracle(watch.matcher, path))
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    runs.labels |= set(matcher.bank.labels)
    runs.seconds += seconds
    return {
        "classes": list(matcher.bank.labels), "threshold": watch.matcher.threshold,
        "seconds": seconds, "windows": windows, "times_real_time": seconds / wall,
        "times_real_time_cpu": seconds / cpu, "windows_per_second": windows / wall,
        "lengths": watch.plan.lengths, "strides": watch.plan.strides,
    }  # fmt: skip


def oracle(matcher: mafsar.Matcher, path: Path) -> list[Segment]:
    """Every event of the truth, of other classes too, named as a clip with its very borders."""
    spec = matcher.encoder.spec
    found = []
    for each in truth_of(path):
        clip = load_clip(
            path, frames=spec.frames, size=spec.image_size, start=each.start, end=each.end
        )
        (answer,) = matcher.answer_clips([clip])
        if answer.label is not None:
            found.append(Segment(answer.label, each.start, each.end, each.end))
    return found


def false_events(matcher: mafsar.Matcher, paths: Sequence[Path], hours: float) -> dict[str, float]:
    """Events an hour where no enrolled action is, both sides; files are looped as long as need be."""
    counts = {"watch": 0, "argmax": 0}
    seconds = 0.0
    known: dict[Path, tuple[int, int, float]] = {}
    number = 0
    while seconds < hours * 3600:
        path = paths[number % len(paths)]
        if path not in known:  # a loop gives the same events again
            found, readings, watch = watched(matcher, path, WatchOptions())
            known[path] = len(found), len(argmax(readings)), max(watch.watched_seconds, 0.1)
        number += 1
        of_watch, of_argmax, length = known[path]
        counts["watch"] += of_watch
        counts["argmax"] += of_argmax
        seconds += length
    return {name: count / (seconds / 3600) for name, count in counts.items()} | {
        "hours": seconds / 3600,
        "distinct_minutes": sum(length for *_, length in known.values()) / 60,
    }


def growth(matcher: mafsar.Matcher, path: Path, minutes: float) -> dict[str, float]:
    """Growth of the resident memory over a looped stream at full speed, after its first minute, MB."""
    frames = [(each.seconds, each.picture().pixels) for each in _frames(path, 60.0)]
    step = frames[-1][0] + frames[1][0]

    def looped() -> Iterator[tuple[float, np.ndarray]]:
        for turn in range(int(minutes * 60 / step) + 1):
            for seconds, pixels in frames:
                yield turn * step + seconds, pixels

    watch = Watch(lambda: matcher, places_of(looped()), WatchOptions())
    sizes: list[tuple[float, float]] = []
    last = -1.0

    def turn() -> None:
        nonlocal last
        if watch.watched_seconds > last + 5:
            last = watch.watched_seconds
            sizes.append((last, _resident()))

    watch.on_turn = turn
    for _ in watch:
        pass
    early = [size for at, size in sizes if 60 <= at < 120]
    late = [size for at, size in sizes if at > sizes[-1][0] - 60]
    return {
        "minutes": watch.watched_seconds / 60,
        "growth_mb": float(np.median(late) - np.median(early)),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _frames(path: Path, seconds: float) -> Iterator:
    from mafsar.video.live.file_frames import open_file

    with open_file(path) as source:
        for frame in source.frames:
            if frame.seconds > seconds:
                return
            yield frame


def _resident() -> float:
    with open("/proc/self/statm") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--seeds", default="3,4", help="one bank and its streams for each")
    parser.add_argument("--streams", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--idle-hours", type=float, default=0.0)
    parser.add_argument("--idle-streams", type=int, default=4, help="looped for so long")
    parser.add_argument("--real", type=Path, help="folder of real clips, looped for false events")
    parser.add_argument("--loop-minutes", type=float, default=0.0)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "mafsar-watch")
    parser.add_argument("--features", type=Path, help="file in which encoded windows are kept")
    parser.add_argument("-o", "--out", type=Path)
    asked = parser.parse_args()
    encoder = mafsar.load_model(asked.model)
    if asked.features:
        encoder = KeptFeatures(encoder, asked.features)  # type: ignore[assignment]
    results: dict[str, object] = {"machine": platform.processor() or platform.machine()}

    def matcher_of(seed: int, none: list[Path] | None = None) -> mafsar.Matcher:
        bank = mafsar.enroll(support(asked.folder, seed), encoder, none=none)
        return mafsar.Matcher(bank, encoder)

    def say(name: str, found: object) -> None:
        results[name] = found
        print(name, json.dumps(found), flush=True)
        if asked.out:
            asked.out.write_text(json.dumps(results, indent=1) + "\n")

    seeds = [int(word) for word in asked.seeds.split(",")]
    runs = Runs({name: Side() for name in ("watch", "argmax", "oracle")})
    for seed in seeds if asked.streams else ():
        paths = [stream(asked.folder, seed, k, asked.seconds) for k in range(asked.streams)]
        one = Runs({name: Side() for name in runs.sides})
        say(f"seed {seed}", compare(matcher_of(seed), paths, one))
        say(f"scores of seed {seed}", one.scores())
        for name, side in runs.sides.items():
            side.found += one.sides[name].found
        runs.truths += one.truths
        runs.labels |= one.labels
        runs.seconds += one.seconds
    if len(seeds) > 1 and asked.streams:
        say("scores", runs.scores())
    if asked.idle_hours:
        seed = seeds[0]
        many = range(asked.idle_streams + 1)
        idle = [stream(asked.folder, seed, k, asked.seconds, idle=True) for k in many]
        places = {"rendered": (idle[1:], idle[:1])}
        if asked.real:
            clips = [Path(each.where) for each in places_of(asked.real)]
            places["real"] = clips[::2], clips[1::2]
        for name, (asked_of, background) in places.items():
            for words, none in (("without", None), ("with", background)):
                found = false_events(matcher_of(seed, none), asked_of, asked.idle_hours)
                say(f"{name}, {words} _none", found)
    if asked.loop_minutes:
        path = stream(asked.folder, seeds[0], 0, asked.seconds)
        say("loop", growth(matcher_of(seeds[0]), path, asked.loop_minutes))


if __name__ == "__main__":
    main()
