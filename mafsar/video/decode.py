"""From a video file to the frames that are shown at given moments, decoding as little as possible.

The timeline tells exactly which packets must be decoded: from the key frame before a wanted frame up
to that frame. Between two wanted frames the decoder either continues or, where a later key frame saves
enough, jumps there. Frames that no other frame refers to are skipped unless they are wanted. Every
frame taken is identical, to the byte, to that of a full decode.

Each packet is given its own number as its timestamp, so that a decoded frame says from which packet
it is, whatever the file's clock says. Where a wanted frame does not come, everything is decoded once
to know which frames can be shown, and the moments are chosen again among those.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mafsar.errors import VideoError
from mafsar.video.container import open_video, pixel_aspect, quiet_av
from mafsar.video.decode_clock import decode_by_clock
from mafsar.video.decode_plan import Run, Strategy, plan_runs
from mafsar.video.decoder import (
    Damage,
    DecodedMoments,
    Shown,
    check_damage,
    decode_packet,
    decoder_of,
    prepare,
)
from mafsar.video.sampling import frames_shown
from mafsar.video.scan import read_timeline
from mafsar.video.timeline import Packets, Timeline, measured_timeline

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_COPY = "copy it or record it again"
_SKIPPING_CODECS = frozenset({"h264", "hevc"})  # whose decoders can skip frames nobody refers to

Moments = np.ndarray | Callable[[Timeline], np.ndarray]
"""Seconds from the first frame, (T,), ascending; or what chooses them on a timeline."""


class _JumpMissedError(Exception):
    """A seek landed after the key frame it aimed at."""


def decode_moments(
    path: Path | str,
    container: InputContainer,
    stream: VideoStream,
    timeline: Timeline,
    moments: Moments,
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
        moments: Seconds from the first frame, (T,), ascending; or what chooses them, which is asked
            again where some frames of the timeline cannot be decoded.
        strategy: ``auto`` jumps where that is cheaper than continuing; ``seek`` starts each frame
            at its key frame; ``through`` never jumps. The frames are the same.
        threads: Of the decoder; None is one a core, at most 4.

    Raises:
        VideoError: No frame can be decoded, or more packets are damaged than frames decoded.
    """
    if timeline.times is None:
        return decode_by_clock(path, timeline, _of(moments, timeline), threads)
    if timeline.numbers is None:
        return _decode_by_rank(path, timeline, moments, threads)
    index = frames_shown(timeline.times, _of(moments, timeline))
    wanted: list[int] = timeline.numbers[index].tolist()
    packets = timeline.packets
    assert packets is not None
    for seek in (True, False) if packets.seekable else (False,):
        way = strategy if seek or strategy != "seek" else "auto"
        runs = plan_runs(packets, timeline.numbers[index], way)
        try:
            if seek:
                found = _decode_sought(container, stream, packets, runs, threads)
            else:
                found = _decode_read(path, runs, threads)
        except (_JumpMissedError, quiet_av().error.FFmpegError):
            continue
        if all(number in found for number in wanted):
            shown = [found[number] for number in wanted]
            return _answer(timeline, shown, timeline.times[index])
        break
    return _decode_measured(path, timeline, moments, threads)


def decode_file(
    path: Path | str,
    moments: Moments,
    *,
    frames: int = 1,
    strategy: Strategy = "auto",
    threads: int | None = None,
) -> DecodedMoments:
    """Opens a file and decodes the frames shown at ``moments``; see `decode_moments`."""
    with open_video(path) as (container, stream):
        timeline = read_timeline(path, container, stream, frames)
        return decode_moments(
            path, container, stream, timeline, moments, strategy=strategy, threads=threads
        )


class _Keeper:
    """Keeps wanted frames as the decoder of a stream returns them."""

    def __init__(self, stream: VideoStream, threads: int | None) -> None:
        self.context = decoder_of(stream).context
        prepare(self.context, threads)
        self.found: dict[int, Shown] = {}
        self._stated = pixel_aspect(stream)
        self._first: Fraction | None = None

    def keep(self, number: int, frame: VideoFrame) -> None:
        """Keeps the first frame of a number, with its own aspect where that changes in the stream."""
        if number in self.found:
            return
        now = self.context.sample_aspect_ratio or Fraction(1)
        # The file's own word, if it has one, counts for the aspect that the stream begins with.
        self._first = self._first or now
        aspect = self._stated if now == self._first else float(now)
        self.found[number] = Shown(frame, aspect)

    def run(self, packets: Iterator[tuple[int, Packet[VideoStream]]], run: Run) -> None:
        """Decodes the packets [run.start, run.stop) of numbered packets, then empties the decoder."""
        context = self.context
        skips = context.name in _SKIPPING_CODECS
        for number, packet in packets:
            if number < run.start:
                continue
            if skips:
                context.skip_frame = "DEFAULT" if number in run.wanted else "NONREF"
            packet.pts = number
            for frame in decode_packet(context, packet):
                if frame.pts in run.wanted:
                    self.keep(frame.pts, frame)
            if number + 1 >= run.stop:
                break
        for frame in decode_packet(context, None):
            if frame.pts in run.wanted:
                self.keep(frame.pts, frame)
        context.flush_buffers()


