"""Watching the camera of a browser: the page sends its frames, and hears what is found in them."""

from __future__ import annotations

import io
import math
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
from PIL import Image

from mafsar.errors import InputError, MafsarError
from mafsar.runtime.encoder import Frames
from mafsar.runtime.live.events import Status
from mafsar.runtime.live.tracker import Reading
from mafsar.runtime.live.watch import Watch, WatchOptions
from mafsar.runtime.match.matcher import Matcher
from mafsar.video.live.place import Place

SOURCE = "camera"
SILENT_SECONDS = 15.0
"""A page that sends nothing for this long has gone; its watching ends."""
_WAITING = 8  # frames; then the oldest is dropped
_FAR_SECONDS = 60.0  # a clock that jumps further is no clock
_MOST_PIXELS = 1920 * 1080
_KEPT = 500  # events and readings that a page can still ask for

Threshold = float | Literal["auto", "off"]


class Feed:
    """Frames that come at their own speed: an iterable of (seconds, frame); the newest are kept."""

    def __init__(self) -> None:
        self.dropped = 0
        self._frames: deque[tuple[float, Frames]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._last = -math.inf

    def put(self, seconds: float, frame: Frames) -> bool:
        """Adds a frame; False where it is not after the one before, and was left out.

        Raises:
            InputError: The time is no number, or jumps.
        """
        with self._changed:
            jumps = math.isfinite(self._last) and seconds - self._last > _FAR_SECONDS
            if jumps or not math.isfinite(seconds):
                raise InputError(f"the frame's time, {seconds:g} s, does not follow the one before")
            if seconds <= self._last:
                return False
            self._last = seconds
            if len(self._frames) >= _WAITING:
                self._frames.popleft()
                self.dropped += 1
            self._frames.append((seconds, frame))
            self._changed.notify()
            return True

    def close(self) -> None:
        """No more frames come."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def __iter__(self) -> Iterator[tuple[float, Frames]]:
        while True:
            with self._changed:
                came = self._changed.wait_for(
                    lambda: bool(self._frames) or self._closed, SILENT_SECONDS
                )
                if not self._frames or not came:
                    return
                item = self._frames.popleft()
            yield item


class LiveSession:
    """Watches the frames of one page.

    Args:
        open_matcher: Makes a matcher of clips with a threshold of p_none; called again when the bank
            or the threshold changes.
        threshold: The first threshold.

    Raises:
        MafsarError: There is nothing to match with.
    """

    def __init__(
        self, open_matcher: Callable[[Threshold], Matcher], threshold: Threshold = "auto"
    ) -> None:
        self._threshold = threshold
        self._feed = Feed()
        self._said: deque[tuple[int, dict[str, Any]]] = deque(maxlen=_KEPT)
        self._count = 0
        self._lock = threading.Lock()
        self._watch = Watch(
            lambda: open_matcher(self._threshold),
            [Place(SOURCE, "pushed", self._feed)],
            WatchOptions(heartbeat=5.0),
            status=self._status,
        )
        self._watch.on_reading = self._reading
        self.problem: str | None = None
        self._thread = threading.Thread(target=self._run, name="mafsar-studio-live", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether it still watches."""
        return self._thread.is_alive()

    @property
    def plan(self) -> dict[str, Any]:
        """Windows and threshold, for the page."""
        plan = self._watch.plan
        return {
            "lengths": [round(length, 3) for length in plan.lengths],
            "strides": [round(stride, 3) for stride in plan.strides],
            "threshold": self._watch.matcher.threshold,
        }

    def put(self, seconds: float, data: bytes) -> None:
        """Takes a frame as JPEG.

        Raises:
            InputError: It is not a JPEG of at most 1920 × 1080 pixels, or its time jumps.
        """
        self._feed.put(seconds, decoded(data))

    def set_threshold(self, threshold: Threshold) -> None:
        """Judges by another threshold from the next window on."""
        self._threshold = threshold
        self._watch.reload()

    def reload(self) -> None:
        """Takes in a bank that has changed."""
        self._watch.reload()

    def heard(self, since: int) -> dict[str, Any]:
        """What was found since an answer before, and the number to ask with the next time."""
        with self._lock:
            said = [document for number, document in self._said if number > since]
            return {
                "said": said,
                "next": self._count,
                "alive": self.is_alive,
                "problem": self.problem,
            }

    def close(self, seconds: float = 5.0) -> None:
        """Ends it; the actions that go on are ended."""
        self._feed.close()
        self._thread.join(seconds)
        self._watch.stop()

    def _run(self) -> None:
        try:
            for event in self._watch:
                self._say(event.to_json())
        except MafsarError as error:
            self.problem = str(error)

    def _status(self, status: Status) -> None:
        self._say(status.to_json() | {"threshold": self._watch.matcher.threshold})

    def _reading(self, _source: int, reading: Reading) -> None:
        self._say(
            {
                "event": "reading",
                "label": reading.best,
                "score": round(reading.score, 4),
                "p_none": None if reading.p_none is None else round(reading.p_none, 4),
                "accepted": reading.accepted,
                "t_end": round(reading.end, 3),
            }
        )

    def _say(self, document: dict[str, Any]) -> None:
        with self._lock:
            self._count += 1
            self._said.append((self._count, document))


def decoded(data: bytes) -> Frames:
    """A JPEG as (H, W, 3), uint8 RGB.

    Raises:
        InputError: It is none, or larger than 1920 × 1080 pixels.
    """
    try:
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
            if image.width * image.height > _MOST_PIXELS:
                raise InputError(f"a frame of {image.width} × {image.height} pixels is too large")
            return np.asarray(image.convert("RGB"), np.uint8)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError("the frame is not a JPEG") from None
