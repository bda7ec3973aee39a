"""What is asked: clips by path or as arrays, decoded ahead of the encoder, in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mafsar.errors import InputError, MafsarError
from mafsar.runtime.encoder import Frames, ModelSpec
from mafsar.video import Clip, ClipRequest, Geometry, clip_from_array, load_clips


@dataclass(frozen=True, repr=False, eq=False)
class Query:
    """One clip to be named.

    Attributes:
        name: What the answer calls it.
        path: Video, image or frame folder; None for an array.
        frames: (T, H, W, 3), uint8 RGB; None for a path.
        fps: Frames a second of the array, or None.
        times: Seconds of the array's frames, or None.
    """

    name: str
    path: Path | None = None
    frames: Frames | None = None
    fps: float | None = None
    times: Sequence[float] | None = None

    def __repr__(self) -> str:
        return f"Query({self.name!r})"

    @staticmethod
    def of(source: Any, *, fps: float | None = None, times: Sequence[float] | None = None) -> Query:
        """Reads a source: a query, anything with `name` and `path`, a path, or an array.

        Raises:
            InputError: It is none of these, or `fps`/`times` come with a path.
        """
        if isinstance(source, Query):
            return source
        if isinstance(source, np.ndarray):
            return Query("array", frames=source, fps=fps, times=times)
        if fps is not None or times is not None:
            raise InputError("fps= and times= belong to arrays; a file has its own clock")
        if isinstance(source, (str, Path)):
            return Query(str(source), Path(source))
        name, path = getattr(source, "name", None), getattr(source, "path", None)
        if isinstance(name, str) and isinstance(path, (str, Path)):
            return Query(name, Path(path))
        raise InputError(
            f"a source is a path or a uint8 array (T, H, W, 3), got {type(source).__name__}"
        )


def load_queries(
    queries: Sequence[Query], spec: ModelSpec, geometry: Geometry, *, workers: int
) -> Iterator[Clip | MafsarError]:
    """Yields each query's clip, or the error that it has instead, in order."""
    # A list, not a generator: one clip alone is decoded by all the threads of its decoder.
    paths = load_clips(list(_requests(queries, spec, geometry)), workers=workers)
    for query in queries:
        if query.frames is None:
            yield next(paths)
            continue
        try:
            yield clip_from_array(
                query.frames,
                fps=query.fps,
                times=None if query.times is None else np.asarray(query.times, np.float64),
                frames=spec.frames,
                size=spec.image_size,
                geometry=geometry,
            )
        except MafsarError as error:
            yield error


def _requests(
    queries: Iterable[Query], spec: ModelSpec, geometry: Geometry
) -> Iterator[ClipRequest]:
    for query in queries:
        if query.path is not None:
            yield ClipRequest(
                query.path, frames=spec.frames, size=spec.image_size, geometry=geometry
            )
