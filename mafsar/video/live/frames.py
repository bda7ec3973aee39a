"""Opens a source and gives its frames in order, each with its time; a frame becomes RGB only on demand."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from mafsar.errors import InputError, UnavailableError, VideoError
from mafsar.video.container import (
    pixel_aspect,
    quiet_av,
    tolerant_of_metadata,
    video_streams,
)
from mafsar.video.decoder import decode_packet, prepare
from mafsar.video.live.clock import LiveClock
from mafsar.video.live.place import Place
from mafsar.video.picture import Picture, picture_of

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame

OPEN_SECONDS = 10.0
"""A stream that takes longer to open is tried again."""
SILENT_SECONDS = 10.0
"""A live source without a frame for this long is lost."""
LARGE_PIXELS = 3_000_000
"""Frames with more pixels are decoded by one thread, and reduced as they become RGB."""
_CSI = (
    "gst-launch-1.0", "-q", "nvarguscamerasrc", "sensor-id={sensor}", "!",
    "video/x-raw(memory:NVMM),width=1280,height=720,framerate=30/1", "!", "nvvidconv", "!",
    "video/x-raw,format=I420", "!", "y4menc", "!", "fdsink", "fd=1", "sync=false",
)  # fmt: skip
"""What reads a CSI camera of a Jetson; a list of arguments, no shell."""


@dataclass(frozen=True)
class TimedFrame:
    """A frame and when it is first shown.

    Attributes:
        seconds: From the first frame of the source.
        picture: Makes its RGB picture, upright, at its own size.
    """

    seconds: float
    picture: Callable[[], Picture]


Enough = Callable[[], int | None]
"""The short side to which large pictures may be reduced, pixels; None = none are. Asked for each
picture: what is looked at may change while a source is open."""


class LostSourceError(VideoError):
    """A live source has ended or cannot be opened now; it may come back."""


@dataclass
class OpenSource:
    """A source that is open.

    Attributes:
        frames: Its frames, in order.
        fps: What it states, frames a second, or None.
        end: Time at which the last frame is over, seconds; known once the frames have ended.
        repairs: What was repaired in reading so far, plain sentences.
    """

    frames: Iterator[TimedFrame]
    fps: float | None
    end: Callable[[], float]
    repairs: Callable[[], Sequence[str]] = tuple


@contextmanager
def open_stream(
    place: Place, clock: LiveClock | None = None, enough: Enough = lambda: None
) -> Iterator[OpenSource]:
    """Opens a camera, a stream, stdin or frames in memory.

    Args:
        place: Any but a file.
        clock: Continues the clock of an earlier opening.
        enough: To what its pictures may be reduced.

    Raises:
        LostSourceError: It cannot be opened, or ends; a live source may be tried again.
        InputError: A frame in memory is not (seconds, uint8 RGB).
        UnavailableError: What reads this kind of source is not installed.
    """
    clock = clock or LiveClock(paced=place.is_live)
    if place.kind in ("frames", "pushed"):
        last: list[float] = [0.0]
        yield OpenSource(_in_memory(place, last), None, lambda: last[0] + clock.step)
        return
    with _container(place) as container:
        streams = video_streams(container)
        if not streams:
            raise LostSourceError(f"{place.name}: has no video")
        stream = streams[0]
        context = stream.codec_context
        large = (context.width or 0) * (context.height or 0) > LARGE_PIXELS
        # Every thread of the decoder holds frames of its own and adds a frame of delay.
        prepare(context, 1 if large or place.is_live else None)
        rate = stream.average_rate or stream.guessed_rate
        aspect = pixel_aspect(stream)
        yield OpenSource(
            _decoded(place, container, stream, aspect, clock, enough),
            float(rate) if rate else None,
            lambda: clock.seconds + clock.step,
        )


@contextmanager
def _container(place: Place) -> Iterator[InputContainer]:
    """The open container of a source that PyAV reads."""
    av = quiet_av()
    options: dict[str, str] = {}
    where: Any = place.where
    form = None
    child: subprocess.Popen[bytes] | None = None
    if place.kind == "csi":
        child = _start_csi(place)
        where, form = child.stdout, "yuv4mpegpipe"
    elif place.kind == "stdin":
        where = _Pipe(os.dup(0))
    elif place.kind == "camera":
        form = "v4l2"
        _check_device(place)
    elif str(where).lower().startswith("rtsp"):
        options = {"rtsp_transport": "tcp", "fflags": "nobuffer", "flags": "low_delay"}
    try:
        container = av.open(
            where,
            format=form,
            options=options,
            timeout=(OPEN_SECONDS, SILENT_SECONDS) if place.kind == "stream" else None,
            **tolerant_of_metadata(),
        )
    except (av.error.FFmpegError, OSError, ValueError) as error:
        _stop(child)
        reason = str(getattr(error, "strerror", None) or error).rstrip(".")
        raise LostSourceError(f"{place.name}: cannot be opened ({reason})") from None
    try:
        with container:
            yield container
    finally:
        _stop(child)


class _Pipe:
    """A pipe as a file without `seek`, which is how PyAV knows that it cannot go back."""

    def __init__(self, descriptor: int) -> None:
        self._file: IO[bytes] = os.fdopen(descriptor, "rb", buffering=0)

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; empty at the end."""
        return self._file.read(size) or b""


