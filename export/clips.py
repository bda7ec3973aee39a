"""The clips that an export is judged on: rendered ones, or the user's (no torch)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mafsar.data.synthetic import action, class_names, render_clip
from mafsar.errors import InputError, VideoError
from mafsar.runtime.encoders import Frames, ModelSpec

PROBE_CLIPS = 16
_CLASSES, _CLIPS = 8, 3
_FIRST_SEED = 7_000_000  # far from the seeds that training and its tests draw
_MOST_USER_CLIPS = 96


@dataclass(frozen=True, repr=False)
class ClipSet:
    """Labelled clips, as a graph takes them.

    Attributes:
        frames: (n, T, S, S, 3), uint8.
        owners: Class of each clip, (n,).
        texts: Each class's text.
        source: Where they come from: "rendered", or the user's path.
    """

    frames: Frames
    owners: NDArray[np.intp]
    texts: tuple[str, ...]
    source: str

    def __len__(self) -> int:
        return len(self.frames)

    def __repr__(self) -> str:
        return f"ClipSet({len(self)} clips of {len(self.texts)} classes, {self.source})"


def rendered_clips(spec: ModelSpec) -> ClipSet:
    """The same rendered clips for every model of one size; the first 16 make the probe."""
    names = class_names("test")[:_CLASSES]
    frames, owners = [], []
    # Class after class in turn, so that any first part holds every class.
    for index in range(_CLASSES * _CLIPS):
        owner = index % _CLASSES
        clip = render_clip(
            names[owner], seed=_FIRST_SEED + index, frames=spec.frames, size=spec.image_size
        )
        frames.append(clip)
        owners.append(owner)
    texts = tuple(action(name).label for name in names)
    return ClipSet(np.stack(frames), np.array(owners, np.intp), texts, "rendered")


def user_clips(path: Path, spec: ModelSpec) -> ClipSet:
    """The user's labelled clips (a folder of class folders or a CSV), at most 96 of them.

    Raises:
        InputError: Fewer than two classes, or a class with fewer than two clips.
        VideoError: A clip cannot be decoded.
    """
    from mafsar.runtime.support import read_support
    from mafsar.video import ClipRequest, load_clips

    support = read_support(path)
    members: dict[str, list[Any]] = {label: [] for label in support.labels}
    for clip in support.clips:
        members[clip.label or ""].append(clip)
    short = [label for label, clips in members.items() if len(clips) < 2]
    if len(members) < 2 or short:
        what = f"class {short[0]} has one clip" if short else "one class only"
        raise InputError(
            f"--data {path}: {what}; answers are compared between clips of several classes, "
            "so give two clips a class or more"
        )
    each = max(2, _MOST_USER_CLIPS // len(members))
    chosen = [clip for label in members for clip in members[label][:each]]
    labels = list(members)
    requests = [
        ClipRequest(
            clip.path, frames=spec.frames, size=spec.image_size, start=clip.start, end=clip.end
        )
        for clip in chosen
    ]
    frames = []
    for loaded in load_clips(requests):
        if isinstance(loaded, VideoError):
            raise loaded
        frames.append(loaded.pixels)
    owners = np.array([labels.index(clip.label or "") for clip in chosen], np.intp)
    texts = tuple(item.text for item in support.classes)
    return ClipSet(np.stack(frames), owners, texts, str(path))
