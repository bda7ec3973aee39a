"""The frames of a file or frame folder in order, on the repaired clock of `mafsar.video.timeline`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from mafsar.errors import VideoError
from mafsar.video.container import open_video, pixel_aspect, quiet_av
from mafsar.video.crop import crop_of
from mafsar.video.decoder import decode_packet, decoder_of, prepare
from mafsar.video.guard import clip_errors
from mafsar.video.live.clock import LiveClock
from mafsar.video.live.frames import LARGE_PIXELS, Enough, OpenSource, TimedFrame
from mafsar.video.picture import Picture, picture_of
from mafsar.video.pictures import is_picture_clip, open_pictures
from mafsar.video.scan import read_timeline
from mafsar.video.timeline import Timeline

_SKIPPING_CODECS = frozenset({"h264", "hevc"})  # whose decoders can skip frames nobody refers to


@contextmanager
def open_file(
    path: Path,
    wanted: Callable[[Timeline], np.ndarray] | None = None,
    ignore_clock: float | None = None,
    threads: int | None = None,
    enough: Enough = lambda: None,
) -> Iterator[OpenSource]:
    """Opens a file whose frames are read from the first to the last.

    Args:
        path: A video, a frame folder or a picture that moves.
        wanted: Which moments are of interest on a timeline, seconds: frames that are not shown at
            any of them, and that no other frame refers to, are not decoded. None = all.
        ignore_clock: Frames a second instead of the file's timestamps.
        threads: Of the decoder; None chooses the number.
        enough: To what its pictures may be reduced.

    Raises:
        VideoError: It cannot be read.
    """
    with clip_errors(path):
        if is_picture_clip(path):
            clip = open_pictures(path)
            times = clip.times_seconds
            yield OpenSource(
                (
                    TimedFrame(float(at), _later(clip.convert, item, enough))
                    for at, item in zip(times, clip.items, strict=True)
                ),
                clip.fps,
                lambda: clip.duration_seconds,
                lambda: clip.notes,
            )
            return
        with open_video(path) as (container, stream):
            timeline = read_timeline(path, container, stream, ignore_clock=ignore_clock)
        with open_video(path) as (container, stream):
            context = decoder_of(stream).context
            large = stream.width * stream.height > LARGE_PIXELS
            prepare(context, 1 if large else threads)
            crop = crop_of(path, container, stream)
            transfer = getattr(stream.codec_context, "color_trc", None)
            aspect = pixel_aspect(stream)

            def convert(frame: Any, short_side: int | None) -> Picture:
                return picture_of(
                    frame,
                    aspect=aspect,
                    transfer=transfer,
                    short_side=short_side,
                    large=LARGE_PIXELS,
                    crop=crop,
                )

            chosen = None
            if wanted is not None and timeline.numbers is not None and timeline.times is not None:
                at = np.searchsorted(timeline.times, wanted(timeline) + 1e-6, side="right") - 1
                at = np.unique(np.concatenate([at.clip(0), [0, len(timeline.times) - 1]]))
                chosen = set(timeline.numbers[at].tolist())
            clock = LiveClock(paced=False, fps=timeline.fps)

            def shown(frame: Any) -> Callable[[], Picture]:
                return _later(convert, frame, enough)

            frames = _timed(path, container, stream, context, timeline, clock, shown, chosen)
            yield OpenSource(
                frames,
                timeline.fps,
                lambda: (
                    clock.seconds + clock.step
                    if timeline.times is None
                    else timeline.duration_seconds
                ),
                lambda: (*timeline.repairs, *clock.repairs),
            )


def _timed(
    path: Path,
    container: Any,
    stream: Any,
    context: Any,
    timeline: Timeline,
    clock: LiveClock,
    shown: Callable[[Any], Callable[[], Picture]],
    chosen: set[int] | None,
) -> Iterator[TimedFrame]:
    """Decodes packet by packet; a frame is known by the number of its packet, as in `decode`."""
    times = timeline.times
    at: dict[int, float] | None = None
    if times is not None and timeline.numbers is not None:
        at = dict(zip(timeline.numbers.tolist(), times.tolist(), strict=True))
    skips = chosen is not None and context.name in _SKIPPING_CODECS
    rank, last = 0, -np.inf
    for number, packet in _numbered(container, stream):
        if packet is not None:
            if at is not None:
                packet.pts = number
            if skips:
                context.skip_frame = "DEFAULT" if number in (chosen or ()) else "NONREF"
        for frame in decode_packet(context, packet):
            if at is not None:
                seconds = at.get(-1 if frame.pts is None else frame.pts)
            elif times is not None:
                seconds = float(times[rank]) if rank < len(times) else None
            else:
                seconds = clock.tick(frame.time, 0.0)
            rank += 1
            if seconds is None or seconds < last:
                continue  # hidden by an edit list
            last = seconds
            yield TimedFrame(seconds, shown(frame))
    if not rank:
        raise VideoError(f"{path}: no frame can be decoded; copy it or record it again")


def _numbered(container: Any, stream: Any) -> Iterator[tuple[int, Any]]:
    """The packets in file order with their numbers, then None to empty the decoder."""
    number = -1
    try:
        for packet in container.demux(stream):
            if packet.size == 0:
                break
            number += 1
            yield number, packet
    except quiet_av().error.FFmpegError:
        pass  # damaged here; what came before is used
    yield number + 1, None


def _later(
    convert: Callable[[Any, int | None], Picture], item: Any, enough: Enough
) -> Callable[[], Picture]:
    return lambda: convert(item, enough())
