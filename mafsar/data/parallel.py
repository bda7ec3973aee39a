"""Work on many clips in threads, answered in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    function: Callable[[Item], Result], items: Iterable[Item], *, workers: int
) -> Generator[Result, None, None]:
    """Calls a function in threads and yields its results in the order of the items.

    At most twice as many results as threads wait, so that memory is bounded; closing the generator
    drops what has not begun and waits for what has.

    Args:
        function: Called with one item; what it raises is raised here.
        items: Read lazily.
        workers: Threads, ≥ 1.
    """
    pending: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="mafsar-data")
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) >= 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
