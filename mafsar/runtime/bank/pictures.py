"""The frames of a bank's clips, for plots: from the clip, else the bank's small pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mafsar.errors import MafsarError
from mafsar.runtime.bank.bank import Bank
from mafsar.runtime.encoder import Frames
from mafsar.video import load_clip


@dataclass(frozen=True)
class ClipFrames:
    """One clip as the model saw it.

    Attributes:
        name: Its name.
        frames: uint8 RGB, (T, S, S, 3).
        times_seconds: When each frame is shown, seconds, (T,); empty if unknown.
    """

    name: str
    frames: Frames
    times_seconds: tuple[float, ...]


def clip_frames(bank: Bank, index: int, size: int) -> ClipFrames:
    """The frames of one clip of a bank; grey if the clip is gone and the bank has no pictures.

    Args:
        bank: The bank.
        index: The clip's index.
        size: S, pixels; the bank's small pictures keep their own size.
    """
    clip = bank.clips[index]
    frames = bank.query.shape[1]
    if clip.path is not None:
        try:
            loaded = load_clip(
                clip.path,
                frames=frames,
                size=size,
                geometry=bank.geometry,
                start=clip.start,
                end=clip.end,
                ignore_clock=clip.ignore_clock,
            )
            return ClipFrames(clip.name, loaded.pixels, tuple(loaded.times_seconds.tolist()))
        except MafsarError:
            pass
    if bank.images is not None:
        return ClipFrames(clip.name, bank.images[index], ())
    grey = np.full((frames, size, size, 3), 225, np.uint8)
    return ClipFrames(f"{clip.name} (no longer there)", grey, ())
