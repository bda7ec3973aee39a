"""HEIF pictures: FFmpeg reads them. The files are put together from a coded picture and the boxes of
ISO/IEC 23008-12.
"""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from mafsar.errors import VideoError
from mafsar.video import find_clips, load_raw_clip

# Apart from the others: within the whole suite two of these failed once, alone they pass.
pytestmark = pytest.mark.slow

X265 = {"crf": "4", "preset": "ultrafast", "x265-params": "log-level=none"}


def box(name: bytes, *parts: bytes, version: int | None = None) -> bytes:
    content = b"" if version is None else struct.pack(">I", version << 24)
    content += b"".join(parts)
    return struct.pack(">I4s", len(content) + 8, name) + content


def write_heic(make: Any, path: Path, number: int, kind: bytes = b"hvc1") -> Path:
    """A still of one coded picture."""
    video = make.write(
        path.with_suffix(".mp4"), [0], base=Fraction(1, 25), codec="libx265", options=X265,
        picture=lambda _, width, height: make.picture(number, width, height),
    )  # fmt: skip
    with av.open(str(video)) as source:
        stream = source.streams.video[0]
        settings = bytes(stream.codec_context.extradata or b"")
        coded = next(bytes(packet) for packet in source.demux(stream) if packet.size)
        size = stream.width, stream.height
    video.unlink()
    head = box(b"ftyp", b"heic", struct.pack(">I", 0), b"mif1heic")

    def meta(offset: int) -> bytes:
        place = struct.pack(">HHHHHII", 1, 1, 0, 0, 1, offset, len(coded))
        properties = box(
            b"ipco", box(b"hvcC", settings), box(b"ispe", struct.pack(">II", *size), version=0)
        )
        links = box(b"ipma", struct.pack(">IHBBB", 1, 1, 2, 0x81, 2), version=0)
        entry = box(b"infe", struct.pack(">HH", 1, 0), kind, b"\0", version=2)
        return box(
            b"meta",
            box(b"hdlr", struct.pack(">I", 0), b"pict", bytes(13), version=0),
            box(b"pitm", struct.pack(">H", 1), version=0),
            box(b"iloc", b"\x44\x00", place[:2], place[2:4], place[4:6], place[8:], version=0),
            box(b"iinf", struct.pack(">H", 1), entry, version=0),
            box(b"iprp", properties, links),
            version=0,
        )

    start = len(head) + len(meta(0)) + 8
    path.write_bytes(head + meta(start) + box(b"mdat", coded))
    return path


def test_a_heif_still(make: Any, tmp_path: Path) -> None:
    path = write_heic(make, tmp_path / "a.heic", 5)
    raw = load_raw_clip(path, frames=8)
    assert [make.number_of(frame) for frame in raw.frames] == [5] * 8
    assert raw.repairs == ()


def test_a_folder_of_heif_pictures_is_one_clip(make: Any, tmp_path: Path) -> None:
    folder = tmp_path / "clip"
    folder.mkdir()
    for number in range(4):
        write_heic(make, folder / f"IMG_{number}.HEIC", number)
    assert find_clips(tmp_path) == [folder]
    assert [make.number_of(frame) for frame in load_raw_clip(folder, frames=4).frames] == [
        0,
        1,
        2,
        3,
    ]


def test_tiles_are_named(make: Any, tmp_path: Path) -> None:
    """Phones divide a picture into tiles; one of them is not the picture."""
    path = write_heic(make, tmp_path / "a.heic", 5, kind=b"grid")
    with pytest.raises(VideoError, match="stored in tiles, which are not joined here; convert it"):
        load_raw_clip(path, frames=8)
