"""From the packets of a video file to its timeline, without decoding more than its beginning."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mafsar.errors import VideoError
from mafsar.video.container import open_video, pixel_aspect, quiet_av, video_streams
from mafsar.video.crop import Crop, crop_of
from mafsar.video.decoder import decode_packet, decoder_of, is_reordered
from mafsar.video.guard import clip_errors
from mafsar.video.rates import check_clock
from mafsar.video.streamed import has_last_row, may_end_in_frame
from mafsar.video.timeline import (
    Packets,
    Timeline,
    plausible,
    ranked_timeline,
    stretches,
    timeline_of,
)
from mafsar.video.truncation import cut_short

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

SCAN_LIMIT_BYTES = 1 << 29
"""Larger files are not scanned for their timestamps; the duration of their header is used."""

_COPY = "copy it or record it again"
# AVColorSpace → name, of those that neither FFmpeg's scaler nor this package converts.
_UNKNOWN_MATRICES = {
    11: "SMPTE ST 2085", 12: "chroma-derived", 13: "chroma-derived", 14: "ICtCp", 15: "IPT-PQ-C2",
    16: "YCgCo-Re", 17: "YCgCo-Ro",
}  # fmt: skip
# Containers without an index that is needed to read them, and how much may be missing unsaid.
_STATING = frozenset({"matroska", "avi", "flv"})
_LACKS_SECONDS, _LACKS_SHARE = 0.5, 0.2
_LEAD_PACKETS = 32  # after the first key frame: a decoder returns what came before by then


def read_timeline(
    path: Path | str,
    container: InputContainer,
    stream: VideoStream,
    frames: int = 1,
    ignore_clock: float | None = None,
) -> Timeline:
    """Reads the timestamps of all packets; only a beginning without a key frame is decoded.

    Durations in headers are often wrong (streamed files, edit lists, cut files), and a scan costs
    1-2 % of decoding, so only very large files use the duration of their header.

    Args:
        path: Named in errors.
        container: The open file.
        stream: Its video stream.
        frames: T, how many moments are to be taken.
        ignore_clock: Sets the file's timestamps aside: frames a second, in the decoder's order.

    Raises:
        VideoError: There is no frame, or the file misses some that its own index lists.
    """
    check_clock(ignore_clock)
    base = stream.time_base or Fraction(1, 1000)
    rate = stream.guessed_rate or stream.average_rate
    said = [_choice(container, stream), decoder_of(stream).warning, _colours(stream)]
    header = _header_timeline(container, stream, base, rate)
    if ignore_clock is None and header is not None and Path(path).stat().st_size > SCAN_LIMIT_BYTES:
        return header.with_repairs(*said)
    found = _scan(container, stream)
    count = len(found.packets.pts)
    if not count:
        raise VideoError(f"{path}: has no frames in its video stream; {_COPY}")
    short = cut_short(path)
    if short and short.listed and (found.cut or count + found.empty < (stream.frames or 0)):
        raise VideoError(f"{path}: is truncated ({short.reason}); {_COPY}")
    if not found.cut and not short and may_end_in_frame(Path(path)):
        found = replace(found, cut=not _decodes_to_the_end(path, found.packets))
    if found.cut or (short and not short.listed):
        reason = short.reason if short and not short.listed else "it ends inside a frame"
        said.append(f"the file is cut short ({reason}): its end is missing")
    else:
        said.append(_less_than_stated(container, stream, found, base))
    if ignore_clock is not None:
        shown = np.arange(int(found.packets.shown.sum()))
        steady = Fraction(ignore_clock).limit_denominator(60_000)
        said.append(f"its timestamps are ignored, as asked: {ignore_clock:g} fps")
        return ranked_timeline(shown, steady, found.packets).with_repairs(*said)
    return _timeline(path, container, stream, found, rate, frames).with_repairs(*said)


def video_info(path: Path | str, ignore_clock: float | None = None) -> dict[str, Any]:
    """Returns the properties of a video file.

    Args:
        path: The file.
        ignore_clock: As for `read_timeline`.

    Returns:
        ``path``, ``duration_seconds``, ``fps`` (average), ``width`` and ``height`` of the displayed
        picture before rotation metadata, ``codec``, ``container``, ``pixel_format``, ``frames``
        that can be shown (None where only decoding would tell), and ``repairs``: what is unusual
        about the file, sentences.

    Raises:
        MissingError, VideoError: As for `open_video` and `read_timeline`.
    """
    with clip_errors(path), open_video(path) as (container, stream):
        timeline = read_timeline(path, container, stream, ignore_clock=ignore_clock)
        crop = crop_of(path, container, stream) or Crop()
        width, height = crop.size(stream.width, stream.height)
        return {
            "path": str(path),
            "duration_seconds": timeline.duration_seconds,
            "fps": timeline.fps,
            "width": max(round(width * pixel_aspect(stream)), 1),
            "height": height,
            "codec": stream.codec_context.name,
            "container": container.format.name.split(",")[0],
            "pixel_format": stream.codec_context.pix_fmt,
            "frames": timeline.frame_count,
            "repairs": list(timeline.repairs),
        }


@dataclass(frozen=True)
class _Scanned:
    """What the packets of a stream say."""

    packets: Packets
    known: np.ndarray
    """(N,) bool: packets with a decoding time."""
    untimed: int
    """Packets without a presentation time."""
    last_duration: int
    """Of the last packet in file order, in ticks: MP4 stores steps of decoding time, so where frames
    are reordered only the packet without a successor has a presentation duration."""
    cut: bool
    """Whether the file lacks a part of the last packet."""
    empty: int
    """Packets without content, which repeat the frame before."""


def _scan(container: InputContainer, stream: VideoStream) -> _Scanned:
    rows: list[tuple[int, int, bool, bool, bool]] = []
    untimed, last_duration, empty = 0, 0, 0
    last: Packet[VideoStream] | None = None
    av = quiet_av()
    try:
        for packet in container.demux(stream):
            if packet.size == 0:
                empty += packet.pts is not None or packet.dts is not None
                continue
            pts = packet.pts
            if pts is None:
                untimed += 1
                pts = rows[-1][0] if rows else 0
            if not packet.is_discard:
                last_duration = packet.duration or 0
            last = packet
            dts = packet.dts if packet.dts is not None else pts
            known = packet.dts is not None
            rows.append((pts, dts, packet.is_keyframe, not packet.is_discard, known))
    except av.error.FFmpegError:
        # A damaged end of the file stops the scan; decoding decides whether enough is left.
        pass
    columns = np.array(rows, dtype=np.int64).reshape(-1, 5)
    packets = Packets(
        pts=columns[:, 0],
        dts=columns[:, 1],
        key=columns[:, 2].astype(bool),
        shown=columns[:, 3].astype(bool),
    )
    return _Scanned(
        packets,
        columns[:, 4].astype(bool),
        untimed,
        last_duration,
        last is not None and last.is_corrupt,
        empty,
    )


def _timeline(
    path: Path | str,
    container: InputContainer,
    stream: VideoStream,
    found: _Scanned,
    rate: Fraction | None,
    frames: int,
) -> Timeline:
    base = stream.time_base or Fraction(1, 1000)
    packets, count = found.packets, len(found.packets.pts)
    if found.untimed:
        return _untimed(found, base, rate)
    if container.format.name == "avi" and (packets.pts != packets.dts).any():
        # AVI stores no presentation times, and FFmpeg guesses wrong where frames are reordered.
        return ranked_timeline(np.sort(packets.dts), 1 / base, packets)
    if not packets.shown.any():
        raise VideoError(f"{path}: its edit list hides every frame; export it again without edits")
    reordered = is_reordered(stream)
    part = stretches(packets, found.known, reordered=reordered)
    if part[-1]:
        packets = replace(packets, part=part)
    lost = _unshown_beginning(path, packets)
    if lost.any():
        packets = replace(packets, shown=packets.shown & ~lost)
    times = packets.pts[packets.shown]
    timeline = timeline_of(
        packets,
        base,
        last_duration=found.last_duration,
        rate=rate,
        frames=frames,
        # B frames, and yet every frame is said to be shown in the order of the file.
        by_rank=reordered and not part[-1] and bool((np.diff(times) > 0).all()) and not lost.any(),
    )
    if lost.any():
        timeline = timeline.with_repairs(
            f"of {count} frames only {count - int(lost.sum())} can be shown: the first "
            f"{int(lost.sum())} need a key frame that the file does not have"
        )
    return timeline


def _untimed(found: _Scanned, base: Fraction, rate: Fraction | None) -> Timeline:
    """Files without presentation times, or with some missing: frames in equal steps."""
    packets, count = found.packets, len(found.packets.pts)
    if found.untimed == count:
        return ranked_timeline(np.arange(count), plausible(rate), packets)
    steps = np.diff(np.unique(packets.pts))
    if len(steps) and found.untimed * 2 < count:
        rate = 1 / (int(np.median(steps)) * base)
    rate = plausible(rate)
    return ranked_timeline(np.arange(count), rate, packets).with_repairs(
        f"frames without a time: {found.untimed} of {count}; all are spaced equally, at "
        f"{float(rate):.4g} fps"
    )


def _unshown_beginning(path: Path | str, packets: Packets) -> np.ndarray:
    """Which packets at the beginning no decoder can show, because their key frame is missing.

    Only where the packets make it possible, the beginning is decoded to know: a file may start at a
    frame that is not a key frame and yet can be decoded from it.

    Returns:
        (N,) bool.
    """
    lost = np.zeros(len(packets.pts), bool)
    keys = np.flatnonzero(packets.key)
    first = int(keys[0]) if len(keys) else 0
    before = packets.shown & (packets.place < packets.place[first])
    if not before.any():
        return lost
    stop = first + _LEAD_PACKETS
    returned: set[int | None] = set()
    with open_video(path) as (container, stream):
        context = decoder_of(stream).context
        for number, packet in enumerate(container.demux(stream)):
            if packet.size == 0 or number > stop:
                break
            packet.pts = number
            returned.update(frame.pts for frame in decode_packet(context, packet))
        returned.update(frame.pts for frame in decode_packet(context, None))
    lost[:stop] = before[:stop]
    lost[[number for number in returned if number is not None and number < len(lost)]] = False
    return lost


def _less_than_stated(
    container: InputContainer, stream: VideoStream, found: _Scanned, base: Fraction
) -> str | None:
    """Says that a file has fewer frames than its header states, as one that was damaged inside.

    Only where the header speaks of the video: that of a file with sound may be longer.
    """
    name = container.format.name.partition(",")[0]
    if name not in _STATING or found.untimed:
        return None
    stated = stream.frames or 0
    count = len(found.packets.pts) + found.empty
    if stated > count:
        return f"its header states {stated} frames, but only {count} are there"
    seconds = float(stream.duration * base) if stream.duration else 0.0
    if not seconds and len(container.streams) == 1 and container.duration:
        seconds = container.duration / 1e6
    pts = found.packets.pts
    # Some headers count from the first frame, some from 0.
    there = float(max(int(pts.max()) - int(pts.min()), int(pts.max())) * base)
    step = there / max(count - 1, 1)
    if seconds - there > max(_LACKS_SECONDS, _LACKS_SHARE * seconds) + step:
        return f"its header states {seconds:.2f} s, but its frames end after {there + step:.2f} s"
    return None


def _decodes_to_the_end(path: Path | str, packets: Packets) -> bool:
    """Whether the last frames can be decoded without an error, which is not concealed here."""
    start = int(np.flatnonzero(packets.key)[-1]) if packets.key.any() else 0
    with open_video(path) as (container, stream):
        context = decoder_of(stream).context
        context.options = {"err_detect": "explode"}
        context.thread_count = 1
        rows = -(-stream.height // 16) if context.name in ("mpeg1video", "mpeg2video") else 0
        last: Packet[VideoStream] | None = None
        try:
            for number, packet in enumerate(container.demux(stream)):
                if number >= start or not packet.size:
                    context.decode(packet if packet.size else None)
                if not packet.size:
                    break
                last = packet
        except quiet_av().error.FFmpegError:
            return False
    return last is None or not rows or has_last_row(bytes(last), rows)


def _choice(container: InputContainer, stream: VideoStream) -> str | None:
    """Which of several video streams is read."""
    streams = video_streams(container)
    if len(streams) < 2:
        return None
    return (
        f"has {len(streams)} video streams; stream {stream.index} "
        f"({stream.width}x{stream.height}) is read"
    )


def _colours(stream: VideoStream) -> str | None:
    """Names a colour matrix that is not converted."""
    name = _UNKNOWN_MATRICES.get(int(stream.codec_context.colorspace or 0))
    return f"its colour matrix {name} is not supported; its colours are wrong" if name else None


def _header_timeline(
    container: InputContainer, stream: VideoStream, base: Fraction, rate: Fraction | None
) -> Timeline | None:
    """The timeline that the header states, or None where it states no duration."""
    if stream.duration:
        duration = float(stream.duration * base)
    elif container.duration:
        duration = container.duration / 1e6
    else:
        return None
    return Timeline(
        duration_seconds=duration,
        fps=float(rate) if rate else None,
        frame_count=stream.frames or None,
        time_base=base,
        first=stream.start_time or 0,
    )
