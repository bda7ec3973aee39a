"""Whether a file is shorter than its own structure states.

FFmpeg reads what is left of such a file without a message, and a clip cut off in the middle would
be matched as if it were complete. MP4/MOV, Matroska/WebM, AVI and GIF are refused (`truncation`); of
FLV, MPEG-TS, MPEG-PS, ASF/WMV and Y4M, which are made to be read while they are written, what is there
is read and the shortfall said (`cut_short`).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_MATROSKA_MAGIC = b"\x1aE\xdf\xa3"
_SEGMENT_ID = b"\x18S\x80g"
_MP4_FIRST = frozenset({b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"styp"})
_MAX_BOXES = 100_000


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
        if head.startswith(_MATROSKA_MAGIC):
            return _matroska(file, size)
        if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
            return _short(8 + int.from_bytes(head[4:8], "little"), size)
        if head.startswith((b"GIF87a", b"GIF89a")):
            file.seek(0)
            return _gif(file.read())
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
        for fits, check in _STREAMED:
            if fits(head):
                reason = check(file, head, size)
                return Shortfall(reason, False) if reason else None
    return None


def _short(stated: int, size: int) -> str | None:
    return f"{size} of {stated} bytes are present" if stated > size else None


def _mp4(file: BinaryIO, size: int) -> tuple[str | None, bool]:
    """Reads the top-level boxes: each is a size, a name and a body (ISO/IEC 14496-12, 4.2).

    Returns how it is cut short, or None; and whether its index, which lists every frame, is there.
    """
    position = 0
    names = set()
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
        if position + length > size and name in {b"mdat", b"moov", b"moof"}:
            whole_index = name == b"mdat" and b"moov" in names and b"moof" not in names
            return _short(position + length, size), whole_index
        position += length
    # HEIF and AVIF keep the index of their pictures in the box meta.
    if b"mdat" in names and not names & {b"moov", b"meta"}:
        return "its index, the moov box, is missing", False
    return None, False


def _matroska(file: BinaryIO, size: int) -> str | None:
    """Checks the size of the Segment; live recordings do not state it (RFC 8794, RFC 9559)."""
    file.seek(4)
    header_length, header_width = vint(file.read(8))
    if header_length is None:
        return None
    position = 4 + header_width + header_length
    file.seek(position)
    head = file.read(12)
    if head[:4] != _SEGMENT_ID:
        return None
    length, width = vint(head[4:])
    return None if length is None else _short(position + 4 + width + length, size)


def _gif(data: bytes) -> str | None:
    """Reads the blocks up to the trailer or other data (GIF89a, appendix A)."""
    position = 13 + _gif_table(data[10:11])
    while position < len(data):
        kind = data[position]
        if kind == _GIF_EXTENSION:
            position += 2
        elif kind == _GIF_IMAGE:
            position += 11 + _gif_table(data[position + 9 : position + 10])
        else:
            return None
        while position < len(data) and data[position]:  # sub-blocks, the last is empty
            position += 1 + data[position]
        position += 1
    return "its last block is cut off"


_GIF_EXTENSION, _GIF_IMAGE = 0x21, 0x2C


def _gif_table(flags: bytes) -> int:
    """Size in bytes of the colour table, from the flags."""
    return 3 << ((flags[0] & 7) + 1) if flags and flags[0] & 0x80 else 0


def vint(data: bytes) -> tuple[int | None, int]:
    """Reads an EBML number: (value, bytes read); the value is None if it is "unknown"."""
    if not data or data[0] == 0:
        return None, 0
    width = 9 - data[0].bit_length()
    value = int.from_bytes(data[:width], "big") & ((1 << (7 * width)) - 1)
    unknown = value == (1 << (7 * width)) - 1
    return (None if unknown else value), width


def _flv(file: BinaryIO, head: bytes, size: int) -> str | None:
    """Each tag is followed by its own length; the first may state the file's (FLV 10.1, E.3-E.5)."""
    stated = re.search(rb"\x08filesize\x00(.{8})", head, re.DOTALL)
    if stated is not None and (length := _double(stated[1])) > size:
        return _short(length, size)
    if size < _FLV_LEAST:
        return "its first tag is cut off"
    file.seek(size - 4)
    tag = int.from_bytes(file.read(4), "big")
    begin = size - 4 - tag
    if tag >= 11 and begin >= 13:
        file.seek(begin + 1)
        if int.from_bytes(file.read(3), "big") + 11 == tag:
            return None
    return "its last tag is cut off"


