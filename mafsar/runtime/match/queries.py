"""What is asked: clips by path or as frames in memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mafsar.errors import InputError
from mafsar.files import is_folder
from mafsar.video import MemoryClip, clip_source, find_clips, is_clip_source, is_frame_folder


@dataclass(frozen=True, eq=False)
class Query:
    """One clip to be named.

    Attributes:
        name: What the answer calls it.
        source: A video, image or frame folder, or a clip in memory.
    """

    name: str
    source: Path | MemoryClip

    @property
    def path(self) -> Path | None:
        """Where it is; None for a clip in memory."""
        return self.source if isinstance(self.source, Path) else None

    @staticmethod
    def of(source: Any, *, fps: float | None = None, times: Sequence[float] | None = None) -> Query:
        """Reads a source.

        Args:
            source: A query, anything with `name` and `path`, or what `mafsar.video.clip_source`
                takes: a path, an array (T, H, W, 3), a list of frames or of PIL images.
            fps: Frames a second, of frames in memory.
            times: Instead of `fps`: when each frame is first shown, seconds, rising.

        Raises:
            InputError: It is none of these, or `fps` or `times` come with a path.
        """
        if isinstance(source, Query):
            return source
        name, path = getattr(source, "name", None), getattr(source, "path", None)
        if isinstance(name, str) and isinstance(path, (str, Path)):
            return Query(name, Path(path))
        found = clip_source(source, fps=fps, times=times)
        return Query(str(source) if isinstance(found, Path) else found.name, found)


def is_one_clip(source: Any) -> bool:
    """Whether a source is one clip, rather than a folder or a list of clips."""
    if isinstance(source, (str, Path)):
        path = Path(source)
        return not is_folder(path) or is_frame_folder(path)
    return is_clip_source(source) or not isinstance(source, Iterable)


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
