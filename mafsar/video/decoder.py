"""The decoder of a video stream (FFmpeg's own, or libvpx where only it reads transparency), and what
it returns."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from mafsar.errors import VideoError
from mafsar.video.container import quiet_av
from mafsar.video.timeline import Timeline

if TYPE_CHECKING:
    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_COPY = "copy it or record it again"
_WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


@dataclass(frozen=True)
class Decoder:
    """What decodes a stream."""

    context: VideoCodecContext
    warning: str | None = None
    """What it cannot decode, a sentence."""


@dataclass
class Damage:
    """How many frames a decoder returned, and how many packets it could not decode."""

    frames: int = 0
    packets: int = 0


@dataclass(frozen=True)
class Shown:
    """A decoded frame."""

    frame: VideoFrame
    aspect: float
    """Width / height of one of its pixels."""


@dataclass(frozen=True)
class DecodedMoments:
    """The frames shown at the requested moments, as decoded."""

    shown: list[Shown]
    """One for each moment; a frame shown at several moments is the same object."""
    times_seconds: np.ndarray
    """(T,) float64: their times, from the first frame of the stream."""
    timeline: Timeline
    """Of the frames that could be shown."""

    @property
    def frames(self) -> list[VideoFrame]:
        """The frames alone."""
        return [item.frame for item in self.shown]


def decoder_of(stream: VideoStream) -> Decoder:
    """Returns the decoder of a stream.

    FFmpeg's own VP8 and VP9 decoders drop the transparency that WebM keeps beside the pictures.
    """
    own = stream.codec_context
    name = _WITH_ALPHA.get(own.name)
    if name is None or stream.metadata.get("alpha_mode") != "1":
        return Decoder(own)
    av = quiet_av()
    try:
        context = cast("VideoCodecContext", av.CodecContext.create(name, "r"))
    except (av.error.FFmpegError, ValueError):
        return Decoder(
            own,
            f"its transparency cannot be read (FFmpeg was built without {name}): what lies behind "
            "transparent parts is shown instead of black",
        )
    if own.extradata:
        context.extradata = own.extradata
    return Decoder(context)


def prepare(context: VideoCodecContext, threads: int | None) -> None:
    """Sets the decoder's threads, unless it has started; None is one a core, at most 4."""
    if context.is_open:
        return
    context.thread_count = min(os.cpu_count() or 1, 4) if threads is None else threads
    context.thread_type = "AUTO"


def is_reordered(stream: VideoStream) -> bool:
    """Returns whether the codec states that frames are shown in another order than decoded."""
    return bool(getattr(stream.codec_context, "has_b_frames", False))


def decode_packet(
    context: VideoCodecContext, packet: Any, damage: Damage | None = None
) -> list[VideoFrame]:
    """Decodes one packet, or flushes the decoder for None; a damaged packet gives no frame."""
    try:
        frames = list(context.decode(packet))
    except quiet_av().error.FFmpegError:
        if damage is not None:
            damage.packets += 1
        return []
    if damage is not None:
        damage.frames += len(frames)
    return frames


def check_damage(path: Path | str, damage: Damage) -> None:
    """Raises where nothing can be decoded, or less than is damaged."""
    if not damage.frames:
        reason = f"{damage.packets} damaged packets" if damage.packets else "an empty stream"
        raise VideoError(f"{path}: no frame can be decoded ({reason}); {_COPY}")
    if damage.packets > damage.frames:
        raise VideoError(
            f"{path}: is damaged ({damage.packets} packets cannot be decoded, {damage.frames} "
            f"frames can); {_COPY}"
        )
