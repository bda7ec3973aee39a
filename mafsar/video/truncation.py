"""Whether a file is shorter than its own structure states.

FFmpeg reads what is left of such a file without a message, and a clip cut off in the middle would
be matched as if it were complete. MP4/MOV, Matroska/WebM, AVI and GIF are refused where pictures are
missing (`truncation`, and `cut_short` where only the frames themselves tell); of FLV, MPEG-TS,
MPEG-PS, ASF/WMV and Y4M, which are made to be read while they are written, what is there is read and
the shortfall said (`cut_short`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from mafsar.video import ebml
from mafsar.video.streamed import bytes_missing, streamed_shortfall

_MP4_FIRST = frozenset({b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"styp"})
_MAX_BOXES = 100_000
_MAX_MOOF_BYTES = 1 << 24


def truncation(path: Path | str) -> str | None:
    """Returns how a file is cut short, or None if it is complete or this cannot be determined."""
    path = Path(path)
    if not path.is_file():
        return None
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(16)
        if head[4:8] in _MP4_FIRST:
            reason, listed = _mp4(file, size)
            # Where the index is there, whether its frames are all there decides; see `cut_short`.
            return None if listed else reason
        if head.startswith(ebml.MAGIC):
            return _matroska(file, size)
        if head.startswith((b"GIF87a", b"GIF89a")):
            return _gif(file, size)
    return None


@dataclass(frozen=True)
class Shortfall:
    """A file that may lack its end."""

    reason: str
    listed: bool
    """The file has an index of its frames, which tells whether one is missing."""


def cut_short(path: Path | str) -> Shortfall | None:
    """Returns how a file that can still be read is cut short, or None if it is complete."""
    path = Path(path)
    if not path.is_file():
        return None
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(1024)
        if head[4:8] in _MP4_FIRST:
            reason, listed = _mp4(file, size)
            return Shortfall(reason, True) if reason and listed else None
        if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
            reason = bytes_missing(8 + int.from_bytes(head[4:8], "little"), size)
            return Shortfall(reason, True) if reason else None
        reason = streamed_shortfall(file, head, size)
    return Shortfall(reason, False) if reason else None


def _mp4(file: BinaryIO, size: int) -> tuple[str | None, bool]:
    """Reads the top-level boxes: each is a size, a name and a body (ISO/IEC 14496-12, 4.2).

    Returns how it is cut short, or None; and whether its index, which lists every frame, is there.
    """
    position = 0
    names = set()
    moof: tuple[int, int] | None = None
    for _ in range(_MAX_BOXES):
        file.seek(position)
        head = file.read(16)
        if len(head) < 8:
            break
        length, name = int.from_bytes(head[:4], "big"), head[4:8]
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        elif length == 0:  # the last box extends to the end of the file
            length = size - position
        if length < 8 or not name.isascii():  # not a box: other data after the last box
            break
        names.add(name)
        if name == b"moof":
            moof = (position + 8, min(length - 8, _MAX_MOOF_BYTES))
        if position + length > size and name in {b"mdat", b"moov", b"moof"}:
            whole_index = name == b"mdat" and b"moov" in names and b"moof" not in names
            if name == b"mdat" and moof is not None:
                listed = _fragment_bytes(_at(file, *moof))
                if listed is not None and position + 8 + listed <= size:
                    return None, False
            return bytes_missing(position + length, size), whole_index
        position += length
    # HEIF and AVIF keep the index of their pictures in the box meta.
    if b"mdat" in names and not names & {b"moov", b"meta"}:
        return "its index, the moov box, is missing", False
    return None, False


def _fragment_bytes(moof: bytes) -> int | None:
    """Size of the samples that a movie fragment lists, all tracks (ISO/IEC 14496-12, 8.8.7-8.8.8).

    Returns:
        None where it leaves their sizes to the track.
    """
    total = 0
    for _, traf in _boxes(moof, b"traf"):
        default: int | None = None
        for name, box in _boxes(traf, b"tfhd", b"trun"):
            flags = int.from_bytes(box[1:4], "big")
            if name == b"tfhd":
                at = 8 + (8 if flags & 1 else 0) + (4 if flags & 2 else 0) + (4 if flags & 8 else 0)
                default = int.from_bytes(box[at : at + 4], "big") if flags & 0x10 else None
                continue
            count = int.from_bytes(box[4:8], "big")
            fields = [flag for flag in (0x100, 0x200, 0x400, 0x800) if flags & flag]
            if 0x200 not in fields:
                if default is None:
                    return None
                total += count * default
                continue
            first = 8 + (4 if flags & 1 else 0) + (4 if flags & 4 else 0)
            step, at = 4 * len(fields), 4 * fields.index(0x200)
            for start in range(first + at, min(len(box), first + count * step), step):
                total += int.from_bytes(box[start : start + 4], "big")
    return total


def _boxes(data: bytes, *names: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The boxes of these names in the content of a box: name and content."""
    at = 0
    while at + 8 <= len(data):
        length, name = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if length < 8:
            return
        if name in names:
            yield name, data[at + 8 : at + length]
        at += length