def _decode_sought(
    container: InputContainer,
    stream: VideoStream,
    packets: Packets,
    runs: list[Run],
    threads: int | None,
) -> dict[int, Shown]:
    """Decodes exactly the packets of the runs; damaged packets are skipped.

    Raises:
        _JumpMissedError: A seek did not land where the packets say.
    """
    keeper = _Keeper(stream, threads)
    numbers = packets.by_stamp
    times = packets.pts.tolist()

    def sought(run: Run) -> Iterator[tuple[int, Packet[VideoStream]]]:
        target = min(int(packets.dts[run.start]), int(packets.pts[run.start]))
        container.seek(target, stream=stream, backward=True)
        number = -1
        for packet in container.demux(stream):
            if packet.size == 0:
                return
            if number < 0:
                dts = packet.dts if packet.dts is not None else packet.pts
                number = numbers.get((packet.pts, dts), -1)  # type: ignore[arg-type]
                if not 0 <= number <= run.start:
                    raise _JumpMissedError
            else:
                number += 1
                # MPEG program streams may cut the first packet after a seek in two.
                if number >= len(times) or packet.pts != times[number]:
                    raise _JumpMissedError
            yield number, packet

    for run in runs:
        keeper.run(sought(run), run)
    return keeper.found


def _decode_read(path: Path | str, runs: list[Run], threads: int | None) -> dict[int, Shown]:
    """Decodes the packets of the runs without seeking: packets between them are only read.

    For files whose timestamps do not name one packet, and for containers that cannot go back.
    """
    with open_video(path) as (container, stream):
        keeper = _Keeper(stream, threads)
        packets = _numbered(container, stream)
        for run in runs:
            keeper.run(packets, run)
        return keeper.found


def _decode_by_rank(
    path: Path | str, timeline: Timeline, moments: Moments, threads: int | None
) -> DecodedMoments:
    """Takes the k-th frame that the decoder returns, where packets do not tell the order."""
    assert timeline.times is not None
    index = frames_shown(timeline.times, _of(moments, timeline))
    wanted = frozenset(index.tolist())
    order: list[int] = []
    with open_video(path) as (container, stream):
        keeper = _Keeper(stream, threads)
        for number, frame in _every_frame(container, stream, keeper.context, Damage()):
            if len(order) in wanted:
                keeper.keep(len(order), frame)
            order.append(number)
            if len(keeper.found) == len(wanted):
                break
    if len(keeper.found) < len(wanted):
        return _decode_measured(path, timeline, moments, threads)
    shown = [keeper.found[rank] for rank in index.tolist()]
    packets = timeline.packets
    assert packets is not None
    rising = bool((np.diff(packets.pts) > 0).all())
    if rising and order != sorted(order):
        timeline = timeline.with_repairs(
            "the times of its frames rise in the order of decoding, which is not the order in which "
            "they are shown; the decoder's order is taken"
        )
    return _answer(timeline, shown, timeline.times[index])  # type: ignore[index]


def _decode_measured(
    path: Path | str, timeline: Timeline, moments: Moments, threads: int | None
) -> DecodedMoments:
    """Decodes everything to know which frames can be shown, then takes the moments among those."""
    damage = Damage()
    returned: list[int] = []
    with open_video(path) as (container, stream):
        context = decoder_of(stream).context
        prepare(context, threads)
        returned += (number for number, _ in _every_frame(container, stream, context, damage))
    if returned:
        timeline = measured_timeline(timeline, np.array(returned))
    check_damage(path, damage)
    assert timeline.times is not None
    assert timeline.numbers is not None
    if len(timeline.times) == 0:
        raise VideoError(f"{path}: no frame that is to be shown can be decoded; {_COPY}")
    index = frames_shown(timeline.times, _of(moments, timeline))
    wanted: list[int] = timeline.numbers[index].tolist()
    with open_video(path) as (container, stream):
        keeper = _Keeper(stream, threads)
        for number, frame in _every_frame(container, stream, keeper.context, Damage()):
            if number in wanted:
                keeper.keep(number, frame)
                if all(number in keeper.found for number in wanted):
                    break
    return _answer(timeline, [keeper.found[number] for number in wanted], timeline.times[index])


def _of(moments: Moments, timeline: Timeline) -> np.ndarray:
    return moments(timeline) if callable(moments) else moments


def _answer(timeline: Timeline, shown: list[Shown], times: np.ndarray) -> DecodedMoments:
    """The result, with what the decoder itself says of the frames."""
    bad = sum(bool(getattr(item.frame, "is_corrupt", False)) for item in shown)
    said = f"{bad} of the {len(shown)} frames taken are damaged" if bad else None
    return DecodedMoments(shown, times, timeline.with_repairs(said))


def _numbered(
    container: InputContainer, stream: VideoStream
) -> Iterator[tuple[int, Packet[VideoStream]]]:
    """Yields the packets of a stream in file order with their numbers, from where the file is."""
    for number, packet in enumerate(container.demux(stream)):
        if packet.size == 0:
            return
        yield number, packet


def _every_frame(
    container: InputContainer, stream: VideoStream, context: VideoCodecContext, damage: Damage
) -> Iterator[tuple[int, VideoFrame]]:
    """Yields the packet number and the frame of all that can be decoded, in the decoder's order."""
    packets = _numbered(container, stream)
    last = 0
    while True:
        try:
            number, packet = next(packets, (-1, None))
        except quiet_av().error.FFmpegError:
            damage.packets += 1
            packet = None
        if packet is not None:
            packet.pts = number
        for frame in decode_packet(context, packet, damage):
            last = last if frame.pts is None else frame.pts
            yield last, frame
        if packet is None:
            return
