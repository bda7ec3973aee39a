"""The clips that an export is calibrated and verified on: rendered, or the user's (no torch)."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mafsar.data.labelled import LabelledClip
from mafsar.data.support import SupportSet, read_support
from mafsar.errors import InputError, VideoError, option
from mafsar.runtime.encoder import Frames, ModelSpec
from mafsar.synthetic import action, class_names, render_clip

PROBE_CLIPS, RENDERED_CLIPS = 16, 24
_CLASSES = 8
_FIRST_SEED = 7_000_000  # far from the seeds that training and its tests draw
_MOST_USER_CLIPS = 96
_CALIBRATION_CLIPS = 24


@dataclass(frozen=True, repr=False)
class ClipSet:
    """Labelled clips, as a graph takes them.

    Attributes:
        frames: (n, T, S, S, 3), uint8.
        class_index: Each clip's class, as an index into `texts`, (n,).
        texts: Each class's text.
        source: Where they come from: "rendered", or the user's path.
    """

    frames: Frames
    class_index: NDArray[np.intp]
    texts: tuple[str, ...]
    source: str

    def __len__(self) -> int:
        return len(self.frames)

    def __repr__(self) -> str:
        return f"ClipSet({len(self)} clips of {len(self.texts)} classes, {self.source})"


def rendered_clips(spec: ModelSpec, count: int = RENDERED_CLIPS) -> ClipSet:
    """Rendered clips of 8 classes, the same for every model of one size; the first 16 make the probe."""
    names = class_names("test")[:_CLASSES]
    frames, class_index = [], []
    # One clip of each class, then the second of each: any first part covers the classes evenly.
    for index in range(count):
        number = index % _CLASSES
        clip = render_clip(
            names[number], seed=_FIRST_SEED + index, frames=spec.frames, size=spec.image_size
        )
        frames.append(clip)
        class_index.append(number)
    texts = tuple(action(name).label for name in names)
    return ClipSet(np.stack(frames), np.array(class_index, np.intp), texts, "rendered")


def calibration_clips(spec: ModelSpec, path: Path | None = None) -> ClipSet:
    """Clips that int8 ranges are taken from.

    Args:
        spec: The model.
        path: A folder of class folders or a CSV; at most 24 clips are taken, classes in turn.
            None renders clips of classes that verification does not use.
    """
    if path is not None:
        support = read_support(path)
        return _load(support, _in_turn(support, _CALIBRATION_CLIPS), spec, str(path))
    names = class_names("train")[:_CALIBRATION_CLIPS]
    frames = [
        render_clip(name, seed=_FIRST_SEED - 1 - i, frames=spec.frames, size=spec.image_size)
        for i, name in enumerate(names)
    ]
    texts = tuple(action(name).label for name in names)
    return ClipSet(np.stack(frames), np.arange(len(names)), texts, "rendered")


def user_clips(path: Path, spec: ModelSpec) -> ClipSet:
    """The user's labelled clips, at most 96 of them or two per class.

    Args:
        path: A folder of class folders or a CSV.
        spec: The model.

    Raises:
        InputError: Fewer than two classes, or a class with fewer than two clips.
        VideoError: A clip cannot be decoded.
    """
    support = read_support(path)
    members = Counter(clip.label for clip in support.clips)
    short = [label for label in support.labels if members[label] < 2]
    if len(support.labels) < 2 or short:
        what = f"class {short[0]} has one clip" if short else "there is one class only"
        raise InputError(
            option(data=path),
            f": {what}; verification compares answers between classes, so give at least two "
            "classes of two clips each",
        )
    most = max(_MOST_USER_CLIPS, 2 * len(support.labels))
    return _load(support, _in_turn(support, most), spec, str(path))


def _in_turn(support: SupportSet, most: int) -> list[LabelledClip]:
    """At most so many clips: the first of each class, then the second of each, and so on."""
    members = [[c for c in support.clips if c.label == label] for label in support.labels]
    rounds = itertools.zip_longest(*members)
    return [clip for clips in rounds for clip in clips if clip is not None][:most]


def _load(support: SupportSet, chosen: list[LabelledClip], spec: ModelSpec, source: str) -> ClipSet:
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
    class_index = np.array([labels.index(clip.label) for clip in chosen], np.intp)
    texts = tuple(item.text for item in support.classes)
    return ClipSet(np.stack(frames), class_index, texts, source)
