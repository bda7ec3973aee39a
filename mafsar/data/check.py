"""Checks that a data set is complete and that every clip can be read."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TextIO

from mafsar.data.catalogue import Catalogue
from mafsar.data.labelled import LabelledClip
from mafsar.data.parallel import in_order
from mafsar.data.splits import PARTS, Part
from mafsar.data.store import Store, is_store, refuse_clock
from mafsar.errors import MafsarError
from mafsar.video import load_raw_clip, video_info
from mafsar.video.guard import clip_errors
from mafsar.video.pictures import is_picture_clip, open_pictures, picture_size
from mafsar.video.rates import check_clock

_SHORT_SIDE = 64

Status = Literal["ok", "missing", "unreadable", "short"]
COLUMNS = (
    "part", "label", "clip", "status", "detail", "frames", "duration_seconds", "fps", "width",
    "height", "path", "repairs",
)  # fmt: skip


@dataclass(frozen=True)
class ClipReport:
    """The result of checking one clip.

    Attributes:
        clip: The clip.
        status: ``short`` means that it has fewer frames than the model takes, so that some repeat.
        detail: Why the status is not ok, one sentence.
        frames: Number of frames.
        duration_seconds: Duration; None without a clock.
        fps: Average frame rate; None without a clock.
        width: Width of the picture, pixels.
        height: Height of the picture, pixels.
        repairs: What was repaired in reading the file, sentences.
        error: Why it is unreadable, for the caller to word; `detail` says it as Python.
    """

    clip: LabelledClip
    status: Status
    detail: str = ""
    frames: int | None = None
    duration_seconds: float | None = None
    fps: float | None = None
    width: int | None = None
    height: int | None = None
    repairs: tuple[str, ...] = ()
    error: MafsarError | None = None


@dataclass(frozen=True)
class PartCount:
    """Classes and videos found and expected in one part.

    Attributes:
        part: Train, val or test.
        classes: Classes with at least one clip.
        classes_expected: Classes of the split; None if unknown.
        videos: Clips found.
        videos_expected: Clips of the protocol or of the lists; None if unknown.
    """

    part: Part
    classes: int
    classes_expected: int | None
    videos: int
    videos_expected: int | None

    @property
    def short_of(self) -> int:
        """Number of missing videos and classes together."""
        videos = max((self.videos_expected or 0) - self.videos, 0)
        return videos + max((self.classes_expected or 0) - self.classes, 0)


def count_parts(catalogue: Catalogue) -> list[PartCount]:
    """Compares each part's classes and videos with the protocol or with the user's own lists."""
    counts = []
    for part in PARTS:
        clips = [clip for clip in catalogue.clips if clip.part == part]
        missing = sum(clip.part == part for clip in catalogue.missing)
        listed = sum(item.part == part for item in catalogue.classes)
        absent = sum(of == part for of, _ in catalogue.absent)
        if catalogue.preset is not None:
            expected = catalogue.preset.parts[part]
            class_count, videos = expected.class_count, expected.videos
        elif listed or absent:
            class_count, videos = listed + absent, len(clips) + missing
        else:
            continue
        here = len({clip.label for clip in clips})
        counts.append(PartCount(part, here, class_count, len(clips), videos))
    return counts


def check_clips(
    catalogue: Catalogue,
    *,
    frames: int = 8,
    workers: int = 2,
    ignore_clock: float | None = None,
) -> Iterator[ClipReport]:
    """Checks every clip: opens it, reads its timestamps and decodes its middle frame.

    Args:
        catalogue: The data set.
        frames: T; clips with fewer frames are ``short``.
        workers: Threads.
        ignore_clock: Frames per second that replace the timestamps of video files.

    Yields:
        Reports on the missing clips, then on the others in the catalogue's order.

    Raises:
        InputError: A clock is given for a packed data set, or it is no rate.
    """
    check_clock(ignore_clock)
    for clip in catalogue.missing:
        yield ClipReport(clip, "missing", "named by the lists, but not found")
    if is_store(catalogue.root):
        refuse_clock(catalogue.root, ignore_clock)
        yield from _check_store(catalogue, frames)
        return
    yield from in_order(
        lambda clip: _check(clip, frames, ignore_clock), catalogue.clips, workers=workers
    )


def write_header(stream: TextIO) -> None:
    """Writes the header of the CSV."""
    csv.writer(stream, lineterminator="\n").writerow(COLUMNS)


def write_report(stream: TextIO, report: ClipReport) -> None:
    """Writes one clip's line of the CSV."""
    clip = report.clip
    values = (
        clip.part, clip.label, clip.name, report.status, report.detail, report.frames,
        report.duration_seconds, report.fps, report.width, report.height, clip.path,
        "; ".join(report.repairs),
    )  # fmt: skip
    csv.writer(stream, lineterminator="\n").writerow(["" if v is None else v for v in values])


def _check_store(catalogue: Catalogue, frames: int) -> Iterator[ClipReport]:
    counts = Store(catalogue.root).frame_counts()
    for clip in catalogue.clips:
        yield _with_length(ClipReport(clip, "ok", frames=counts[clip.label, clip.name]), frames)


def _check(clip: LabelledClip, frames: int, ignore_clock: float | None) -> ClipReport:
    """Checks one clip; an error becomes the result, not an exception."""
    assert clip.path is not None
    try:
        with clip_errors(clip.path):
            if is_picture_clip(clip.path):
                report = _check_pictures(clip, clip.path)
            else:
                report = _check_video(clip, clip.path, ignore_clock)
    except MafsarError as error:
        return ClipReport(clip, "unreadable", _reason(clip.path, error), error=error)
    return _with_length(report, frames)


def _with_length(report: ClipReport, frames: int) -> ClipReport:
    if report.frames is None or report.frames >= frames:
        return report
    count = f"{report.frames} frame{'' if report.frames == 1 else 's'}"
    values = {**report.__dict__, "status": "short", "detail": f"{count}, fewer than {frames}"}
    return ClipReport(**values)


def _check_video(clip: LabelledClip, path: Path, ignore_clock: float | None) -> ClipReport:
    info = video_info(path, ignore_clock)
    raw = load_raw_clip(
        path, frames=1, start=clip.start, end=clip.end, threads=1, ignore_clock=ignore_clock
    )
    count = info["frames"]
    whole = clip.start is None and clip.end is None
    if count is not None and not whole and info["duration_seconds"] > 0:
        count = round(count * raw.duration_seconds / info["duration_seconds"])
    return ClipReport(
        clip,
        "ok",
        frames=count,
        duration_seconds=round(raw.duration_seconds, 3),
        fps=None if raw.fps is None else round(raw.fps, 3),
        width=raw.frames.shape[2],
        height=raw.frames.shape[1],
        repairs=tuple(dict.fromkeys([*info["repairs"], *raw.repairs])),
    )


def _check_pictures(clip: LabelledClip, path: Path) -> ClipReport:
    pictures = open_pictures(path)
    # A large picture is reduced as it is decoded: what it shows is not needed here.
    raw = load_raw_clip(path, frames=1, short_side=_SHORT_SIDE, start=clip.start, end=clip.end)
    width, height = picture_size(pictures.items[0])
    return ClipReport(
        clip,
        "ok",
        frames=len(pictures.items),
        duration_seconds=None if raw.fps is None else round(raw.duration_seconds, 3),
        fps=None if raw.fps is None else round(raw.fps, 3),
        width=width,
        height=height,
        repairs=raw.repairs,
    )


def _reason(path: Path, error: MafsarError) -> str:
    """The error without the path, which has its own column."""
    return str(error).removeprefix(f"{path}: ")
