"""Whether a file is shorter than its own headers state: MP4/MOV, Matroska/WebM, AVI and GIF.

FFmpeg reads what is left of such a file without a message, and a clip cut off in the middle would
be matched as if it were complete. The sizes that the container states show it.
"""

from __future__ import annotations

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
            return _mp4(file, size)
        if head.startswith(_MATROSKA_MAGIC):
            return _matroska(file, size)
        if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
            return _short(8 + int.from_bytes(head[4:8], "little"), size)
        if head.startswith((b"GIF87a", b"GIF89a")):
            file.seek(0)
            return _gif(file.read())
    return None


def _short(stated: int, size: int) -> str | None:
    return f"{size} of {stated} bytes are present" if stated > size else None


def _mp4(file: BinaryIO, size: int) -> str | None:
    """Reads the top-level boxes: each is a size, a name and a body (ISO/IEC 14496-12, 4.2)."""
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
            return _short(position + length, size)
        position += length
    if b"mdat" in names and b"moov" not in names:
        return "its index, the moov box, is missing"
    return None


def _matroska(file: BinaryIO, size: int) -> str | None:
    """Checks the size of the Segment; live recordings do not state it (RFC 8794, RFC 9559)."""
    file.seek(4)
    header_length, header_width = _vint(file.read(8))
    if header_length is None:
        return None
    position = 4 + header_width + header_length
    file.seek(position)
    head = file.read(12)
    if head[:4] != _SEGMENT_ID:
        return None
    length, width = _vint(head[4:])
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


def _vint(data: bytes) -> tuple[int | None, int]:
    """Reads an EBML number: (value, bytes read); the value is None if it is "unknown"."""
    if not data or data[0] == 0:
        return None, 0
    width = 9 - data[0].bit_length()
    value = int.from_bytes(data[:width], "big") & ((1 << (7 * width)) - 1)
    unknown = value == (1 << (7 * width)) - 1
    return (None if unknown else value), width
