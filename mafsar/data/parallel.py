"""Runs a function on many items in threads or processes, with results in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_AHEAD = 512  # items submitted to processes before their results are taken


def in_order(
    function: Callable[[Item], Result], items: Iterable[Item], *, workers: int
) -> Generator[Result, None, None]:
    """Calls a function in threads and yields its results in the order of the items.

    At most two results per thread wait, so that memory is bounded. Closing the generator drops
    calls that have not begun and waits for those that have.

    Args:
        function: Called with one item; its exceptions are raised here.
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


def in_processes(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    workers: int | None = None,
    chunk: int = 1,
) -> Iterator[Result]:
    """Calls a function in processes and yields its results in the order of the items.

    With one worker or one item the function runs in this process.

    Args:
        function: Called with one item; its exceptions are raised here. It and the items are
            pickled.
        items: The items.
        workers: Processes; None = one per core.
        chunk: Items that a process takes at a time.
    """
    count = min(len(items), workers or os.cpu_count() or 1)
    if count <= 1:
        yield from map(function, items)
        return
    # Spawned, not forked: threads of the caller, torch's among them, do not survive a fork.
    pool = ProcessPoolExecutor(count, mp_context=get_context("spawn"))
    try:
        for start in range(0, len(items), _AHEAD):
            yield from pool.map(function, items[start : start + _AHEAD], chunksize=chunk)
    finally:
        pool.shutdown(cancel_futures=True)