def _decoded(
    place: Place,
    container: InputContainer,
    stream: Any,
    aspect: float,
    clock: LiveClock,
    enough: Enough,
) -> Iterator[TimedFrame]:
    """The frames of a container until it ends."""
    av = quiet_av()
    transfer = getattr(stream.codec_context, "color_trc", None)
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.error.FFmpegError as error:
            if not place.is_live:
                return  # cut short; what came is used
            reason = str(getattr(error, "strerror", None) or error).rstrip(".")
            raise LostSourceError(f"{place.name}: was lost ({reason})") from None
        for frame in decode_packet(stream.codec_context, packet):
            # Without a timestamp PyAV gives None, whatever its annotation says.
            stamp: float | None = frame.time
            yield TimedFrame(
                clock.tick(stamp, time.monotonic()),
                _picture_maker(frame, aspect, transfer, enough),
            )
        if packet is None:
            break
    if place.is_live:
        raise LostSourceError(f"{place.name}: has ended")


def _picture_maker(
    frame: VideoFrame, aspect: float, transfer: int | None, enough: Enough
) -> Callable[[], Picture]:
    return lambda: picture_of(
        frame, aspect=aspect, transfer=transfer, short_side=enough(), large=LARGE_PIXELS
    )


def _in_memory(place: Place, last: list[float]) -> Iterator[TimedFrame]:
    """The frames of an iterable of (seconds, frame)."""
    before, first = -np.inf, None
    for number, item in enumerate(place.where):
        seconds, pixels = _checked(place, number, item)
        first = seconds if first is None else first
        if seconds <= before:
            raise InputError(
                f"{place.name}: frame {number} is at {seconds:g} s, not after the one before "
                f"({before:g} s); seconds must rise"
            )
        before = seconds
        last[0] = seconds - first
        yield TimedFrame(seconds - first, _kept(pixels))


def _kept(pixels: np.ndarray) -> Callable[[], Picture]:
    return lambda: Picture.of(pixels)


def _checked(place: Place, number: int, item: Any) -> tuple[float, np.ndarray]:
    expected = "every item must be (seconds, frame) with a uint8 RGB frame (H, W, 3)"
    if not isinstance(item, Sequence) or len(item) != 2:
        raise InputError(f"{place.name}: item {number} is {type(item).__name__}; {expected}")
    seconds, pixels = item
    pixels = np.asarray(pixels)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise InputError(
            f"{place.name}: frame {number} is {pixels.dtype} {pixels.shape}; {expected}"
        )
    seconds = float(seconds)
    if not np.isfinite(seconds):
        raise InputError(f"{place.name}: frame {number} is at {seconds} s; {expected}")
    return seconds, pixels


def _check_device(place: Place) -> None:
    """Raises what PyAV would say less clearly of a camera."""
    device = Path(str(place.where))
    if not device.exists():
        raise LostSourceError(f"{place.name}: no such camera ({device}); mafsar doctor lists them")
    if not os.access(device, os.R_OK | os.W_OK):
        raise LostSourceError(
            f"{place.name}: this user may not read {device}; sudo usermod -aG video $USER"
        )


def _start_csi(place: Place) -> subprocess.Popen[bytes]:
    words = [word.format(sensor=place.where) for word in _CSI]
    if which(words[0]) is None:
        raise UnavailableError(
            f"{place.name}: needs {words[0]}; sudo apt-get install gstreamer1.0-tools "
            "(on a Jetson also nvidia-l4t-gstreamer)"
        )
    return subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )


def _stop(child: subprocess.Popen[bytes] | None) -> None:
    if child is None:
        return
    child.terminate()
    try:
        child.wait(2.0)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    if child.stdout is not None:
        child.stdout.close()