def _matroska(file: BinaryIO, size: int) -> str | None:
    """Checks the size of the Segment; live recordings do not state it (RFC 8794, RFC 9559).

    What is written behind the pictures may lack: the first part of a file says where its index is,
    and all pictures are there where that begins.
    """
    file.seek(4)
    header_length, header_width = ebml.vint(file.read(8))
    if header_length is None:
        return None
    position = 4 + header_width + header_length
    file.seek(position)
    head = file.read(12)
    if int.from_bytes(head[:4], "big") != ebml.SEGMENT:
        return None
    length, width = ebml.vint(head[4:])
    begin = position + 4 + width
    reason = None if length is None else bytes_missing(begin + length, size)
    return reason if reason and not _past_pictures(file, begin, size) else None


def _past_pictures(file: BinaryIO, begin: int, size: int) -> bool:
    """Whether a Matroska file reaches beyond its last picture."""
    clusters = 0
    for name, start, stop in ebml.elements(file, begin, size):
        if name == ebml.CLUSTER:
            clusters += 1
        elif clusters:
            return True
        elif name == ebml.SEEK_HEAD:
            index = _place_of(file, start, stop, ebml.CUES)
            # Where it is not behind the pictures, it is reached before the first of them.
            if index is not None and begin + index <= size and not _is_before(file, begin, index):
                return True
    return False


def _place_of(file: BinaryIO, begin: int, end: int, wanted: int) -> int | None:
    """Where a SeekHead says that an element is, from the beginning of the Segment."""
    for name, start, stop in ebml.elements(file, begin, end):
        if name != ebml.SEEK:
            continue
        found = {
            inner: ebml.number(file, first, last)
            for inner, first, last in ebml.elements(file, start, stop)
        }
        if found.get(ebml.SEEK_ID) == wanted:
            return found.get(ebml.SEEK_POSITION)
    return None


def _is_before(file: BinaryIO, begin: int, place: int) -> bool:
    """Whether a place in a Segment is before its first cluster."""
    for name, start, _ in ebml.elements(file, begin, begin + place + 1):
        if name == ebml.CLUSTER:
            return False
        if start > begin + place:
            return True
    return True


def data_end(path: Path) -> int | None:
    """Where the pictures of a GIF end, if other data follows; FFmpeg would read all of it at once."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if not file.read(6).startswith((b"GIF87a", b"GIF89a")):
            return None
        end, _ = _gif_blocks(file, size)
        while _at(file, end, 6) in (b"GIF87a", b"GIF89a"):  # FFmpeg reads joined ones
            end, _ = _gif_blocks(file, size, end)
    return end if end < size else None


def _gif(file: BinaryIO, size: int) -> str | None:
    return _gif_blocks(file, size)[1]


def _gif_blocks(file: BinaryIO, size: int, begin: int = 0) -> tuple[int, str | None]:
    """Reads the blocks up to the trailer or other data (GIF89a, appendix A).

    Returns:
        The end of the last block, and how it is cut short.
    """
    position = begin + 13 + _gif_table(_at(file, begin + 10, 1))
    while position < size:
        (kind,) = _at(file, position, 1)
        if kind == _GIF_EXTENSION:
            position += 2
        elif kind == _GIF_IMAGE:
            position += 11 + _gif_table(_at(file, position + 9, 1))
        else:
            return position + (kind == _GIF_TRAILER), None
        block = b"\1"
        while (
            position < size and (block := _at(file, position, 1))[0]
        ):  # sub-blocks, the last empty
            position += 1 + block[0]
        position += 1
        if block[0]:
            return size, "its last block is cut off"
    # Only the trailer, one byte, is missing.
    return size, None if position == size else "its last block is cut off"


def _at(file: BinaryIO, position: int, count: int) -> bytes:
    file.seek(position)
    return file.read(count)


_GIF_EXTENSION, _GIF_IMAGE, _GIF_TRAILER = 0x21, 0x2C, 0x3B


def _gif_table(flags: bytes) -> int:
    """Size in bytes of the colour table, from the flags."""
    return 3 << ((flags[0] & 7) + 1) if flags and flags[0] & 0x80 else 0
