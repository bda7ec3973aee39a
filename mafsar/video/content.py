"""Hashes of a clip's content: equal content has an equal hash, wherever it lies."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mafsar.errors import MafsarError, MissingError, VideoError
from mafsar.files import is_folder
from mafsar.video.frame_folder import read_frame_folder, split_pattern
from mafsar.video.source import refuse_irregular

_FIX_READING = "make it readable for this user"


def content_sha256(path: Path | str) -> str:
    """Returns the sha256 (hex) of a clip's content.

    For a file it is the hash of its bytes; its name and place do not matter. For a frame folder it
    covers the names and bytes of its frames in order, as names decide the order of frames, and the
    clock that a pattern of names gives (`img_{:05d}.jpg?fps=25`).

    Raises:
        MissingError: If the path does not exist.
        VideoError: If it cannot be read, or is a folder without pictures.
    """
    path = Path(path)
    digest = hashlib.sha256()
    refuse_irregular(path)
    try:
        if is_folder(path) or split_pattern(path) is not None:
            folder, named = read_frame_folder(path), split_pattern(path)
            if named is not None and named[1].fps is not None:  # no name of a file tells it
                digest.update(b"shown at ")
                digest.update(np.rint(folder.times_seconds * 1e6).astype("<i8").tobytes())
            for picture in folder.paths:
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
