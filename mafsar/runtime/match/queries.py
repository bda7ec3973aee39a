"""What is asked: clips by path or as frames in memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mafsar.errors import InputError, option
from mafsar.video import ArrayClip, find_clips, is_frame_folder


@dataclass(frozen=True, eq=False)
class Query:
    """One clip to be named.

    Attributes:
        name: What the answer calls it.
        source: A video, image or frame folder, or frames in memory.
    """

    name: str
    source: Path | ArrayClip

    @property
    def path(self) -> Path | None:
        """Where it is; None for frames in memory."""
        return self.source if isinstance(self.source, Path) else None

    @staticmethod
    def of(source: Any, *, fps: float | None = None, times: Sequence[float] | None = None) -> Query:
        """Reads a source.

        Args:
            source: A query, anything with `name` and `path`, a path, a uint8 RGB array
                (T, H, W, 3), a list of frames (H, W, 3) or a list of PIL images.
            fps: Frames a second, of frames in memory.
            times: Instead of `fps`: when each frame is first shown, seconds, ascending.

        Raises:
            InputError: It is none of these, or `fps` or `times` come with a path.
        """
        if isinstance(source, Query):
            return source
        if is_frames(source):
            return Query("array", ArrayClip.of(source, fps=fps, times=times))
        if fps is not None or times is not None:
            raise InputError(
                option("fps"), " and ", option("times"), " describe frames in memory; a file has "
                "its own clock"
            )  # fmt: skip
        if isinstance(source, (str, Path)):
            return Query(str(source), Path(source))
        name, path = getattr(source, "name", None), getattr(source, "path", None)
        if isinstance(name, str) and isinstance(path, (str, Path)):
            return Query(name, Path(path))
        raise InputError(
            "a source is a path, a uint8 array (T, H, W, 3), a list of frames or a list of PIL "
            f"images, got {type(source).__name__}"
        )


def is_frames(source: Any) -> bool:
    """Whether a source is one clip of frames in memory: an array, or a list of pictures."""
    if isinstance(source, np.ndarray):
        return True
    if not isinstance(source, (list, tuple)) or not source:
        return False
    return all(is_picture(item) for item in source)


def is_picture(item: Any) -> bool:
    """Whether an item of a list is one frame: an array of at most three axes, or a PIL image."""
    if isinstance(item, np.ndarray):
        return item.ndim <= 3
    return hasattr(item, "convert") and hasattr(item, "getbands")


def is_one_clip(source: Any) -> bool:
    """Whether a source is one clip, rather than a folder or a list of clips."""
    if isinstance(source, (str, Path)):
        path = Path(source)
        return not path.is_dir() or is_frame_folder(path)
    return is_frames(source) or not isinstance(source, Iterable)


def clips_in(source: Any) -> list[Any]:
    """The clips of a source: itself, those of a folder in natural order, or the items of a list.

    Raises:
        InputError: A folder without a clip.
    """
    if is_one_clip(source):
        return [source]
    if isinstance(source, (str, Path)):
        found = find_clips(Path(source))
        if not found:
            raise InputError(f"{source}: a folder without a clip; give a clip or a folder of clips")
        return list(found)
    return list(source)
