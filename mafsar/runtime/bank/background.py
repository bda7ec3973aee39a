"""Background clips from long videos in which nothing happens: cut into windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mafsar.data.labelled import LabelledClip
from mafsar.data.labels import NONE_FOLDER
from mafsar.data.support import SupportSet
from mafsar.errors import InputError, MafsarError, MissingError, option
from mafsar.files import exists, is_folder
from mafsar.runtime.bank.bank import Bank
from mafsar.video import (
    MemoryClip,
    clip_source,
    find_clips,
    is_clip_source,
    is_frame_folder,
    is_video,
    video_info,
)

MOST_WINDOWS = 64
_USUAL_SECONDS = 2.0  # of a window where no support clip has a clock
_MOST_ASKED = 50  # support clips whose length is read


def with_background(
    support: SupportSet, sources: Any, held: Bank | None, ignore_clock: float | None = None
) -> SupportSet:
    """A support with more background clips.

    Args:
        support: The support.
        sources: A source or a list of them: a video, a frame folder, a folder of clips, or frames
            in memory. A video that is longer than the usual support clip is cut into at most 64
            windows of that length, evenly over the video.
        held: The bank that the support is added to, or None.
        ignore_clock: Frames per second that replace the timestamps of video files.

    Raises:
        MissingError: A source does not exist.
        InputError: A source is not a clip, or is a folder without a clip.
    """
    several = isinstance(sources, Sequence) and not isinstance(sources, str)
    listed = list(sources) if several and not is_clip_source(sources) else [sources]
    seconds = _usual_seconds(support, held, ignore_clock)
    found: list[LabelledClip] = []
    for number, source in enumerate(listed, start=1):
        clip = clip_source(source, name=f"{NONE_FOLDER}, clip {number}")
        if isinstance(clip, MemoryClip):
            found.append(LabelledClip(None, NONE_FOLDER, name=clip.name, array=clip))
            continue
        if not exists(clip):
            raise MissingError(
                option(none=str(clip)),
                ": no such file or folder; record a camera or a stream first",
            )
        paths = [clip]
        if is_folder(clip) and not is_frame_folder(clip):
            paths = find_clips(clip)
            if not paths:
                raise InputError(option(none=str(clip)), ": a folder without a clip")
        for path in paths:
            found += _windows(path, seconds, ignore_clock)
    return replace(support, none_clips=(*support.none_clips, *found))


def _windows(path: Path, seconds: float, ignore_clock: float | None) -> list[LabelledClip]:
    """The windows of one video; a short one and a frame folder are one clip."""
    length = None if is_folder(path) else _seconds_of(path, ignore_clock)
    if length is None or length < 2 * seconds:
        return [LabelledClip(path, NONE_FOLDER)]
    count = min(MOST_WINDOWS, int(length / seconds))
    starts = np.linspace(0.0, length - seconds, count).round(3)
    return [
        LabelledClip(path, NONE_FOLDER, float(start), float(round(start + seconds, 3)))
        for start in starts
    ]


def _usual_seconds(support: SupportSet, held: Bank | None, ignore_clock: float | None) -> float:
    """The median length of the support's clips."""
    known = [clip.duration_seconds for clip in held.clips] if held is not None else []
    for clip in support.clips[:_MOST_ASKED]:
        if clip.start is not None and clip.end is not None:
            known.append(clip.end - clip.start)
        elif clip.path is not None and is_video(clip.path):
            known.append(_seconds_of(clip.path, ignore_clock) or 0.0)
    clocked = [value for value in known if value > 0]
    return float(np.median(clocked)) if clocked else _USUAL_SECONDS


def _seconds_of(path: Path, ignore_clock: float | None) -> float | None:
    try:
        return float(video_info(path, ignore_clock)["duration_seconds"])
    except MafsarError:
        return None  # said when it is encoded
