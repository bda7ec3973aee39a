"""What counts as a clip by its name, and the order of names."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

from mafsar.errors import VideoError
from mafsar.files import irregular

_VIDEO_ENDINGS = (
    "264 265 3g2 3gp 3gp2 3gpp amv asf avc avi dav divx dv f4v flv gif h264 h265 hevc ivf m1v m2p "
    "m2t m2ts m2v m4p m4v mjpeg mjpg mkv mov mp4 mp4v mpe mpeg mpg mpv mts mxf nsv nut ogm ogv qt rm "
    "rmvb ts vob webm wmv wtv y4m"
)
_IMAGE_ENDINGS = "apng avif avifs bmp dib heic heif hif j2k jfif jp2 jpe jpeg jpf jpg jpx pbm pgm png pnm ppm tif tiff webp"
VIDEO_SUFFIXES = frozenset(f".{ending}" for ending in _VIDEO_ENDINGS.split())
IMAGE_SUFFIXES = frozenset(f".{ending}" for ending in _IMAGE_ENDINGS.split())
_SYSTEM_NAMES = frozenset({"thumbs.db", "desktop.ini", "__macosx"})


def is_system_file(path: Path) -> bool:
    """Returns whether the operating system wrote this: ``.DS_Store``, ``._*``, ``Thumbs.db``."""
    return path.name.startswith(".") or path.name.lower() in _SYSTEM_NAMES


def natural_key(path: Path | str) -> list[tuple[int, int, str]]:
    """A sort key: ``img_2`` before ``img_10``; digits compare as numbers, letters ignore case."""
    name = path.name if isinstance(path, Path) else path
    parts = re.split(r"(\d+)", name)
    # The name itself breaks ties between names that differ only in case.
    return [*(_part_key(part) for part in parts), (0, 0, name)]


def _part_key(part: str) -> tuple[int, int, str]:
    if not part.isdecimal():
        return (0, 0, part.lower())
    # By length, then digit by digit: `int` refuses thousands of digits.
    digits = "".join(str(unicodedata.decimal(digit)) for digit in part).lstrip("0")
    return (1, len(digits), digits)


def refuse_irregular(path: Path) -> None:
    """Refuses what may block or never end, before it is opened: pipes, devices, sockets.

    Raises:
        VideoError: It is one of these; says which.
    """
    kind = irregular(path)
    if kind is not None:
        raise VideoError(f"{path}: is {kind}, not a file; give a video file or a folder of frames")


def is_video(path: Path | str) -> bool:
    """Returns whether the name ends like a video file's, in any case."""
    path = Path(path)
    return path.suffix.lower() in VIDEO_SUFFIXES and not is_system_file(path)


def is_image(path: Path | str) -> bool:
    """Returns whether the name ends like a picture's, in any case."""
    path = Path(path)
    return path.suffix.lower() in IMAGE_SUFFIXES and not is_system_file(path)
