"""All rows of an index against all classes of a bank: exact OTAM, chunk by chunk, in threads."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mafsar.choices import Progress
from mafsar.kernels.dispatch import get_num_threads, set_num_threads
from mafsar.runtime.archive.index import Index, Shard
from mafsar.runtime.archive.scorer import BankScorer
from mafsar.runtime.encoder import Float32

CHUNK = 512
"""Rows at a time: features, views and distances of a chunk stay in the second-level cache."""
_AT_ONCE = 64  # chunks that wait for the threads


@dataclass(frozen=True, eq=False)
class Scan:
    """The best class of each row of an index.

    Attributes:
        rows: Numbers of the rows, (n,), ascending.
        best: Index of the best class, (n,).
        score: Its share among the classes, (n,).
        distance: Its distance, (n,).
    """

    rows: NDArray[np.intp]
    best: NDArray[np.int32]
    score: Float32
    distance: Float32


def scan_index(
    index: Index,
    scorer: BankScorer,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Scan:
    """The best class of every row.

    Args:
        index: The index.
        scorer: The bank.
        workers: Threads; None = one per core.
        progress: Called with (rows done, rows, "searching").
    """
    total = len(index)
    best, score = np.zeros(total, np.int32), np.zeros(total, np.float32)
    distance = np.zeros(total, np.float32)

    def work(shard: Shard, first: int, last: int) -> None:
        frames, pooled = shard.features()
        some = pooled[first:last] if scorer.needs_pooled and pooled is not None else None
        found = scorer.scores(frames[first:last], some)
        winner = found.fused.argmax(axis=1)
        each = np.arange(last - first)
        here = slice(shard.first + first, shard.first + last)
        best[here], score[here] = winner, found.fused[each, winner]
        distance[here] = found.distances[each, winner]

    in_chunks(index, work, workers=workers, progress=progress)
    return Scan(np.arange(total), best, score, distance)


def in_chunks(
    index: Index,
    work: Callable[[Shard, int, int], None],
    *,
    chunk: int = CHUNK,
    workers: int | None = None,
    progress: Progress | None = None,
) -> None:
    """Calls a function for chunks of the rows of each shard, in threads.

    Args:
        index: The index.
        work: Called with a shard, and with the first row and the row after the last one in it.
        chunk: Rows at a time.
        workers: Threads; None = one per core.
        progress: Called with (rows done, rows, "searching").
    """
    jobs = [
        (shard, first, min(first + chunk, len(shard)))
        for shard in (each.kept_open() for each in index.shards)
        for first in range(0, len(shard), chunk)
    ]
    jobs.reverse()
    done = 0
    with one_thread_per_call(), ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        waiting: deque[tuple[int, Future[None]]] = deque()
        try:
            while jobs or waiting:
                while jobs and len(waiting) < _AT_ONCE:
                    shard, first, last = jobs.pop()
                    waiting.append((last - first, pool.submit(work, shard, first, last)))
                rows, ended = waiting.popleft()
                ended.result()
                done += rows
                if progress is not None:
                    progress(done, len(index), "searching")
        finally:
            for _, left in waiting:
                left.cancel()


@contextmanager
def one_thread_per_call() -> Iterator[None]:
    """Each call of a native kernel uses one thread: the threads that call them share the cores."""
    before = get_num_threads()
    set_num_threads(1)
    try:
        yield
    finally:
        set_num_threads(before)
