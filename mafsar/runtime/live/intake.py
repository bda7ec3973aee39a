"""The thread of one source: decodes, cuts windows, says when it is lost, dark or frozen, and reconnects."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np

from mafsar.errors import MafsarError, VideoError
from mafsar.runtime.encoder import Frames
from mafsar.runtime.live.inbox import Inbox, News
from mafsar.runtime.live.windows import WindowCutter, WindowPlan
from mafsar.video import Geometry
from mafsar.video.live.clock import LiveClock
from mafsar.video.live.file_frames import open_file
from mafsar.video.live.frames import LostSourceError, OpenSource, TimedFrame, open_stream
from mafsar.video.live.place import Place
from mafsar.video.live.signs import Sign, Signs
from mafsar.video.picture import Picture
from mafsar.video.preprocess import to_square

FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0
"""Seconds before a lost source is opened again; doubled at each failure."""
_RATE_SECONDS = 5.0

Viewer = Callable[[int, float, Callable[[], Picture]], None]
"""Called with the number of a source, the time of a frame and what makes its picture, for each frame
and in the thread of the source; it must not take long."""


@dataclass(frozen=True)
class Cut:
    """How a source is cut into windows.

    Attributes:
        number: Of the plan; windows say by which they were cut.
        plan: Lengths and strides.
        size: S, the side of the squares, pixels.
        regions: Geometry of each region.
    """

    number: int
    plan: WindowPlan
    size: int
    regions: tuple[Geometry, ...]


class Intake(threading.Thread):
    """Reads one source until it ends or the inbox is closed.

    Args:
        number: Of the source in the inbox.
        place: The source.
        inbox: Where windows and news go.
        cut: How windows are cut.
        max_fps: Frames that come faster than this are passed over; None = all are looked at.
        ignore_clock: Frames a second instead of the timestamps of a file.
        viewer: Sees every frame.
    """

    def __init__(
        self,
        number: int,
        place: Place,
        inbox: Inbox,
        cut: Cut,
        *,
        max_fps: float | None = None,
        ignore_clock: float | None = None,
        viewer: Viewer | None = None,
    ) -> None:
        super().__init__(name=f"mafsar-source-{number}", daemon=True)
        self.place = place
        self._number, self._inbox, self._cut = number, inbox, cut
        self._next_cut: Cut | None = None
        self._least_step = 0.0 if max_fps is None else 1.0 / max_fps - 1e-3
        self._ignore_clock = ignore_clock
        self._viewer = viewer
        self._cutter = WindowCutter(cut.plan, len(cut.regions))
        self._clock = LiveClock(paced=place.is_live)
        self._signs = Signs()
        self._sign: Sign | None = None
        self._held: TimedFrame | None = None
        self._arrivals: deque[float] = deque(maxlen=600)
        self._came = 0
        self._stated: float | None = None

    @property
    def fps(self) -> float | None:
        """Frames a second: those that came lately from a live source, else what a file states."""
        if not self.place.is_live:
            return self._stated
        recent = [at for at in list(self._arrivals) if at > time.monotonic() - _RATE_SECONDS]
        return (len(recent) - 1) / (recent[-1] - recent[0]) if len(recent) > 2 else None

    def recut(self, cut: Cut) -> None:
        """Cuts by another plan from the next frame on."""
        self._next_cut = cut

    def run(self) -> None:
        """Reads the source; see the class."""
        wait, opened = FIRST_WAIT, False
        while not self._inbox.closed:
            self._came = 0
            try:
                with self._open() as source:
                    self._stated = source.fps
                    self._read(source, again=opened)
                self._tell(News("ended", self._clock.seconds))
                return
            except LostSourceError as error:
                opened = opened or self._came > 0
                if not self.place.is_live:
                    self._tell(News("ended", self._seconds, error=error))
                    return
                # Only what has never come is reported as an error; the rest comes back.
                self._tell(News("lost", self._seconds, str(error), error=None if opened else error))
                self._forget()
                wait = FIRST_WAIT if self._came else min(2 * wait, LONGEST_WAIT)
                self._sleep(wait)
            except MafsarError as error:
                self._tell(News("ended", self._seconds, error=error))
                return
            except Exception as error:  # noqa: BLE001 - of any decoder or iterable
                reason = " ".join(f"{type(error).__name__}: {error}".split())
                failure = VideoError(f"{self.place.name}: cannot be read ({reason})")
                failure.__cause__ = error
                self._tell(News("ended", self._seconds, error=failure))
                return

    @property
    def _seconds(self) -> float:
        return self._clock.seconds if self._held is None else self._held.seconds

    def _open(self) -> AbstractContextManager[OpenSource]:
        if self.place.kind == "file":
            # Frames that no window takes need not be decoded, unless someone looks at them all.
            def wanted(timeline: object) -> np.ndarray:
                return self._cutter.wanted(timeline.duration_seconds)  # type: ignore[attr-defined]

            chosen = wanted if self._viewer is None and not self._least_step else None
            return open_file(self.place.where, chosen, self._ignore_clock, enough=self._enough)
        return open_stream(self.place, self._clock, self._enough)

    def _enough(self) -> int | None:
        """To what large pictures are reduced: a region or a viewer may want every pixel."""
        if self._viewer is not None or any(each.roi for each in self._cut.regions):
            return None
        return 2 * self._cut.size

    def _read(self, source: OpenSource, *, again: bool) -> None:
        last = -np.inf
        for frame in source.frames:
            if self._inbox.closed:
                return
            self._arrivals.append(time.monotonic())
            self._came += 1
            if self._came == 1:
                self._tell(News("back" if again else "open", frame.seconds))
            if frame.seconds - last < self._least_step:
                continue
            last = frame.seconds
            if self._held is not None:
                self._show(self._held, frame.seconds)
            self._held = frame
        if self._held is not None:
            self._show(self._held, source.end())
            self._held = None
        for window in self._cutter.finish():
            window.plan = self._cut.number
            self._inbox.put(self._number, window, newest_only=False)

    def _show(self, frame: TimedFrame, until: float) -> None:
        """Gives a frame that is shown until then to the windows and to the viewer."""
        if self._next_cut is not None:
            self._cut, self._next_cut = self._next_cut, None
            self._cutter = WindowCutter(self._cut.plan, len(self._cut.regions), since=frame.seconds)
        picture = _once(frame.picture)
        if self._viewer is not None:
            self._viewer(self._number, frame.seconds, picture)

        def squares() -> Sequence[Frames]:
            shown = picture()
            made = [to_square(shown, self._cut.size, each) for each in self._cut.regions]
            self._look(frame.seconds, made[0])
            return made

        for window in self._cutter.take(frame.seconds, until, squares):
            if self._sign is None:
                window.plan = self._cut.number
                self._inbox.put(self._number, window, newest_only=self.place.is_live)

    def _look(self, seconds: float, square: Frames) -> None:
        sign = self._signs.see(seconds, square)
        if sign != self._sign:
            self._sign = sign
            self._tell(News(sign or "back", seconds))

    def _forget(self) -> None:
        """What was seen before a gap is in no window after it, and is no sign of what comes."""
        self._held = None
        self._signs, self._sign = Signs(), None
        self._clock.restart()
        self._cutter = WindowCutter(
            self._cut.plan, len(self._cut.regions), since=self._clock.seconds
        )

    def _tell(self, news: News) -> None:
        self._inbox.put(self._number, news, newest_only=False)

    def _sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._inbox.closed and time.monotonic() < until:
            time.sleep(0.1)


def _once(picture: Callable[[], Picture]) -> Callable[[], Picture]:
    """Makes a picture at most once, whichever threads ask."""
    lock = threading.Lock()
    made: list[Picture] = []

    def make() -> Picture:
        with lock:
            if not made:
                made.append(picture())
            return made[0]

    return make
