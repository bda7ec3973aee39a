"""Clips decoded in threads, ahead of the encoder."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from mafsar.errors import InputError, MafsarError, VideoError, option
from mafsar.video.array import MemoryClip, load_memory_clip
from mafsar.video.clip import Clip, load_clip
from mafsar.video.geometry import Geometry

_WHOLE = Geometry()


@dataclass(frozen=True)
class ClipRequest:
    """One clip to load, with the arguments of `load_clip`."""

    source: Path | str | MemoryClip
    """A path, or a clip in memory; `clip_source` gives either."""
    frames: int
    size: int
    geometry: Geometry = _WHOLE
    start: float | None = None
    """For video files only, as ``end``."""
    end: float | None = None
    ignore_clock: float | None = None
    """Frames a second instead of the file's timestamps; for video files only."""


def load_clips(
    requests: Iterable[ClipRequest], *, workers: int = 2, ahead: int = 2
) -> Iterator[Clip | VideoError]:
    """Decodes clips in threads and yields them in the order of the requests.

    While the consumer works on a clip, up to ``workers + ahead`` of the next clips are being decoded
    or are ready; memory is bounded by that many clips. Closing the iterator, or an exception in the
    consumer, cancels clips that have not started and waits for those that have.

    Args:
        requests: Read lazily, only as far as decoding is ahead.
        workers: Threads; each decodes one clip at a time.
        ahead: Decoded clips that may be ready beyond those being decoded.

    Yields:
        For each request its clip, or the error that names it; an error does not stop the others.

    Raises:
        InputError: ``workers`` < 1 or ``ahead`` < 0.
    """
    if workers < 1:
        raise InputError(option(workers=workers), ": must be at least 1")
    if ahead < 0:
        raise InputError(f"ahead must be at least 0, got {ahead}")
    return _decoded_ahead(requests, workers, ahead)


def _decoded_ahead(
    requests: Iterable[ClipRequest], workers: int, ahead: int
) -> Iterator[Clip | VideoError]:
    pending: deque[Future[Clip | VideoError]] = deque()
    waiting = iter(requests)
    # Decoding clips in parallel uses the cores better than threads inside one clip's decoder.
    threads = None if workers == 1 or _is_one(requests) else 1
    pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="mafsar-decode")
    try:
        while True:
            while len(pending) < workers + ahead:
                request = next(waiting, None)
                if request is None:
                    break
                pending.append(pool.submit(_load, request, threads))
            if not pending:
                return
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _is_one(requests: Iterable[ClipRequest]) -> bool:
    return isinstance(requests, Sized) and len(requests) == 1


def _load(request: ClipRequest, threads: int | None) -> Clip | VideoError:
    """Loads one clip; returns the error of a clip that cannot be loaded."""
    source = request.source
    try:
        if isinstance(source, MemoryClip):
            if request.start is not None or request.end is not None:
                raise VideoError(f"{source.name}: start and end are for video files only")
            return load_memory_clip(
                source, frames=request.frames, size=request.size, geometry=request.geometry
            )
        return load_clip(
            source,
            frames=request.frames,
            size=request.size,
            geometry=request.geometry,
            start=request.start,
            end=request.end,
            threads=threads,
            ignore_clock=request.ignore_clock,
        )
    except VideoError as error:
        return error
    except MafsarError as error:
        return VideoError(error)
