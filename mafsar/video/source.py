"""What counts as a clip on disk (a video file, a frame folder, a picture), and hashes of content."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mafsar.errors import InputError, MafsarError, MissingError, VideoError
from mafsar.files import exists, irregular, is_folder

_VIDEO_ENDINGS = (
    "3g2 3gp asf avi dv f4v flv gif h264 h265 hevc ivf m1v m2ts m2v m4v mjpeg mjpg mkv mov mp4 "
    "mpeg mpg mts mxf nut ogv ts vob webm wmv y4m"
)
_IMAGE_ENDINGS = "bmp jpeg jpg png ppm tif tiff webp"
VIDEO_SUFFIXES = frozenset(f".{ending}" for ending in _VIDEO_ENDINGS.split())
IMAGE_SUFFIXES = frozenset(f".{ending}" for ending in _IMAGE_ENDINGS.split())
_SYSTEM_NAMES = frozenset({"thumbs.db", "desktop.ini", "__macosx"})
_FIX_READING = "make it readable for this user"


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


def is_frame_folder(path: Path | str) -> bool:
    """Returns whether this is a folder with pictures in it, and without videos or folders."""
    path = Path(path)
    if not is_folder(path):
        return False
    entries = [entry for entry in path.iterdir() if not is_system_file(entry)]
    pictures = any(is_image(entry) for entry in entries)
    return pictures and not any(is_video(entry) or entry.is_dir() for entry in entries)


def frame_paths(folder: Path | str) -> list[Path]:
    """Returns the pictures of a frame folder in natural order.

    Raises:
        MissingError: If the folder does not exist.
        VideoError: If it cannot be listed or contains no picture.
    """
    folder = Path(folder)
    try:
        entries = list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        raise MissingError(f"{folder}: no such folder; check the path") from None
    except OSError as error:
        raise VideoError(f"{folder}: cannot be listed ({error.strerror}); {_FIX_READING}") from None
    pictures = sorted((entry for entry in entries if is_image(entry)), key=natural_key)
    if not pictures:
        what = "contains no pictures" if entries else "is an empty folder"
        raise VideoError(f"{folder}: {what}; give a video file or a folder of .jpg or .png frames")
    return pictures


def find_clips(folder: Path | str, *, images: bool = False) -> list[Path]:
    """Returns the clips below a folder: video files and frame folders, in natural order.

    Args:
        folder: Searched with all its subfolders. A frame folder or a file is one clip by itself.
        images: Also count single pictures that lie beside videos.

    Returns:
        Paths that start with ``folder``, without files of the operating system.

    Raises:
        MissingError: If the folder does not exist.
        InputError: If it cannot be listed.
    """
    folder = Path(folder)
    try:
        if not exists(folder):
            raise MissingError(f"{folder}: no such file or folder; check the path")
        if folder.is_file() or is_frame_folder(folder):
            return [folder]
        entries = sorted(folder.iterdir(), key=natural_key)
    except MissingError:
        raise
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed ({error.strerror}); {_FIX_READING}") from None
    clips: list[Path] = []
    # No recursion, and each folder once: links may lead in circles, folders nest without end.
    seen = {_folder_id(folder)}
    waiting = entries[::-1]
    while waiting:
        entry = waiting.pop()
        if is_system_file(entry):
            continue
        if not entry.is_dir():
            if is_video(entry) or (images and is_image(entry)):
                clips.append(entry)
            continue
        if (identity := _folder_id(entry)) in seen:
            continue
        seen.add(identity)
        try:
            if is_frame_folder(entry):
                clips.append(entry)
            else:
                waiting += sorted(entry.iterdir(), key=natural_key, reverse=True)
        except OSError as error:
            raise InputError(
                f"{entry}: cannot be listed ({error.strerror}); {_FIX_READING}"
            ) from None
    return clips


def _folder_id(folder: Path) -> tuple[int, int]:
    """The same for all paths that lead to one folder."""
    state = folder.stat()
    return state.st_dev, state.st_ino


def content_sha256(path: Path | str) -> str:
    """Returns the sha256 (hex) of a clip's content.

    For a file it is the hash of its bytes; its name and place do not matter. For a frame folder it
    covers the names and bytes of its pictures in natural order, as names decide the order of frames.

    Raises:
        MissingError: If the path does not exist.
        VideoError: If it cannot be read, or is a folder without pictures.
    """
    path = Path(path)
    digest = hashlib.sha256()
    refuse_irregular(path)
    try:
        if is_folder(path):
            for picture in frame_paths(path):
                refuse_irregular(picture)
                name = picture.name.encode("utf-8", "surrogateescape")
                content = picture.read_bytes()
                digest.update(f"{len(name)} {len(content)} ".encode())
                digest.update(name)
                digest.update(content)
        else:
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
    except MafsarError:
        raise
    except (FileNotFoundError, NotADirectoryError):
        raise MissingError(f"{path}: no such file; check the path") from None
    except ValueError as error:  # a NUL in the name
        raise MissingError(f"{path}: no such file ({error}); check the path") from None
    except OSError as error:
        raise VideoError(f"{path}: cannot be read ({error.strerror}); {_FIX_READING}") from None
    return digest.hexdigest()


def frames_sha256(frames: Sequence[np.ndarray], times_seconds: np.ndarray) -> str:
    """Returns the sha256 (hex) of the content of a clip in memory: its shape, pixels and times.

    Times are compared to the microsecond, so that rounding does not make equal clips differ. The
    hash never equals that of a file (`content_sha256`) with the same pictures.

    Args:
        frames: RGB frames of one size, each (H, W, 3), uint8.
        times_seconds: When each frame is first shown, seconds from the first frame, (N,).
    """
    shape = (len(frames), *frames[0].shape)
    digest = hashlib.sha256(f"frames {shape}\n".encode())
    digest.update(np.rint(np.asarray(times_seconds) * 1e6).astype("<i8").tobytes())
    for frame in frames:
        digest.update(np.ascontiguousarray(frame).data)
    return digest.hexdigest()
