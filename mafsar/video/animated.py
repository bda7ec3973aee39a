"""Animated pictures (WebP, APNG, AVIF, multi-page TIFF): how many frames, and how long each is shown.

Headers alone are read here; `mafsar.video.still` decodes the frames.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_PNG = b"\x89PNG\r\n\x1a\n"
# First bytes → order of bytes, and whether offsets have 64 bits (BigTIFF).
_TIFF_KINDS = {
    b"II*\x00": ("<", False), b"MM\x00*": (">", False), b"II+\x00": ("<", True),
    b"MM\x00+": (">", True),
}  # fmt: skip
_MAX_FRAMES = 1_000_000
_MAX_TAGS = 65_536
_HEAD_BYTES = 64
_STILL_ENDINGS = frozenset({".bmp", ".jfif", ".jpeg", ".jpg"})


@dataclass(frozen=True)
class Animation:
    """The frames of an animated picture.

    Attributes:
        pages: Which images of the file are the frames, as Pillow counts them.
        durations_seconds: How long each is shown; None where the file does not say.
    """

    pages: tuple[int, ...]
    durations_seconds: tuple[float, ...] | None


def is_moving_picture(path: Path | str) -> bool:
    """Returns whether a picture file is a clip by itself: it holds more than one frame."""
    path = Path(path)
    if path.suffix.lower() in _STILL_ENDINGS:
        return False
    return read_animation(path) is not None


def read_animation(path: Path | str) -> Animation | None:
    """Reads the frames of an animated picture from its headers.

    Returns:
        None for a still picture, another kind of file, or one that cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            head = file.read(_HEAD_BYTES)
            if head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and head[20] & 2:
                return _timed([duration / 1000 for duration in _webp_durations(file)])
            if head.startswith(_PNG):
                return _apng(file)
            if head[4:8] == b"ftyp" and b"avis" in head[8 : int.from_bytes(head[:4], "big")]:
                return _avif(file)
            if head[:4] in _TIFF_KINDS:
                return _tiff(file, *_TIFF_KINDS[head[:4]])
    except (OSError, struct.error, ValueError, IndexError):
        pass
    return None


def _timed(durations: list[float], first: int = 0) -> Animation | None:
    if len(durations) < 2:
        return None
    pages = tuple(range(first, first + len(durations)))
    return Animation(pages, tuple(durations) if any(durations) else None)


def _webp_durations(file: BinaryIO) -> Iterator[int]:
    """Milliseconds of each ANMF chunk."""
    file.seek(12)
    while len(head := file.read(8)) == 8:
        size = int.from_bytes(head[4:], "little")
        start = file.tell()
        if head[:4] == b"ANMF":
            yield int.from_bytes(file.read(16)[12:15], "little")
        file.seek(start + size + size % 2)


def _apng(file: BinaryIO) -> Animation | None:
    """The frames of an APNG; the image that other readers show need not be one of them."""
    file.seek(len(_PNG))
    durations: list[float] = []
    announced = False
    first = None
    while len(head := file.read(8)) == 8:
        size, name = struct.unpack(">I4s", head)
        start = file.tell()
        if name == b"acTL":
            announced = True
        elif name == b"IDAT" and not announced:
            return None
        elif name == b"IDAT" and first is None:
            first = 0 if durations else 1
        elif name == b"fcTL":
            over, under = struct.unpack(">HH", file.read(26)[20:24])
            durations.append(over / (under or 100))
        elif name == b"IEND":
            break
        file.seek(start + size + 4)
    return _timed(durations, first or 0)


def _avif(file: BinaryIO) -> Animation | None:
    """The samples of the first track of an AVIF sequence (ISO/IEC 14496-12: mdhd, stts)."""
    file.seek(0)
    while len(head := file.read(8)) == 8:
        size, name = struct.unpack(">I4s", head)
        if name == b"moov":
            moov = file.read(size - 8)
            break
        if size < 8:
            return None
        file.seek(size - 8, 1)
    else:
        return None
    media = moov.index(b"mdhd") + 4
    (ticks,) = struct.unpack_from(">I", moov, media + (20 if moov[media] == 1 else 12))
    table = moov.index(b"stts", media) + 4
    (entries,) = struct.unpack_from(">I", moov, table + 4)
    durations: list[float] = []
    for i in range(min(entries, _MAX_FRAMES)):
        count, delta = struct.unpack_from(">II", moov, table + 8 + 8 * i)
        durations += [delta / (ticks or 1)] * min(count, _MAX_FRAMES - len(durations))
    return _timed(durations)


def _tiff(file: BinaryIO, order: str, big: bool) -> Animation | None:
    """The pages of a TIFF that have the first page's size; pages that are thumbnails are not."""
    wide, count_form, entry, value = ("Q", "Q", 20, 12) if big else ("I", "H", 12, 8)
    width, count_width = struct.calcsize(wide), struct.calcsize(count_form)
    file.seek(8 if big else 4)
    (offset,) = struct.unpack(order + wide, file.read(width))
    sizes: list[tuple[int, int, int]] = []
    seen: set[int] = set()
    while offset and offset not in seen and len(sizes) < _MAX_FRAMES:
        seen.add(offset)
        file.seek(offset)
        (count,) = struct.unpack(order + count_form, file.read(count_width))
        block = file.read(min(count, _MAX_TAGS) * entry + width)
        tags: dict[int, int] = {}
        for i in range(count):
            tag, kind = struct.unpack_from(order + "HH", block, entry * i)
            if tag in (254, 256, 257):
                form = "H" if kind == 3 else "I"
                (tags[tag],) = struct.unpack_from(order + form, block, entry * i + value)
        sizes.append((tags.get(256, 0), tags.get(257, 0), tags.get(254, 0) & 5))
        (offset,) = struct.unpack_from(order + wide, block, entry * count)
    pages = tuple(i for i, size in enumerate(sizes) if size == (*sizes[0][:2], 0))
    return Animation(pages, None) if len(pages) > 1 else None
