"""From a video file to the frames that are shown at given moments, decoding as little as possible.

The packets' timestamps, scanned beforehand, tell exactly which packets must be decoded: from the key
frame before a wanted frame up to that frame. Between two wanted frames the decoder either continues
or, where a later key frame saves enough, jumps there. Frames that no other frame refers to are
skipped unless they are wanted. Every frame taken is identical, to the byte, to that of a full decode.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mafsar.errors import VideoError
from mafsar.video.container import Packets, Timeline, open_video, quiet_av, read_timeline
from mafsar.video.decode_plan import Run, Strategy, plan_runs
from mafsar.video.sampling import CLOCK_TOLERANCE_SECONDS, frames_shown

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

SEEK_GAP_SECONDS = 10.0  # where key frames are unknown: seek ahead over gaps longer than this
_SEEK_MARGIN_SECONDS = 1.0  # such seeks use decoding time, which is ahead of presentation time
_SKIPPING_CODECS = frozenset({"h264", "hevc"})  # whose decoders can skip frames nobody refers to


@dataclass(frozen=True)
class DecodedMoments:
    """The frames shown at the requested moments, as decoded."""

    frames: list[VideoFrame]
    """One for each moment; a frame shown at several moments is the same object."""
    times_seconds: np.ndarray
    """(T,) float64: their timestamps, from the first timestamp of the stream."""


class _JumpMissedError(Exception):
    """A seek landed after the key frame it aimed at."""


def decode_moments(
    path: Path | str,
    container: InputContainer,
    stream: VideoStream,
    timeline: Timeline,
    moments: np.ndarray,
    *,
    strategy: Strategy = "auto",
    threads: int | None = None,
) -> DecodedMoments:
    """Decodes the frames shown at ``moments``.

    Args:
        path: Named in errors; opened again where a container cannot go back.
        container: The open file; its position does not matter.
        stream: The video stream.
        timeline: Of that stream.
        moments: Seconds from the first timestamp, (T,), ascending.
        strategy: ``auto`` jumps where that is cheaper than continuing; ``seek`` starts each frame
            at its key frame; ``through`` never jumps. The frames are the same.
        threads: Of the decoder; None is one a core, at most 4.

    Raises:
        VideoError: No frame can be decoded, or more packets are damaged than frames decoded.
    """
    if timeline.packets is not None:
        _prepare(stream, threads)
        packets = timeline.packets
        shown = np.unique(packets.pts[packets.shown])
        wanted = shown[frames_shown(timeline.seconds(shown), moments)]
        try:
            found = _decode_wanted(container, stream, packets, wanted, strategy)
            if all(int(pts) in found for pts in wanted):
                frames = [found[int(pts)] for pts in wanted]
                return DecodedMoments(frames, timeline.seconds(wanted))
        except (_JumpMissedError, quiet_av().error.FFmpegError):
            pass
    # Damaged packets, hidden frames, containers that cannot seek: use the decoder's timestamps.
    with open_video(path) as (reopened, again):
        _prepare(again, threads)
        return _decode_by_clock(path, reopened, again, timeline, moments)


def _decode_wanted(
    container: InputContainer,
    stream: VideoStream,
    packets: Packets,
    wanted: np.ndarray,
    strategy: Strategy,
) -> dict[int, VideoFrame]:
    """Decodes exactly the packets that the wanted frames need; damaged packets are skipped."""
    found: dict[int, VideoFrame] = {}
    stamps = zip(packets.pts.tolist(), packets.dts.tolist(), strict=True)
    numbers = {stamp: number for number, stamp in enumerate(stamps)}
    for run in plan_runs(packets, wanted, strategy):
        for frame in _decode_run(container, stream, packets, numbers, run):
            if frame.pts in run.wanted:
                found.setdefault(frame.pts, frame)
    return found


def _decode_run(
    container: InputContainer,
    stream: VideoStream,
    packets: Packets,
    numbers: dict[tuple[int | None, int | None], int],
    run: Run,
) -> Iterator[VideoFrame]:
    """Yields the frames of packets [run.start, run.stop), then flushes the decoder."""
    context = stream.codec_context
    skips = context.name in _SKIPPING_CODECS
    target = min(int(packets.dts[run.start]), int(packets.pts[run.start]))
    container.seek(target, stream=stream, backward=True)
    number = -1
    for packet in container.demux(stream):
        if packet.size == 0:
            break
        if number < 0:
            dts = packet.dts if packet.dts is not None else packet.pts
            number = numbers.get((packet.pts, dts), -1)
            if not 0 <= number <= run.start:
                raise _JumpMissedError
        else:
            number += 1
        if number < run.start:
            continue
        if skips:
            context.skip_frame = "DEFAULT" if packet.pts in run.wanted else "NONREF"
        yield from decode_packet(context, packet)
        if number + 1 >= run.stop:
            break
    yield from decode_packet(context, None)


def _decode_by_clock(
    path: Path | str,
    container: InputContainer,
    stream: VideoStream,
    timeline: Timeline,
    moments: np.ndarray,
) -> DecodedMoments:
    """Takes, for each moment, the last decoded frame whose time is not later."""
    taken: list[tuple[float, VideoFrame]] = []
    previous: tuple[float, VideoFrame] | None = None
    damaged = Damage()
    for seconds, frame in _timed_frames(container, stream, timeline, moments, taken, damaged):
        while len(taken) < len(moments) and moments[len(taken)] + CLOCK_TOLERANCE_SECONDS < seconds:
            taken.append(previous or (seconds, frame))
        if len(taken) == len(moments):
            break
        previous = (seconds, frame)
    if previous is None and not taken:
        reason = f"{damaged.packets} damaged packets" if damaged.packets else "an empty stream"
        raise VideoError(f"{path}: no frame can be decoded ({reason}); copy it or record it again")
    if damaged.packets > damaged.frames:
        raise VideoError(
            f"{path}: is damaged ({damaged.packets} packets cannot be decoded, {damaged.frames} "
            f"frames can); copy it or record it again"
        )
    while len(taken) < len(moments) and previous is not None:
        taken.append(previous)
    times = np.array([seconds for seconds, _ in taken], dtype=np.float64)
    return DecodedMoments([frame for _, frame in taken], times)


@dataclass
class Damage:
    """How many frames a decoder returned, and how many packets it could not decode."""

    frames: int = 0
    packets: int = 0


def _timed_frames(
    container: InputContainer,
    stream: VideoStream,
    timeline: Timeline,
    moments: np.ndarray,
    taken: list[tuple[float, VideoFrame]],
    damage: Damage,
) -> Iterator[tuple[float, VideoFrame]]:
    """Yields (seconds from the first timestamp, frame) in the order shown.

    Where the key frames are unknown, it seeks ahead when the next moment is far.
    """
    ranked = timeline.ranked
    blind = timeline.packets is None and ranked is None
    position, count, sought = 0.0, 0, -1

    def far_ahead() -> bool:
        # Once for each moment: a seek may land before its start.
        moment = min(len(taken), len(moments) - 1)
        return blind and sought < moment and moments[moment] - position > SEEK_GAP_SECONDS

    while True:
        if far_ahead():
            sought = len(taken)
            goal = max(moments[sought] - _SEEK_MARGIN_SECONDS, 0.0)
            ticks = timeline.first + int(goal / timeline.time_base)
            container.seek(ticks, stream=stream, backward=True)
        for frame in _all_frames(container, stream, damage):
            if ranked is not None:
                seconds = float(ranked[min(count, len(ranked) - 1)])
            else:
                stamp = frame.pts if frame.pts is not None else frame.dts
                seconds = position if stamp is None else float(timeline.seconds(stamp))
            count += 1
            yield seconds, frame
            position = seconds
            if far_ahead():
                break
        else:
            return


def _all_frames(
    container: InputContainer, stream: VideoStream, damage: Damage
) -> Iterator[VideoFrame]:
    """Yields every frame from here to the end; damaged packets are counted and skipped."""
    errors = quiet_av().error.FFmpegError
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except errors:
            damage.packets += 1
            packet = None
        end = packet is None or packet.size == 0
        for frame in decode_packet(stream.codec_context, None if end else packet, damage):
            damage.frames += 1
            yield frame
        if end:
            return


def decode_packet(
    context: VideoCodecContext, packet: object, damage: Damage | None = None
) -> list[VideoFrame]:
    """Decodes one packet, or flushes the decoder for None; a damaged packet gives no frame."""
    try:
        return list(context.decode(packet))  # type: ignore[arg-type]
    except quiet_av().error.FFmpegError:
        if damage is not None:
            damage.packets += 1
        return []


def _prepare(stream: VideoStream, threads: int | None) -> None:
    """Sets the decoder's threads, unless it has started."""
    context = stream.codec_context
    if context.is_open:
        return
    if threads is None:
        threads = min(os.cpu_count() or 1, 4)
    context.thread_count = threads
    context.thread_type = "AUTO"


def decode_file(
    path: Path | str,
    moments: np.ndarray,
    *,
    strategy: Strategy = "auto",
    threads: int | None = None,
) -> DecodedMoments:
    """Opens a file and decodes the frames shown at ``moments``; see `decode_moments`."""
    with open_video(path) as (container, stream):
        timeline = read_timeline(path, container, stream)
        return decode_moments(
            path, container, stream, timeline, moments, strategy=strategy, threads=threads
        )
