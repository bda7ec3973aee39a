"""`mafsar.watch`: finds actions in long videos, cameras and streams, and gives them as events."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from mafsar.choices import Metric, TextUse, ViewsUse
from mafsar.errors import InputError, MafsarError, option
from mafsar.model.names import SHIPPED
from mafsar.runtime.bank.bank import Bank, is_bank, read_bank
from mafsar.runtime.encoder import Encoder
from mafsar.runtime.engines.loading import load_model
from mafsar.runtime.live.events import Event, State, Status, now
from mafsar.runtime.live.inbox import Inbox, News
from mafsar.runtime.live.intake import Cut, Intake, Viewer
from mafsar.runtime.live.judge import Judge
from mafsar.runtime.live.tracker import Reading, Span, Tracker
from mafsar.runtime.live.windows import Window, WindowPlan, paced, plan_windows
from mafsar.runtime.match.matcher import Matcher
from mafsar.video import Geometry
from mafsar.video.geometry import Roi
from mafsar.video.live.place import Place, places_of_all

FILES_AT_ONCE = 4
"""Files that are read side by side; live sources all are."""
_BUSY = 0.8  # share of the time that the encoder may take, for live sources
_PATIENCE = 0.2  # seconds without a window after which reloads and heartbeats are looked at
_BATCH_CPU, _BATCH_GPU = 4, 16
_CPU_PIXELS = 8 * 224 * 224  # of a call: more take memory, and no less time


@dataclass(frozen=True)
class WatchOptions:
    """How `Watch` looks at its sources; see `watch`."""

    window: Sequence[float] | None = None
    stride: float | None = None
    gap: float = 1.0
    min_duration: float = 0.3
    roi: Mapping[str, Roi] | None = None
    max_fps: float | None = None
    heartbeat: float = 60.0
    ignore_clock: float | None = None

    def __post_init__(self) -> None:
        for name in ("gap", "min_duration"):
            value = getattr(self, name)
            if not value >= 0:
                raise InputError(option(**{name: value}), ": must be ≥ 0 seconds")
        if self.max_fps is not None and not self.max_fps > 0:
            raise InputError(option(max_fps=self.max_fps), ": must be > 0 frames per second")
        if not self.heartbeat > 0:
            raise InputError(option(heartbeat=self.heartbeat), ": must be > 0 seconds")


@dataclass(eq=False)
class _Source:
    """What is known of one source."""

    place: Place
    intake: Intake | None
    trackers: list[Tracker]
    state: State | None = None
    delays: float = 0.0
    judged: int = 0
    seconds: float = 0.0


class Watch(Iterator[Event]):
    """The events of some sources, as an iterator; `watch` makes it.

    The sources are read in threads of their own; windows are encoded, and events decided, in the
    thread that iterates. It ends when all sources have ended or after `stop`, and then has ended all
    actions that were going on.

    Args:
        open_matcher: Makes the matcher; called again at `reload`.
        places: The sources.
        options: How they are looked at.
        status: Called with each `Status`, in the thread that iterates.
        viewer: Sees every frame of every source.

    Attributes:
        places: The sources.
        plan: Lengths and strides of the windows.
        windows: Windows that were judged so far.
        watched_seconds: Seconds of source that were read so far, of all sources together.
        sustained: Windows a second that this machine encodes; None before it was measured, which is
            done for live sources.
        on_turn: Called between windows, a few times a second at least; None = nothing.
        on_reading: Called with the number of the source and what each window says; None = nothing.
    """

    on_turn: Callable[[], None] | None = None
    on_reading: Callable[[int, Reading], None] | None = None

    def __init__(
        self,
        open_matcher: Callable[[], Matcher],
        places: Sequence[Place],
        options: WatchOptions | None = None,
        *,
        status: Callable[[Status], None] | None = None,
        viewer: Viewer | None = None,
    ) -> None:
        if not places:
            raise InputError("no source was named; give at least one")
        self.places = tuple(places)
        self._failed: dict[int, MafsarError] = {}
        self.windows = 0
        self.sustained: float | None = None
        self._options = options or WatchOptions()
        self._open_matcher = open_matcher
        self._status, self._viewer = status, viewer
        self._stopped = self._asked_to_reload = False
        self._generation = 0
        self._judge, self._cut = self._prepare(open_matcher())
        self._names: tuple[str | None, ...] = tuple(self._options.roi or ()) or (None,)
        self._sources = [_Source(place, None, self._new_trackers()) for place in self.places]
        self._inbox = Inbox(len(places))
        self._run_id = f"{int(time.time()):08x}{os.urandom(2).hex()}"
        self._events = 0
        self._ids: dict[int, str] = {}
        if any(place.is_live for place in places):
            self._fit_to_machine()
        self._iterator = self._run()

    @property
    def plan(self) -> WindowPlan:
        """Lengths and strides of the windows."""
        return self._judge.plan

    @property
    def matcher(self) -> Matcher:
        """What answers windows now; see `Matcher.for_windows`."""
        return self._judge.matcher

    @property
    def errors(self) -> list[tuple[str, MafsarError]]:
        """Sources that could not be read, with the error; of live ones those that never came."""
        return [(self.places[number].name, error) for number, error in self._failed.items()]

    @property
    def watched_seconds(self) -> float:
        """Seconds of source that were judged so far, of all sources together."""
        return sum(source.seconds for source in self._sources)

    def __next__(self) -> Event:
        return next(self._iterator)

    def stop(self) -> None:
        """Ends soon: actions that go on are ended, then the iterator is exhausted. From any thread."""
        self._stopped = True
        # No lock is taken: a signal handler may call this while the inbox is locked.

    def reload(self) -> None:
        """Reads bank and model again before the next window. From any thread or signal handler.

        If that fails, the old ones stay, and a status "refused" says why.
        """
        self._asked_to_reload = True

    def active(self) -> list[tuple[str, str | None, Span]]:
        """The actions that go on now: source, region and action."""
        return [
            (source.place.name, name, tracker.active)
            for source in self._sources
            for name, tracker in zip(self._names, source.trackers, strict=True)
            if tracker.active is not None
        ]

    def _prepare(self, matcher: Matcher) -> tuple[Judge, Cut]:
        """The judge and the cut for a matcher; the cut keeps its number where nothing changes."""
        matcher = matcher.for_windows()
        spec, bank, options = matcher.encoder.spec, matcher.bank, self._options
        plan = plan_windows(bank, spec.frames, options.window, options.stride)
        if options.stride is None:
            plan = paced(plan)
        regions = tuple(
            replace(bank.geometry, roi=roi) for roi in (options.roi or {}).values()
        ) or (bank.geometry,)
        return Judge(matcher, plan), Cut(self._generation, plan, spec.image_size, regions)

    def _new_trackers(self) -> list[Tracker]:
        options = self._options
        return [Tracker(options.gap, options.min_duration) for _ in self._names]

    def _batch(self) -> int:
        if self.matcher.encoder.device != "cpu":
            return _BATCH_GPU
        spec = self.matcher.encoder.spec
        fitting = _CPU_PIXELS // (spec.frames * spec.image_size**2)
        return min(max(fitting, 1), _BATCH_CPU)

    def _fit_to_machine(self) -> None:
        """Measures the encoder; live sources with automatic strides get longer ones if need be."""
        self.sustained = 1.0 / self._judge.seconds_per_window(self._batch())
        live = sum(place.is_live for place in self.places) * len(self._names)
        wanted = self.plan.per_second * live
        if self._options.stride is None and wanted > _BUSY * self.sustained:
            factor = wanted / (_BUSY * self.sustained)
            plan = replace(
                self.plan, strides=tuple(stride * factor for stride in self.plan.strides)
            )
            self._judge.plan = plan
            self._cut = replace(self._cut, plan=plan)

    def _run(self) -> Iterator[Event]:
        waiting = list(range(len(self._sources)))
        beat = time.monotonic()
        try:
            while not self._stopped:
                waiting = self._start(waiting)
                if self.on_turn is not None:
                    self.on_turn()
                if self._asked_to_reload:
                    self._asked_to_reload = False
                    self._reload()
                yield from self._judge_some()
                if time.monotonic() - beat >= self._options.heartbeat:
                    beat = time.monotonic()
                    for source in self._sources:
                        if source.state not in (None, "ended"):
                            self._say(source, source.state)
                if all(source.state == "ended" for source in self._sources):
                    break
            for source in self._sources:
                yield from self._finish(source)
        finally:
            self._inbox.close()
            for source in self._sources:
                if source.intake is not None and source.place.kind not in (
                    "frames",
                    "pushed",
                    "stdin",
                ):
                    source.intake.join(5.0)
        if len(self._failed) == len(self._sources):
            raise next(iter(self._failed.values()))

    def _start(self, waiting: list[int]) -> list[int]:
        """Starts live sources, and files as others end; returns those that still wait."""
        running = sum(
            source.intake is not None and source.state != "ended" and not source.place.is_live
            for source in self._sources
        )
        left: list[int] = []
        for number in waiting:
            source = self._sources[number]
            if not source.place.is_live:
                if running >= FILES_AT_ONCE:
                    left.append(number)
                    continue
                running += 1
            options = self._options
            source.intake = Intake(
                number,
                source.place,
                self._inbox,
                self._cut,
                max_fps=options.max_fps,
                ignore_clock=options.ignore_clock,
                viewer=self._viewer,
            )
            source.intake.start()
        return left

    def _judge_some(self) -> Iterator[Event]:
        """Takes windows of all sources, encodes them together and gives what follows from them."""
        items = self._inbox.take(self._batch(), _PATIENCE)
        windows = [
            item for _, item in items if isinstance(item, Window) and item.plan == self._generation
        ]
        readings = iter(self._judge.read(windows) if windows else [])
        self.windows += len(windows)
        done = time.monotonic()
        for number, item in items:
            source = self._sources[number]
            if isinstance(item, News):
                yield from self._hear(source, item)
                continue
            if item.plan != self._generation:
                continue
            source.seconds = max(source.seconds, item.times[-1])  # a last window reaches beyond
            source.delays += done - item.made
            source.judged += 1
            reading = next(readings)
            if self.on_reading is not None:
                self.on_reading(number, reading)
            for word, span in source.trackers[item.region].take(reading):
                yield self._event(word, source, self._names[item.region], span)

    def _hear(self, source: _Source, news: News) -> Iterator[Event]:
        """What follows from the news of a source."""
        if news.state in ("lost", "ended", "dark", "frozen"):
            yield from self._finish(source)
        number = self._sources.index(source)
        if news.error is not None:
            self._failed.setdefault(number, news.error)
            # Sources that have been there come back; where none was ever there, that is an error.
            if len(self._failed) == len(self._sources):
                self._stopped = True
        elif news.state == "open":
            self._failed.pop(number, None)
        source.seconds = max(source.seconds, news.seconds)
        message = news.message or (None if news.error is None else str(news.error))
        source.state = news.state
        self._say(source, news.state, message)

    def _finish(self, source: _Source) -> Iterator[Event]:
        for name, tracker in zip(self._names, source.trackers, strict=True):
            for word, span in tracker.finish():
                yield self._event(word, source, name, span)

    def _event(self, word: str, source: _Source, region: str | None, span: Span) -> Event:
        kind: Literal["start", "end"] = "start" if word == "start" else "end"
        if kind == "start":
            self._events += 1
            self._ids[id(span)] = f"{self._run_id}-{self._events}"
        key = self._ids[id(span)] if kind == "start" else self._ids.pop(id(span))
        return Event(
            kind, key, source.place.name, region, None, span.label, span.score, span.p_none,
            span.t_start, span.t_end if kind == "end" else None, now(),
        )  # fmt: skip

    def _say(self, source: _Source, state: State, message: str | None = None) -> None:
        delay = source.delays / source.judged if source.judged else None
        source.delays, source.judged = 0.0, 0
        if self._status is not None:
            fps = None if source.intake is None else source.intake.fps
            dropped = self._inbox.dropped[self._sources.index(source)]
            self._status(
                Status("status", source.place.name, state, fps, dropped, delay, message, now())
            )

    def _reload(self) -> None:
        state: State
        try:
            judge, cut = self._prepare(self._open_matcher())
            state, message = "reloaded", repr(judge.matcher.bank)
        except MafsarError as error:
            state, message = "refused", str(error)
        else:
            if cut_differs(cut, self._cut):
                self._generation += 1
                self._cut = replace(cut, number=self._generation)
                for source in self._sources:
                    if source.intake is not None:
                        source.intake.recut(self._cut)
            else:
                judge.plan = replace(judge.plan, strides=self._cut.plan.strides)
            self._judge = judge
        if self._status is not None:
            dropped = sum(self._inbox.dropped)
            self._status(Status("status", None, state, None, dropped, None, message, now()))


def cut_differs(one: Cut, other: Cut) -> bool:
    """Whether windows of one cut are of no use to the other; strides may differ."""
    return (one.plan.lengths, one.plan.frames, one.size, one.regions) != (
        other.plan.lengths,
        other.plan.frames,
        other.size,
        other.regions,
    )


def watch(
    support: Bank | str | Path | Mapping[str, Any],
    *sources: Any,
    model: Encoder | str | Path | None = None,
    window: Sequence[float] | None = None,
    stride: float | None = None,
    threshold: float | Literal["auto", "off"] = "auto",
    far: float | None = None,
    gap: float = 1.0,
    min_duration: float = 0.3,
    roi: Mapping[str, Roi] | None = None,
    text: TextUse = "auto",
    metric: Metric | None = None,
    views: ViewsUse = "auto",
    geometry: Geometry | None = None,
    max_fps: float | None = None,
    heartbeat: float = 60.0,
    ignore_clock: float | None = None,
    status: Callable[[Status], None] | None = None,
) -> Watch:
    """Finds actions in long videos, cameras and streams.

        for event in mafsar.watch("actions.safetensors", "rtsp://camera/1"):
            print(event.event, event.label, event.t_start, event.t_end)

    Files are read as fast as they can be judged. Of a live source the newest windows are judged, and
    those that the encoder is too late for are dropped and counted.

    Args:
        support: A bank, a bank file, or what `mafsar.enroll` takes.
        sources: Paths, folders, cameras (`0`, "/dev/video0", "csi://0"), streams ("rtsp://…"), "-" for
            stdin, "NAME=SOURCE", or iterables of (seconds, frame) with frames uint8 RGB (H, W, 3).
        model: An encoder, or the name or path of a model; None = that of the bank, else `tiny`.
        window: One to three lengths of the windows, seconds; None = the longest clip of each class.
        stride: Seconds from one window to the next; None = an eighth to half of their length, for
            at most 2.75 windows a second where that is possible, or what this machine sustains for
            the live sources.
        threshold: See `Matcher`.
        far: The false-accept rate that two windows of nothing, a quarter of their length apart, have
            together; see `Matcher`.
        gap: An action that is named again within this is the same action, seconds.
        min_duration: Shorter actions are left out, seconds.
        roi: Regions by name, each (X, Y, width, height) in pixels or 0–1; each has events of its own.
        text: See `Matcher` for a bank, `mafsar.enroll` for other supports.
        metric: See `Matcher`.
        views: See `Matcher`.
        geometry: Which part of the picture the model sees; None = the bank's.
        max_fps: Frames per second to look at, at most.
        heartbeat: Seconds between two statuses of a source.
        ignore_clock: Frames per second that replace the timestamps of video files, also of a support
            that is enrolled.
        status: Called with each `Status` of a source, in the thread that iterates.

    Returns:
        An iterator of `Event` with `stop()` and `reload()`.

    Raises:
        MafsarError: Support or model cannot be read, an argument does not fit, or there is no such
            source. While iterating: none of the sources can be read.
    """
    options = WatchOptions(
        window=window,
        stride=stride,
        gap=gap,
        min_duration=min_duration,
        roi=roi,
        max_fps=max_fps,
        heartbeat=heartbeat,
        ignore_clock=ignore_clock,
    )
    places = places_of_all(sources)
    encoder = load_model(model) if isinstance(model, (str, Path)) else model

    def open_matcher() -> Matcher:
        if isinstance(support, Bank):
            bank, used = support, encoder
        elif isinstance(support, (str, Path)) and is_bank(support):
            bank, used = read_bank(support), encoder
        else:
            from mafsar.runtime.bank.enroll import enroll

            used = load_model(SHIPPED) if encoder is None else encoder
            bank = enroll(
                support, used, text=text, views=views, geometry=geometry, ignore_clock=ignore_clock
            )
            return Matcher(bank, used, metric=metric, threshold=threshold, far=far)
        return Matcher(
            bank, used, text=text, metric=metric, views=views, threshold=threshold, far=far
        )

    return Watch(open_matcher, places, options, status=status)
