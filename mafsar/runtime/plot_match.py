"""From an answer and its bank to the picture: finds the support clip's frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from mafsar.errors import MafsarError
from mafsar.runtime.bank.bank import Bank
from mafsar.runtime.match.answers import Match
from mafsar.runtime.report.alignment import Strip, draw_match
from mafsar.video import load_clip


def picture_of_match(match: Match, bank: Bank) -> Image.Image | None:
    """The picture of one answer; None where it was made without evidence.

    The support clip's frames are read again where it lies; where it is gone, the bank's small
    pictures stand in, and without those grey tiles.
    """
    evidence = match.evidence
    if evidence is None:
        return None
    best = match.topk[0]
    second = match.topk[1] if len(match.topk) > 1 else None
    return draw_match(
        Strip(match.query, evidence.pixels, match.clip.frames_seconds),
        support_strip(bank, evidence.clip, evidence.pixels.shape[1]),
        evidence.alignment,
        label=match.label,
        best=best.label,
        score=best.score,
        runner_up=None if second is None else (second.label, second.score),
        footer=(
            f"{match.model} · {match.engine} on {match.device}, {match.precision} · the stronger a"
            " line, the more the soft alignment (OTAM) pairs the two frames"
        ),
    )


def support_strip(bank: Bank, index: int, size: int) -> Strip:
    """The frames of a bank's clip, `size` pixels a side."""
    clip = bank.clips[index]
    frames = bank.query.shape[1]
    try:
        loaded = load_clip(
            Path(clip.path),
            frames=frames,
            size=size,
            geometry=bank.geometry,
            start=clip.start,
            end=clip.end,
        )
    except MafsarError:
        if bank.images is not None:
            return Strip(clip.path, bank.images[index], ())
        grey = np.full((frames, size, size, 3), 225, np.uint8)
        return Strip(f"{clip.path} (no longer there)", grey, ())
    return Strip(clip.path, loaded.pixels, tuple(loaded.times_seconds.tolist()))
