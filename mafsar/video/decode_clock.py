"""Frames by the file's own clock, for files too large to scan their packets beforehand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mafsar.video.container import open_video, pixel_aspect, quiet_av
from mafsar.video.decoder import (
    Damage,
    DecodedMoments,
    Shown,
    check_damage,
    decode_packet,
    decoder_of,
    prepare,
)
from mafsar.video.sampling import CLOCK_TOLERANCE_SECONDS
from mafsar.video.timeline import Timeline

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

SEEK_GAP_SECONDS = 10.0  # seek ahead over gaps longer than this
_SEEK_MARGIN_SECONDS = 1.0  # such seeks use decoding time, which is ahead of presentation time


def decode_by_clock(
    path: Path | str, timeline: Timeline, moments: np.ndarray, threads: int | None
) -> DecodedMoments:
    """Takes, for each moment, the last decoded frame whose time is not later.

    Args:
        path: The file.
        timeline: Of its header.
        moments: Seconds from the first frame, (T,), ascending.
        threads: Of the decoder.

    Raises:
        VideoError: No frame can be decoded, or more packets are damaged than frames decoded.
    """
    taken: list[tuple[float, VideoFrame]] = []
    previous: tuple[float, VideoFrame] | None = None
    damaged = Damage()
    with open_video(path) as (container, stream):
        context = decoder_of(stream).context
        prepare(context, threads)
        aspect = pixel_aspect(stream)
        frames = _timed_frames(container, stream, context, timeline, moments, taken, damaged)
        for seconds, frame in frames:
            while (
                len(taken) < len(moments)
                and moments[len(taken)] + CLOCK_TOLERANCE_SECONDS < seconds
            ):
                taken.append(previous or (seconds, frame))
            if len(taken) == len(moments):
                break
            previous = (seconds, frame)
    check_damage(path, damaged)
    while len(taken) < len(moments) and previous is not None:
        taken.append(previous)
    times = np.array([seconds for seconds, _ in taken], dtype=np.float64)
    last: Shown | None = None
    shown: list[Shown] = []
    for _, frame in taken:
        last = last if last is not None and last.frame is frame else Shown(frame, aspect)
        shown.append(last)
    return DecodedMoments(shown, times, timeline)


def _timed_frames(
    container: InputContainer,
    stream: VideoStream,
    context: VideoCodecContext,
    timeline: Timeline,
    moments: np.ndarray,
    taken: list[tuple[float, VideoFrame]],
    damage: Damage,
) -> Iterator[tuple[float, VideoFrame]]:
    """Yields (seconds from the first timestamp, frame), and seeks where the next moment is far."""
    position, sought = 0.0, -1

    def far_ahead() -> bool:
        # Once for each moment: a seek may land before its start.
        moment = min(len(taken), len(moments) - 1)
        return sought < moment and moments[moment] - position > SEEK_GAP_SECONDS

    while True:
        if far_ahead():
            sought = len(taken)
            goal = max(moments[sought] - _SEEK_MARGIN_SECONDS, 0.0)
            ticks = timeline.first + int(goal / timeline.time_base)
            container.seek(ticks, stream=stream, backward=True)
            context.flush_buffers()
        for frame in _all_frames(container, stream, context, damage):
            stamp = frame.pts if frame.pts is not None else frame.dts
            position = position if stamp is None else timeline.seconds(stamp)
            yield position, frame
            if far_ahead():
                break
        else:
            return


def _all_frames(
    container: InputContainer, stream: VideoStream, context: VideoCodecContext, damage: Damage
) -> Iterator[VideoFrame]:
    """Yields every frame from here to the end; damaged packets are counted and skipped."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except quiet_av().error.FFmpegError:
            damage.packets += 1
            packet = None
        end = packet is None or packet.size == 0
        yield from decode_packet(context, None if end else packet, damage)
        if end:
            return
