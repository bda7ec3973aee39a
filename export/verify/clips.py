"""The clips that an export is judged on: rendered ones, or the user's (no torch)."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mafsar.data.labelled import LabelledClip
from mafsar.data.support import SupportSet, read_support
from mafsar.errors import InputError, VideoError
from mafsar.runtime.encoder import Frames, ModelSpec
from mafsar.synthetic import action, class_names, render_clip

PROBE_CLIPS = 16
_CLASSES, _CLIPS = 8, 3
_FIRST_SEED = 7_000_000  # far from the seeds that training and its tests draw
_MOST_USER_CLIPS = 96
_CALIBRATION_CLIPS = 24


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


def calibration_clips(spec: ModelSpec, path: Path | None = None) -> ClipSet:
    """Clips that int8 ranges are taken from: the user's, or rendered ones that verify nothing.

    Args:
        spec: The model.
        path: A folder of class folders or a CSV; at most 24 clips are taken, classes in turn.
    """
    if path is not None:
        support = read_support(path)
        return _loaded(support, _in_turn(support, _CALIBRATION_CLIPS), spec, str(path))
    names = class_names("train")[:_CALIBRATION_CLIPS]
    frames = [
        render_clip(name, seed=_FIRST_SEED - 1 - i, frames=spec.frames, size=spec.image_size)
        for i, name in enumerate(names)
    ]
    texts = tuple(action(name).label for name in names)
    return ClipSet(np.stack(frames), np.arange(len(names)), texts, "rendered")


def user_clips(path: Path, spec: ModelSpec) -> ClipSet:
    """The user's labelled clips (a folder of class folders or a CSV), at most 96 of them.

    Raises:
        InputError: Fewer than two classes, or a class with fewer than two clips.
        VideoError: A clip cannot be decoded.
    """
    support = read_support(path)
    members = Counter(clip.label for clip in support.clips)
    short = [label for label in support.labels if members[label] < 2]
    if len(support.labels) < 2 or short:
        what = f"class {short[0]} has one clip" if short else "one class only"
        raise InputError(
            f"--data {path}: {what}; answers are compared between clips of several classes, "
            "so give two clips a class or more"
        )
    most = max(_MOST_USER_CLIPS, 2 * len(support.labels))
    return _loaded(support, _in_turn(support, most), spec, str(path))


def _in_turn(support: SupportSet, most: int) -> list[LabelledClip]:
    """Some clips: the first of each class, then the second of each."""
    members = [[c for c in support.clips if c.label == label] for label in support.labels]
    rounds = itertools.zip_longest(*members)
    return [clip for clips in rounds for clip in clips if clip is not None][:most]


def _loaded(
    support: SupportSet, chosen: list[LabelledClip], spec: ModelSpec, source: str
) -> ClipSet:
    from mafsar.video import ClipRequest, load_clips

    labels = list(support.labels)
    requests = [
        ClipRequest(
            clip.source, frames=spec.frames, size=spec.image_size, start=clip.start, end=clip.end
        )
        for clip in chosen
    ]
    frames = []
    for loaded in load_clips(requests):
        if isinstance(loaded, VideoError):
            raise loaded
        frames.append(loaded.pixels)
    owners = np.array([labels.index(clip.label) for clip in chosen], np.intp)
    texts = tuple(item.text for item in support.classes)
    return ClipSet(np.stack(frames), owners, texts, source)
