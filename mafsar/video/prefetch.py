"""Clips decoded in threads ahead of whoever encodes them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from mafsar.errors import MafsarError, VideoError
from mafsar.video.array import ArrayClip
from mafsar.video.clip import Clip, load_clip
from mafsar.video.geometry import Geometry

_WHOLE = Geometry()


@dataclass(frozen=True)
class ClipRequest:
    """The arguments of one `load_clip`; frames in memory may stand in place of a path."""

    source: Path | str | ArrayClip
    frames: int
    size: int
    geometry: Geometry = _WHOLE
    start: float | None = None
    end: float | None = None


def load_clips(
    requests: Iterable[ClipRequest], *, workers: int = 2, ahead: int = 2
) -> Iterator[Clip | VideoError]:
    """Decodes clips in threads and yields them in the order of the requests.

    While the consumer works on a clip, up to ``workers + ahead`` of the next ones are being decoded
    or wait decoded; memory is bounded by that many clips. Closing the iterator, or an exception in
    the consumer, drops what has not begun and waits for what has.

    Args:
        requests: Read lazily, as far as the decoding is ahead.
        workers: Threads; each decodes one clip at a time.
        ahead: Decoded clips that may wait beyond those being decoded.

    Yields:
        For each request its clip, or the error that names it; the others go on.

    Raises:
        ValueError: If ``workers`` < 1 or ``ahead`` < 0.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    if ahead < 0:
        raise ValueError(f"ahead must be at least 0, got {ahead}")
    return _decoded_ahead(requests, workers, ahead)


def _decoded_ahead(
    requests: Iterable[ClipRequest], workers: int, ahead: int
) -> Iterator[Clip | VideoError]:
    pending: deque[Future[Clip | VideoError]] = deque()
    waiting = iter(requests)
    # Clips in parallel use the cores better than threads inside one clip's decoder.
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
    """Loads one clip; what is wrong with it is its result, not an exception."""
    try:
        if isinstance(request.source, ArrayClip):
            return request.source.load(
                frames=request.frames, size=request.size, geometry=request.geometry
            )
        return load_clip(
            request.source,
            frames=request.frames,
            size=request.size,
            geometry=request.geometry,
            start=request.start,
            end=request.end,
            threads=threads,
        )
    except VideoError as error:
        return error
    except MafsarError as error:
        return VideoError(*error.parts)
