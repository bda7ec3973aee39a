"""What the threads of the sources hand to the one that encodes: windows and news, in order."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass

from mafsar.errors import MafsarError
from mafsar.runtime.live.events import State
from mafsar.runtime.live.windows import Window

WAITING = 16
"""Windows of a file that may wait; then its decoder waits."""


@dataclass(frozen=True)
class News:
    """What has become of a source.

    Attributes:
        state: Its state.
        seconds: Time of its last frame.
        message: A sentence, or None.
        error: Why it ended, where it should not have.
    """

    state: State
    seconds: float
    message: str | None = None
    error: MafsarError | None = None


Item = Window | News


class Inbox:
    """Queues of several sources, emptied by one thread.

    A file waits for its windows to be taken. Of a live source only the newest window of each region
    and length waits: an older one is dropped and counted.

    Args:
        sources: How many.
    """

    def __init__(self, sources: int) -> None:
        self._queues: list[deque[Item]] = [deque() for _ in range(sources)]
        self._changed = threading.Condition()
        self._turn = 0
        self.dropped = [0] * sources
        self.closed = False

    def put(self, source: int, item: Item, *, newest_only: bool) -> bool:
        """Adds an item of a source; False once the inbox is closed."""
        queue = self._queues[source]
        with self._changed:
            if isinstance(item, Window):
                item.made = time.monotonic()
                if newest_only:
                    self._drop_older(source, item)
                while len(queue) >= WAITING and not newest_only and not self.closed:
                    self._changed.wait(0.5)
            if not self.closed:
                queue.append(item)
            self._changed.notify_all()
            return not self.closed

    def _drop_older(self, source: int, item: Window) -> None:
        queue = self._queues[source]
        for older in queue:
            if (
                isinstance(older, Window)
                and (older.region, older.length) == (item.region, item.length)
                and older.plan == item.plan
            ):
                queue.remove(older)
                self.dropped[source] += 1
                return

    def take(self, most: int, seconds: float) -> list[tuple[int, Item]]:
        """Up to `most` windows and the news before and between them, the sources in turn.

        Args:
            most: Windows.
            seconds: How long to wait for the first one.

        Returns:
            Numbers of sources and their items, in the order of each source.
        """
        with self._changed:
            if not any(self._queues) and not self.closed:
                self._changed.wait(seconds)
            taken: list[tuple[int, Item]] = []
            windows = 0
            idle = 0
            while idle < len(self._queues) and windows < most:
                number = self._turn % len(self._queues)
                self._turn += 1
                queue = self._queues[number]
                idle = 0 if queue else idle + 1
                if queue:
                    item = queue.popleft()
                    windows += isinstance(item, Window)
                    taken.append((number, item))
            self._changed.notify_all()
            return taken

    def close(self) -> None:
        """Nothing more is taken: whoever waits goes on."""
        with self._changed:
            self.closed = True
            for queue in self._queues:
                queue.clear()
            self._changed.notify_all()
