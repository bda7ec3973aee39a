"""A video file before any frame is decoded: opening it, its timestamps, and defects of the file."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mafsar.errors import MissingError, VideoError
from mafsar.video.source import refuse_irregular
from mafsar.video.truncation import truncation

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

SCAN_LIMIT_BYTES = 1 << 29
"""Larger files are not scanned for their timestamps; the duration of their header is used."""

_COPY = "copy it or record it again"
_FALLBACK_RATE = Fraction(25)


@functools.cache
def quiet_av() -> Any:
    """Imports PyAV with FFmpeg's own messages off: errors are raised as exceptions only."""
    import av
    import av.logging

    av.logging.set_level(None)
    return av


@contextmanager
def open_video(path: Path | str) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Opens a video file and its first video stream that is not a cover picture.

    Raises:
        MissingError: There is no such file.
        VideoError: It cannot be read, is empty, truncated or not a video, or has no video stream.
    """
    path = Path(path)
    av = quiet_av()
    _check_file(path)
    try:
        # "file:", because FFmpeg would read "10:30.mp4" as a protocol; invalid bytes in metadata are
        # replaced, not an error.
        container = av.open(f"file:{path}", metadata_errors="replace")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise VideoError(
            f"{path}: is not a video that FFmpeg can read ({_reason(error)}); "
            f"give a video file, or {_COPY}"
        ) from None
    with container:
        streams = [stream for stream in container.streams.video if not _is_cover(stream)]
        if not streams:
            kinds = sorted({stream.type for stream in container.streams}) or ["nothing"]
            raise VideoError(
                f"{path}: has no video stream, only {' and '.join(kinds)}; give a video file"
            )
        stream = streams[0]
        if stream.codec_context is None:
            raise VideoError(
                f"{path}: its video codec is unknown to this FFmpeg; convert it to H.264"
            )
        yield container, stream


@dataclass(frozen=True)
class Packets:
    """Every packet of a stream in file order: what a plan of decoding needs."""

    pts: np.ndarray
    """(N,) int64, in units of the stream's time base."""
    dts: np.ndarray
    """(N,) int64; the pts where the file has no decoding timestamp."""
    key: np.ndarray
    """(N,) bool: decoding can start here."""
    shown: np.ndarray
    """(N,) bool: False where an edit list hides the frame."""


@dataclass(frozen=True)
class Timeline:
    """The clock of a video stream."""

    time_base: Fraction
    """Seconds of one tick."""
    first: int
    """Timestamp of the first frame shown, in ticks."""
    duration_seconds: float
    """From the first timestamp to the end of the last frame."""
    fps: float | None
    """Average rate; None for a single picture."""
    frame_count: int | None
    """Frames shown; None where the file was not scanned."""
    packets: Packets | None
    """None where the file was not scanned or has no presentation times."""
    ranked: np.ndarray | None = None
    """For files without presentation times: when the k-th frame that the decoder returns is shown,
    seconds, (N,) float64 from 0, ascending."""

    def seconds(self, ticks: np.ndarray | int) -> Any:
        """Returns seconds from the first timestamp."""
        base = self.time_base
        return (np.asarray(ticks, dtype=np.int64) - self.first) * base.numerator / base.denominator


def read_timeline(path: Path | str, container: InputContainer, stream: VideoStream) -> Timeline:
    """Reads the timestamps of all packets, without decoding.

    Durations in headers are often wrong (streamed files, edit lists, cut files), and a scan costs
    1-2 % of decoding, so only very large files use the duration of their header.

    Raises:
        VideoError: There is no frame.
    """
    base = stream.time_base or Fraction(1, 1000)
    rate = stream.guessed_rate or stream.average_rate
    header = _header_timeline(container, stream, base, rate)
    if header is not None and Path(path).stat().st_size > SCAN_LIMIT_BYTES:
        return header
    rows, last_duration, timed = _scan(container, stream)
    if not rows:
        raise VideoError(f"{path}: has no frames in its video stream; {_COPY}")
    columns = np.array(rows, dtype=np.int64)
    if not timed:
        return _ranked_timeline(np.arange(len(rows)), rate or _FALLBACK_RATE)
    if container.format.name == "avi" and (columns[:, 0] != columns[:, 1]).any():
        # AVI stores no presentation times, and FFmpeg guesses wrong where frames are reordered.
        return _ranked_timeline(np.sort(columns[:, 1]), 1 / base)
    packets = Packets(
        pts=columns[:, 0],
        dts=columns[:, 1],
        key=columns[:, 2].astype(bool),
        shown=columns[:, 3].astype(bool),
    )
    times = np.sort(packets.pts[packets.shown])
    if len(times) == 0:
        raise VideoError(f"{path}: its edit list hides every frame; export it again without edits")
    if last_duration <= 0:
        gaps = np.diff(times)
        last_duration = int(np.median(gaps)) if len(gaps) else int(1 / (rate or 25) / base)
    duration = float((int(times[-1]) - int(times[0]) + last_duration) * base)
    return Timeline(
        time_base=base,
        first=int(times[0]),
        duration_seconds=duration,
        fps=len(times) / duration if len(times) > 1 and duration > 0 else None,
        frame_count=len(times),
        packets=packets,
    )


