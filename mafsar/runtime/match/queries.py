"""Queries: clips by path, or frames in memory."""

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
        name: Its name in answers and messages.
        source: A video, image or frame folder, or a clip in memory.
    """

    name: str
    source: Path | MemoryClip

    @property
    def path(self) -> Path | None:
        """Its path; None for a clip in memory."""
        return self.source if isinstance(self.source, Path) else None

    @staticmethod
    def of(
        source: Any,
        *,
        fps: float | None = None,
        times: Sequence[float] | None = None,
        name: str = "array",
    ) -> Query:
        """Makes a query of a source.

        Args:
            source: A query, an object with `name` and `path`, or what `mafsar.video.clip_source`
                takes: a path, an array (T, H, W, 3), a list of frames or of PIL images.
            fps: Frame rate of frames in memory, frames per second.
            times: Instead of `fps`: when each frame is first shown, seconds, ascending.
            name: Name of frames in memory.

        Raises:
            InputError: The source is none of these, or is a path with `fps` or `times`.
        """
        if isinstance(source, Query):
            return source
        own, path = getattr(source, "name", None), getattr(source, "path", None)
        if isinstance(own, str) and isinstance(path, (str, Path)):
            return Query(own, Path(path))
        found = clip_source(source, fps=fps, times=times, name=name)
        return Query(str(source) if isinstance(found, Path) else found.name, found)


def is_one_clip(source: Any) -> bool:
    """Whether a source is one clip, not a folder or list of clips."""
    if isinstance(source, (str, Path)):
        path = Path(source)
        return not is_folder(path) or is_frame_folder(path)
    return is_clip_source(source) or not isinstance(source, Iterable)


def queries_in(
    source: Any, *, fps: float | None = None, times: Sequence[float] | None = None
) -> list[Query]:
    """The queries of a source: one clip, the clips of a folder in natural order, or those of a list.

    Args:
        source: See `mafsar.Matcher`.
        fps: Frame rate of frames in memory, frames per second.
        times: Instead of `fps`: when each frame is first shown, seconds, ascending.

    Raises:
        InputError: A folder without a clip, or something that is not a clip.
    """
    if is_one_clip(source):
        return [Query.of(source, fps=fps, times=times)]
    clips = find_clips(Path(source)) if isinstance(source, (str, Path)) else source
    if isinstance(source, (str, Path)) and not clips:
        raise InputError(f"{source}: a folder without a clip; give a clip or a folder of clips")
    return [
        Query.of(clip, fps=fps, times=times, name=f"clip {number}")
        for number, clip in enumerate(clips, start=1)
    ]
