"""Files that are made to be read while they are written, and how one is cut short: FLV, MPEG-TS,
MPEG-PS, ASF/WMV and Y4M.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def streamed_shortfall(file: BinaryIO, head: bytes, size: int) -> str | None:
    """Returns how such a file is cut short; None where it is complete, or of another kind.

    Args:
        file: At any position.
        head: Its first 1024 bytes.
        size: Its bytes.
    """
    for fits, check in _STREAMED:
        if fits(head):
            return check(file, head, size)
    return None


def bytes_missing(stated: int, size: int) -> str | None:
    """Says that a file is shorter than it states; None where it is not."""
    return f"{size} of {stated} bytes are present" if stated > size else None


def _flv(file: BinaryIO, head: bytes, size: int) -> str | None:
    """Each tag is followed by its own length; the first may state the file's (FLV 10.1, E.3-E.5)."""
    stated = re.search(rb"\x08filesize\x00(.{8})", head, re.DOTALL)
    if stated is not None and (length := _double(stated[1])) > size:
        return bytes_missing(length, size)
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


def may_end_in_frame(path: Path) -> bool:
    """Whether a transport stream, of whole packets, looks as if it ended inside a picture.

    A frame's last packet is filled up, so one that is not may be followed by more; one frame in 184
    ends there by chance.
    """
    if not path.is_file():
        return False
    size = path.stat().st_size
    with path.open("rb") as file:
        packet = _packet_size(file.read(1024))
        if not packet:
            return False
        before = 4 if packet == 192 else 0
        count = min(size // packet, _TAIL_PACKETS)
        file.seek((size // packet - count) * packet)
        data = file.read(count * packet)
    filled: dict[int, bool] = {}
    for at in range(before, len(data), packet):
        header = data[at : at + 188]
        if len(header) < 188 or header[0] != _SYNC or not header[3] & 0x10:
            continue
        pid = int.from_bytes(header[1:3], "big") & 0x1FFF
        field = header[4] + 1 if header[3] & 0x20 else 0
        begins = bool(header[1] & 0x40)
        if begins:
            filled.pop(pid, None)
        is_video = (
            begins
            and header[4 + field : 7 + field] == b"\0\0\1"
            and (0xE0 <= header[7 + field] <= 0xEF)
        )
        if is_video or pid in filled:
            filled[pid] = _has_stuffing(header[4 : 4 + field])
    return bool(filled) and not all(filled.values())


def has_last_row(picture: bytes, rows: int) -> bool:
    """Whether an MPEG-1 or MPEG-2 picture has the slices of its last row (ISO/IEC 13818-2, 6.2.4).

    Args:
        picture: A packet.
        rows: Of macroblocks, in a frame.
    """
    codes = [match[1][0] for match in re.finditer(rb"\x00\x00\x01(.)", picture, re.DOTALL)]
    extension = re.search(rb"\x00\x00\x01\xb5[\x80-\x8f].(.)", picture, re.DOTALL)
    structure = extension[1][0] & 3 if extension else 3
    if structure != 3:  # a field
        rows = -(-rows // 2)
    return max((code for code in codes if 1 <= code <= 0xAF), default=0) >= min(rows, 0xAF)


def _has_stuffing(field: bytes) -> bool:
    """Whether an adaptation field is longer than what is in it (ISO/IEC 13818-1, 2.4.3.5)."""
    if len(field) < 2:
        return len(field) == 1
    flags, used = field[1], 2
    used += 6 * bool(flags & 0x10) + 6 * bool(flags & 0x08) + bool(flags & 0x04)
    for flag in (0x02, 0x01):
        if flags & flag:
            used += 1 + (field[used] if used < len(field) else 0)
    return len(field) > used


_TAIL_PACKETS = 1 << 14
_SYNC = 0x47


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
    return (
        None
        if broadcast
        else bytes_missing(int.from_bytes(head[at + 40 : at + 48], "little"), size)
    )


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