def video_info(path: Path | str) -> dict[str, Any]:
    """Returns the properties of a video file.

    Returns:
        ``path``, ``duration_seconds``, ``fps`` (average), ``width`` and ``height`` of the displayed
        picture before rotation metadata, ``codec``, ``container``, ``pixel_format`` and ``frames``
        (None where only decoding would tell).

    Raises:
        MissingError, VideoError: As for `open_video` and `read_timeline`.
    """
    with open_video(path) as (container, stream):
        timeline = read_timeline(path, container, stream)
        return {
            "path": str(path),
            "duration_seconds": timeline.duration_seconds,
            "fps": timeline.fps,
            "width": max(round(stream.width * pixel_aspect(stream)), 1),
            "height": stream.height,
            "codec": stream.codec_context.name,
            "container": container.format.name.split(",")[0],
            "pixel_format": stream.codec_context.pix_fmt,
            "frames": timeline.frame_count,
        }


def pixel_aspect(stream: VideoStream) -> float:
    """Returns width / height of one displayed pixel; 1 where the file does not say."""
    aspect = stream.sample_aspect_ratio
    return float(aspect) if aspect else 1.0


def _scan(
    container: InputContainer, stream: VideoStream
) -> tuple[list[tuple[int, int, bool, bool]], int, bool]:
    """Returns (pts, dts, key, shown) of each packet, the last frame's duration in ticks, and
    whether every packet had a pts.

    The duration is that of the last packet in file order: MP4 stores steps of decoding time, so
    where frames are reordered only the packet without a successor has a presentation duration.
    """
    rows: list[tuple[int, int, bool, bool]] = []
    timed = True
    last_duration = 0
    av = quiet_av()
    try:
        for packet in container.demux(stream):
            if packet.size == 0:
                continue
            pts = packet.pts
            if pts is None:
                timed = False
                pts = 0
            if not packet.is_discard:
                last_duration = packet.duration or 0
            dts = packet.dts if packet.dts is not None else pts
            rows.append((pts, dts, packet.is_keyframe, not packet.is_discard))
    except av.error.FFmpegError:
        # A damaged end of the file stops the scan; decoding decides whether enough is left.
        pass
    return rows, last_duration, timed


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
        time_base=base,
        first=stream.start_time or 0,
        duration_seconds=duration,
        fps=float(rate) if rate else None,
        frame_count=stream.frames or None,
        packets=None,
    )


def _ranked_timeline(ticks: np.ndarray, rate: Fraction) -> Timeline:
    """Frames are shown in the order in which the decoder returns them, the k-th at ticks[k] / rate."""
    ticks = ticks - ticks[0]
    last = float(np.median(np.diff(ticks))) if len(ticks) > 1 else 1.0
    duration = (float(ticks[-1]) + last) / float(rate)
    return Timeline(
        time_base=1 / rate,
        first=0,
        duration_seconds=duration,
        fps=len(ticks) / duration,
        frame_count=len(ticks),
        packets=None,
        ranked=ticks / float(rate),
    )


def _check_file(path: Path) -> None:
    """Raises errors that the file system shows, and truncation that the file's structure shows."""
    refuse_irregular(path)
    try:
        size = path.stat().st_size
        if path.is_file():
            with path.open("rb"):
                pass
    except (FileNotFoundError, NotADirectoryError):
        raise MissingError(f"{path}: no such file; check the path") from None
    except ValueError as error:  # a NUL in the name
        raise MissingError(f"{path}: no such file ({error}); check the path") from None
    except OSError as error:
        raise VideoError(
            f"{path}: cannot be read ({error.strerror}); make it readable for this user"
        ) from None
    if path.is_dir():
        raise VideoError(f"{path}: is a folder; give a video file or a folder of frames")
    if path.is_file() and size == 0:
        raise VideoError(f"{path}: is empty (0 bytes); {_COPY}")
    reason = truncation(path)
    if reason:
        raise VideoError(f"{path}: is truncated ({reason}); {_COPY}")


def _is_cover(stream: VideoStream) -> bool:
    """Whether this stream is the cover picture of a music file."""
    disposition = getattr(stream, "disposition", None)
    return disposition is not None and bool(disposition & type(disposition).attached_pic)


def _reason(error: Exception) -> str:
    """FFmpeg's message for an error, without its number and file name."""
    return str(getattr(error, "strerror", None) or error).rstrip(".")
