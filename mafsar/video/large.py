"""Videos whose single frames are so large that a clip's frames are not held at the same time."""

from __future__ import annotations

import gc
import time
from pathlib import Path
from typing import Any

import numpy as np

from mafsar.errors import VideoError
from mafsar.video.container import open_video
from mafsar.video.crop import Crop
from mafsar.video.decode import decode_moments
from mafsar.video.decode_plan import Strategy
from mafsar.video.picture import LARGE_PIXELS, Picture, picture_of
from mafsar.video.still import MAX_PIXELS
from mafsar.video.timeline import Timeline


def is_large(path: Path, width: int, height: int) -> bool:
    """Returns whether frames of this size are decoded one at a time.

    Raises:
        VideoError: They are larger than what is read at all.
    """
    if width * height > MAX_PIXELS:
        raise VideoError(
            f"{path}: has {width}x{height} pixels, more than the {MAX_PIXELS // 1_000_000} million "
            "pixels that are read; reduce it first"
        )
    return width * height > LARGE_PIXELS


class LargeFrames:
    """Frames that are decoded when `convert` is called, by one thread, and reduced at once.

    Attributes:
        times_seconds: When each frame is shown, (T,); those of frames not yet converted are the
            moments asked for.
        read_seconds: Spent on decoding so far.
    """

    def __init__(
        self,
        path: Path,
        timeline: Timeline,
        moments: np.ndarray,
        *,
        strategy: Strategy,
        transfer: int | None,
        crop: Crop | None,
    ) -> None:
        """Decodes nothing yet; the arguments are those of `decode_moments` and `picture_of`."""
        self.times_seconds = np.array(moments, dtype=np.float64)
        self.read_seconds = 0.0
        self._path = path
        self._timeline = timeline
        self._moments = moments
        self._strategy = strategy
        self._options: dict[str, Any] = {"transfer": transfer, "crop": crop}

    def convert(self, item: Any, short_side: int | None) -> Picture:
        """The picture of moment ``item``, reduced to no less than a short side in pixels."""
        began = time.perf_counter()
        moment = self._moments[item : item + 1]
        with open_video(self._path) as (container, stream):
            decoded = decode_moments(
                self._path, container, stream, self._timeline, moment,
                strategy=self._strategy, threads=1,
            )  # fmt: skip
        self.times_seconds[item] = decoded.times_seconds[0]
        self.read_seconds += time.perf_counter() - began
        shown = decoded.shown[0]
        picture = picture_of(
            shown.frame, aspect=shown.aspect, short_side=short_side, **self._options
        )
        del decoded, shown, container, stream
        # PyAV's containers and streams hold each other, and with them the decoder's frames.
        gc.collect()
        return picture
