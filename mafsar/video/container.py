"""Opening a video file: its defects as a file, and which of its streams is read."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mafsar.errors import MissingError, VideoError
from mafsar.video.formats import FORMATS, is_playlist
from mafsar.video.sniff import is_heif
from mafsar.video.source import refuse_irregular
from mafsar.video.truncation import data_end, truncation

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

_COPY = "copy it or record it again"
_LOOK_PACKETS = 2000  # of all streams, to see which of several video streams move


@functools.cache
def quiet_av() -> Any:
    """Imports PyAV with FFmpeg's own messages off: errors are raised as exceptions only."""
    import av
    import av.logging

    av.logging.set_level(None)
    return av


@functools.cache
def tolerant_of_metadata() -> dict[str, Any]:
    """Arguments of `av.open` by which invalid bytes in metadata are no error; PyAV 19 needs none."""
    old = int(quiet_av().__version__.partition(".")[0]) < 19
    return {"metadata_errors": "replace"} if old else {}


@contextmanager
def open_video(path: Path | str) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Opens a video file and the video stream that is read, which `choose_stream` names.

    Raises:
        MissingError: There is no such file.
        VideoError: It cannot be read, is empty, truncated or not a video, or has no video stream.
    """
    path = Path(path)
    av = quiet_av()
    _check_file(path)
    try:
        container = _open(path)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise VideoError(
            f"{path}: is not a video that FFmpeg can read ({_reason(error)}); "
            f"give a video file, or {_COPY}"
        ) from None
    with container:
        stream = choose_stream(path, container)
        if stream.codec_context is None:
            raise VideoError(
                f"{path}: its video codec is unknown to this FFmpeg; convert it to H.264"
            )
        yield container, stream


def _address(path: Path) -> str:
    """How FFmpeg is to open a file: without what follows the pictures of a GIF."""
    end = data_end(path) if path.is_file() else None
    return f"file:{path}" if end is None else f"subfile,,start,0,end,{end},,:file:{path}"


def choose_stream(path: Path | str, container: InputContainer) -> VideoStream:
    """Returns the stream to read: the default one, else the largest that moves; no cover picture.

    A default stream with a single frame is not read where another one moves.

    Raises:
        VideoError: There is no video stream.
    """
    streams = video_streams(container)
    if not streams:
        kinds: list[str] = sorted({stream.type for stream in container.streams})
        kinds = kinds or ["nothing"]
        raise VideoError(
            f"{path}: has no video stream, only {' and '.join(kinds)}; give a video file"
        )
    if len(streams) == 1:
        return streams[0]
    # PyAV has no context for a codec that FFmpeg does not know, whatever its annotation says.
    usable = [stream for stream in streams if getattr(stream, "codec_context", None)]
    moving = _moving(path, [stream.index for stream in usable])
    return max(
        usable or streams,
        key=lambda stream: (
            stream.index in moving,
            _has_disposition(stream, "default"),
            stream.width * stream.height,
            -stream.index,
        ),
    )


def video_streams(container: InputContainer) -> list[VideoStream]:
    """Returns the video streams that are not cover pictures or thumbnails."""
    aside = ("attached_pic", "timed_thumbnails", "still_image")
    streams = list(container.streams.video)
    kept = [s for s in streams if not any(_has_disposition(s, name) for name in aside)]
    # A stream that is marked as a still is read where there is no other.
    return kept or [s for s in streams if not _has_disposition(s, "attached_pic")]


def _moving(path: Path | str, indices: list[int]) -> set[int]:
    """Which of these streams have a second frame, in the first packets of the file."""
    av = quiet_av()
    count = dict.fromkeys(indices, 0)
    with _open(path) as container:
        try:
            for number, packet in enumerate(
                container.demux([container.streams[index] for index in indices])
            ):
                if packet.stream_index in count and packet.size:
                    count[packet.stream_index] += 1
                if number >= _LOOK_PACKETS or all(packets > 1 for packets in count.values()):
                    break
        except av.error.FFmpegError:
            pass
    return {index for index, packets in count.items() if packets > 1}


def pixel_aspect(stream: VideoStream) -> float:
    """Returns width / height of one displayed pixel; 1 where the file does not say."""
    aspect = stream.sample_aspect_ratio
    return float(aspect) if aspect else 1.0


def _open(path: Path | str) -> InputContainer:
    """Opens a file by a format that stands for itself, and nothing that it may refer to."""
    # "file:", because FFmpeg would read "10:30.mp4" as a protocol.
    options = {"protocol_whitelist": "file,subfile", "format_whitelist": ",".join(FORMATS)}
    container: InputContainer = quiet_av().open(
        _address(Path(path)), options=options, **tolerant_of_metadata()
    )
    return container


def _check_file(path: Path) -> None:
    """Raises errors that the file system shows, and truncation that the file's structure shows."""
    refuse_irregular(path)
    try:
        size = path.stat().st_size
        if path.is_file():
            with path.open("rb"):
                pass
    except (FileNotFoundError, NotADirectoryError):
        address = re.match(r"(https?|ftp):/+(.+)", str(path), re.IGNORECASE)
        if address is not None:
            raise MissingError(
                f"{address[1]}://{address[2]}: is on the web; download it first, then give the file"
            ) from None
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
    if is_playlist(path):
        raise VideoError(f"{path}: is a playlist, which only names other files; give those")
    if is_heif(path) and _is_tiled(path):
        raise VideoError(
            f"{path}: its picture is stored in tiles, which are not joined here; convert it to JPEG"
        )
    reason = truncation(path)
    if reason:
        raise VideoError(f"{path}: is truncated ({reason}); {_COPY}")


def _is_tiled(path: Path) -> bool:
    """Whether a HEIF file has a derived picture that joins others (ISO/IEC 23008-12, 6.6.2.3)."""
    with path.open("rb") as file:
        return _GRID_ITEM.search(file.read(_HEIF_HEAD_BYTES)) is not None


_GRID_ITEM = re.compile(rb"infe(?:\x02.{7}|\x03.{9})grid", re.DOTALL)
_HEIF_HEAD_BYTES = 1 << 18


def _has_disposition(stream: VideoStream, name: str) -> bool:
    """Whether the file marks the stream so; False where this FFmpeg does not know the name."""
    disposition = getattr(stream, "disposition", None)
    flag = getattr(type(disposition), name, None)
    return disposition is not None and flag is not None and bool(disposition & flag)


def _reason(error: Exception) -> str:
    """FFmpeg's message for an error, without its number and file name."""
    return str(getattr(error, "strerror", None) or error).rstrip(".")
