"""EBML, the elements that Matroska and WebM files are made of (RFC 8794, RFC 9559)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

MAGIC = b"\x1aE\xdf\xa3"
SEGMENT, CLUSTER, TRACKS, TRACK, VIDEO = 0x18538067, 0x1F43B675, 0x1654AE6B, 0xAE, 0xE0
SEEK_HEAD, SEEK, SEEK_ID, SEEK_POSITION = 0x114D9B74, 0x4DBB, 0x53AB, 0x53AC
CUES = 0x1C53BB6B


def vint(data: bytes) -> tuple[int | None, int]:
    """Reads an EBML number: (value, bytes read); the value is None if it is "unknown"."""
    if not data or data[0] == 0:
        return None, 0
    width = 9 - data[0].bit_length()
    value = int.from_bytes(data[:width], "big") & ((1 << (7 * width)) - 1)
    unknown = value == (1 << (7 * width)) - 1
    return (None if unknown else value), width


def elements(file: BinaryIO, begin: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yields (id, begin, end of the content) of the EBML elements in a range of the file."""
    while begin < end:
        file.seek(begin)
        head = file.read(12)
        if len(head) < 2 or not head[0]:
            return
        width = 9 - head[0].bit_length()
        length, used = vint(head[width:])
        start = begin + width + used
        if not used:
            return
        # A recording that was not finished states no length: it goes to the end.
        stop = end if length is None else min(start + length, end)
        yield int.from_bytes(head[:width], "big"), start, stop
        begin = stop


def number(file: BinaryIO, begin: int, end: int) -> int:
    """The unsigned number in a range of the file."""
    file.seek(begin)
    return int.from_bytes(file.read(min(end - begin, 8)), "big")
