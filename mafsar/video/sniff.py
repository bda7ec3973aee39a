"""What a file is, by its content: for files whose ending says nothing."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Literal

from mafsar.video.source import is_image, is_system_file, is_video

Kind = Literal["video", "image"]

_HEAD_BYTES = 4096
# Endings of files that lie beside clips and are never opened.
_OTHER_ENDINGS = frozenset(
    [
        ".7z",
        ".aac",
        ".ass",
        ".bz2",
        ".c",
        ".cfg",
        ".conf",
        ".cpp",
        ".csv",
        ".db",
        ".doc",
        ".docx",
        ".exe",
        ".flac",
        ".flo",
        ".gz",
        ".h",
        ".h5",
        ".html",
        ".ini",
        ".ipynb",
        ".jpg_original",
        ".js",
        ".json",
        ".jsonl",
        ".list",
        ".lmdb",
        ".lock",
        ".log",
        ".m3u",
        ".m3u8",
        ".m4a",
        ".mat",
        ".md",
        ".md5",
        ".mp3",
        ".npy",
        ".npz",
        ".ogg",
        ".onnx",
        ".parquet",
        ".part",
        ".pdf",
        ".pickle",
        ".pkl",
        ".ply",
        ".pt",
        ".pth",
        ".py",
        ".rar",
        ".rst",
        ".safetensors",
        ".sh",
        ".sha256",
        ".sql",
        ".sqlite",
        ".srt",
        ".sub",
        ".svg",
        ".tar",
        ".tfrecord",
        ".tgz",
        ".tmp",
        ".toml",
        ".torrent",
        ".tsv",
        ".txt",
        ".url",
        ".vtt",
        ".wav",
        ".wma",
        ".xls",
        ".xlsx",
        ".xml",
        ".yaml",
        ".yml",
        ".zip",
        ".zst",
    ]
)
_IMAGE_HEADS = (
    b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+",
    b"\x00\x00\x00\x0cjP  \r\n", b"\xff\x4f\xff\x51", b"P5\n", b"P6\n", b"P5 ", b"P6 ",
)  # fmt: skip
_VIDEO_HEADS = (
    b"GIF8", b"\x1aE\xdf\xa3", b"FLV\x01", b"0&\xb2u\x8ef\xcf\x11", b"\x00\x00\x00\x01", b"DHAV",
    b"DKIF", b"YUV4MPEG2", b".RMF", b"\x06\x0e\x2b\x34", b"\x1f\x07\x00",
)  # fmt: skip
# What follows a start code 00 00 01 in a raw stream: MPEG-1, -2 and -4 (B0-BA), H.264 (06, 09, 27,
# 67), HEVC (40, 46), VC-1 (0F). An icon has 00 there.
_START_CODES = frozenset([*range(0xB0, 0xBB), 0x06, 0x09, 0x0F, 0x27, 0x40, 0x46, 0x67])
_JPEG_BYTES = 1 << 22
_BOXES = frozenset(
    {b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp", b"moof", b"uuid"}
)
_TS_SIZES = ((188, 0), (192, 4), (204, 0))


def clip_kind(path: Path | str) -> Kind | None:
    """Returns whether a file is a video or a picture: by its ending, else by its content."""
    path = Path(path)
    if is_video(path):
        return "video"
    if is_image(path):
        return "image"
    if is_system_file(path) or path.suffix.lower() in _OTHER_ENDINGS:
        return None
    try:
        stat = path.stat()
    except (OSError, ValueError):
        return None
    if not path.is_file() or stat.st_size == 0:
        return None
    return content_kind(str(path), stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=4096)
def content_kind(path: str, size: int, changed_ns: int) -> Kind | None:  # noqa: ARG001
    """Returns what the first bytes of a file say that it is.

    Args:
        path: The file.
        size: With the time of change, so that a file is looked at again when it changed.
        changed_ns: See ``size``.
    """
    try:
        with Path(path).open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return None
    if head.startswith(b"\xff\xd8\xff") and _is_motion_jpeg(Path(path), head):
        return "video"
    if head.startswith(_IMAGE_HEADS) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP"):
        return "image"
    if head[4:8] == b"ftyp" and (head[8:12] in (b"avif", b"avis") or _is_heif(head)):
        return "image"
    if head[:4] == b"RIFF":
        return "video" if head[8:12] in (b"AVI ", b"AMV ") else None
    if head[:4] == b"OggS":
        return "video" if b"theora" in head or b"video" in head else None
    if head[4:8] in _BOXES or head.startswith(_VIDEO_HEADS):
        return "video"
    if head.startswith(b"\x00\x00\x01") and head[3:4] and head[3] in _START_CODES:
        return "video"
    if any(_is_transport_stream(head, size, start) for size, start in _TS_SIZES):
        return "video"
    return None


def is_heif(path: Path) -> bool:
    """Whether a file is a HEIF picture, which FFmpeg reads, and not an AVIF, which Pillow reads."""
    try:
        if not path.is_file():  # a pipe would block
            return False
        with path.open("rb") as file:
            return _is_heif(file.read(_BRAND_BYTES))
    except (OSError, ValueError):
        return False


def _is_heif(head: bytes) -> bool:
    """By the brands of a still picture (ISO/IEC 23008-12, annex B.4)."""
    brands = head[8 : min(int.from_bytes(head[:4], "big"), _BRAND_BYTES)]
    first = brands[:4]
    return head[4:8] == b"ftyp" and (
        first in (b"heic", b"heix", b"heim", b"heis")
        or (first == b"mif1" and b"hei" in brands and b"avif" not in brands)
    )


_BRAND_BYTES = 64


def _is_motion_jpeg(path: Path, head: bytes) -> bool:
    """Whether JPEGs follow each other, as a camera's stream has them; two are a stereo picture."""
    if b"MPF\x00" in head:
        return False
    with path.open("rb") as file:
        return file.read(_JPEG_BYTES).count(b"\xff\xd9\xff\xd8\xff") > 1


def _is_transport_stream(head: bytes, size: int, start: int) -> bool:
    """Whether an MPEG transport stream's sync byte stands at the start of every packet."""
    marks = head[start::size]
    return len(marks) > 3 and set(marks) == {0x47}