_FLV_LEAST = 13 + 11 + 4


def _double(data: bytes) -> int:
    """A big-endian double as a whole number; 0 where it is none."""
    (value,) = struct.unpack(">d", data)
    return int(value) if 0 < value < 1 << 60 else 0


def _transport(_: BinaryIO, head: bytes, size: int) -> str | None:
    """Packets are 188 bytes long, with 4 before or 16 after in some files (ISO/IEC 13818-1)."""
    packet = _packet_size(head)
    rest = size % packet if packet else 0
    return f"its last packet has {rest} of {packet} bytes" if rest else None


def _packet_size(head: bytes) -> int:
    """The packet size of a transport stream, 0 if this is none."""
    for packet, begin in ((188, 0), (192, 4), (204, 0)):
        marks = head[begin : begin + 4 * packet + 1 : packet]
        if len(marks) > 1 and set(marks) == {0x47}:
            return packet
    return 0


def _program(file: BinaryIO, _: bytes, size: int) -> str | None:
    """Walks the packets of the last pack; each states its length (ISO/IEC 13818-1, 2.5.3)."""
    begin = max(size - _TAIL, 0)
    file.seek(begin)
    tail = file.read()
    at = tail.rfind(b"\x00\x00\x01\xba")
    if at < 0:
        return None
    at += (
        12
        if len(tail) > at + 4 and tail[at + 4] >> 4 == 2
        else 14 + (tail[at + 13 : at + 14] or b"\0")[0] % 8
    )
    while at + 6 <= len(tail) and tail[at : at + 3] == b"\x00\x00\x01":
        if tail[at + 3] == _PROGRAM_END:
            return None
        at += 6 + int.from_bytes(tail[at + 4 : at + 6], "big")
    # What is left is padding, or the beginning of a packet.
    if at > len(tail) or tail[at:].strip(b"\0"):
        return "its last packet is cut off"
    return None


_TAIL = 1 << 18
_PROGRAM_END = 0xB9


def _asf(_: BinaryIO, head: bytes, size: int) -> str | None:
    """The file properties object states the file's size, unless it is a broadcast (ASF 3.2)."""
    at = head.find(_ASF_PROPERTIES)
    if at < 0 or len(head) < at + 92:
        return None
    broadcast = int.from_bytes(head[at + 88 : at + 92], "little") & 1
    return None if broadcast else _short(int.from_bytes(head[at + 40 : at + 48], "little"), size)


_ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")


def _y4m(_: BinaryIO, head: bytes, size: int) -> str | None:
    """Frames have one size, which the header gives (yuv4mpeg(5))."""
    line, _newline, rest = head.partition(b"\n")
    if not rest.startswith(b"FRAME\n"):
        return None
    fields = {part[:1]: part[1:].decode("ascii", "replace") for part in line.split()[1:]}
    if not (fields.get(b"W", "").isdecimal() and fields.get(b"H", "").isdecimal()):
        return None
    width, height = int(fields[b"W"]), int(fields[b"H"])
    layout = fields.get(b"C", "420")
    half, quarter = -(-width // 2), -(-width // 4)
    low = -(-height // 2)
    chroma = {
        "420": 2 * half * low, "422": 2 * half * height, "411": 2 * quarter * height,
        "444": (3 if "alpha" in layout else 2) * width * height, "mon": 0,
    }.get(layout[:3])  # fmt: skip
    if chroma is None:
        return None
    deep = re.search(r"(?:p|mono)(9|1[0246])$", layout) is not None
    frame = (width * height + chroma) * (1 + deep) + len(b"FRAME\n")
    rest_bytes = (size - len(line) - 1) % frame
    return f"its last frame has {rest_bytes} of {frame} bytes" if rest_bytes else None


_STREAMED: tuple[
    tuple[Callable[[bytes], bool], Callable[[BinaryIO, bytes, int], str | None]], ...
] = (
    (lambda head: head.startswith(b"FLV"), _flv),
    (lambda head: _packet_size(head) > 0, _transport),
    (lambda head: head.startswith(b"\x00\x00\x01\xba"), _program),
    (lambda head: head.startswith(_ASF_HEADER), _asf),
    (lambda head: head.startswith(b"YUV4MPEG2 "), _y4m),
)
