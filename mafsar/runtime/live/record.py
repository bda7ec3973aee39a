"""`mafsar record`: short clips from a camera into a class folder of a support."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mafsar.errors import InputError, VideoError, option
from mafsar.files import is_folder
from mafsar.video import write_video
from mafsar.video.live.file_frames import open_file
from mafsar.video.live.frames import OpenSource, TimedFrame, open_stream
from mafsar.video.live.place import Place
from mafsar.video.live.signs import is_lit
from mafsar.video.picture import Picture
from mafsar.video.preprocess import fitted, resize, short_side_size

FPS = 25.0
"""Of the clips, where a camera states no rate; a faster camera is thinned to 30."""
_MOST_FPS = 30.0
_SHORT_SIDE = 720
_SMALL = (48, 48)  # what movement is measured on
_MOVING = 3.0  # grey levels by which a moving pixel changes at least
_MOVING_SHARE = 0.004  # of all pixels, in a frame that moves
_MARGIN = 0.2  # seconds that are kept around the moving part
_NAME = re.compile(r"(\d+)\.mp4")

BACKGROUND_SECONDS, BACKGROUND_CLIPS = 2.0, 30
"""What is recorded of a live source in which nothing happens."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Recorded:
    """One clip that was written.

    Attributes:
        path: The file.
        seconds: Its length.
        moving: Whether anything moves in it.
    """

    path: Path
    seconds: float
    moving: bool


def record(
    place: Place,
    folder: Path,
    *,
    seconds: float = 3.0,
    count: int = 5,
    delay: float = 3.0,
    trim: bool = False,
    say: Say | None = None,
) -> Iterator[Recorded]:
    """Records clips into a folder, numbered after those that are there.

    Frames have at most 720 lines on their short side.

    Args:
        place: A camera or a stream; or a file, which is cut into clips.
        folder: The class folder; it is created if need be.
        seconds: Length of each clip.
        count: Number of clips.
        delay: Seconds before each clip, counted down.
        trim: Keep only the moving part of each clip, and a little around it.
        say: Called with each line for the user.

    Yields:
        Each clip, as soon as it is written.

    Raises:
        InputError: A number out of range, or the folder is a file.
        VideoError: The source cannot be read, or shows nothing: it is dark, or nothing changes.
    """
    if not seconds >= 0.2:
        raise InputError(option(seconds=seconds), ": must be at least 0.2 seconds")
    if count < 1:
        raise InputError(option(count=count), ": must be at least 1")
    if not delay >= 0:
        raise InputError(option(delay=delay), ": must be ≥ 0 seconds")
    if folder.exists() and not is_folder(folder):
        raise InputError(f"{folder}: is a file; name a class folder, as support/wave")
    say = say or _say_nothing
    opening = open_file(place.where) if place.kind == "file" else open_stream(place)
    with opening as source:
        fps = min(source.fps or FPS, _MOST_FPS)
        frames = _Steady(place, source, fps)
        for number in range(1, count + 1):
            _count_down(frames, delay, f"clip {number} of {count}", say)
            say(f"clip {number} of {count}: now")
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{_next_number(folder):03d}.mp4"
            yield _one(place, frames, path, seconds, trim)


def record_background(place: Place, folder: Path, *, say: Say | None = None) -> list[Path]:
    """Records a minute of a live source in which none of the actions happens, as short clips.

    Args:
        place: A camera or a stream.
        folder: Where the clips go.
        say: Called with a line for the user.

    Raises:
        VideoError: As for `record`.
    """
    if say is not None:
        minute = BACKGROUND_SECONDS * BACKGROUND_CLIPS
        say(f"{place.name}: recording {minute:g} s of background; do none of the actions")
    recorded = record(place, folder, seconds=BACKGROUND_SECONDS, count=BACKGROUND_CLIPS, delay=0.0)
    return [clip.path for clip in recorded]


def _one(place: Place, frames: _Steady, path: Path, seconds: float, trim: bool) -> Recorded:
    """Writes one clip, unless the camera shows nothing."""
    small: list[np.ndarray] = []
    kept: list[np.ndarray] = []
    for frame in frames.take(seconds):
        small.append(resize(Picture.of(frame), *_SMALL).astype(np.int16).mean(axis=2))
        kept.append(frame)
    if len(kept) < 2:
        raise VideoError(f"{place.name}: gave {len(kept)} frames in {seconds:g} s; try again")
    refuse_nothing(place, kept)
    begin, end = moving_part(small, frames.fps)
    moves = end > begin
    if trim and moves:
        kept = kept[begin:end]
    write_video(path, kept, frames.fps)
    return Recorded(path, len(kept) / frames.fps, moves)


def refuse_nothing(place: Place, frames: list[np.ndarray]) -> None:
    """Refuses frames of a camera that is dark or frozen.

    Raises:
        VideoError: It is; says which, and what to do.
    """
    if not any(is_lit(frame[::8, ::8]) for frame in frames):
        raise VideoError(f"{place.name}: is dark; open its cover, or turn on the light")
    first = frames[0]
    if all((frame == first).all() for frame in frames[1:]):
        raise VideoError(
            f"{place.name}: is frozen: no pixel changes in {len(frames)} frames; "
            "connect the camera again"
        )


def moving_part(small: list[np.ndarray], fps: float) -> tuple[int, int]:
    """The frames between the first and the last that move, with a little around them.

    Args:
        small: Grey frames, (H, W).
        fps: Frames a second.

    Returns:
        Begin and end, frame numbers; equal where nothing moves.
    """
    step = max(round(fps / 10), 1)  # movement is seen over a tenth of a second
    moved = [
        float((abs(small[k] - small[k - step]) > _MOVING).mean()) for k in range(step, len(small))
    ]
    moving = [k for k, share in enumerate(moved) if share > _MOVING_SHARE]
    if not moving:
        return 0, 0
    margin = round(_MARGIN * fps)
    return max(moving[0] - margin, 0), min(moving[-1] + step + 1 + margin, len(small))


class _Steady:
    """Frames of a source at a constant rate, all of one size, as RGB arrays."""

    def __init__(self, place: Place, source: OpenSource, fps: float) -> None:
        self.fps = fps
        self._place, self._source = place, source
        self._ahead: TimedFrame | None = None
        self._size: tuple[int, int] | None = None

    def take(self, seconds: float) -> Iterator[np.ndarray]:
        """The frames of the next so many seconds; a frame is repeated while it is shown."""
        held, first, number = self._next(), 0.0, 0
        first = held.seconds
        while number / self.fps < seconds - 1e-6:
            following = self._next()
            picture: np.ndarray | None = None
            while number / self.fps < min(following.seconds - first, seconds - 1e-6):
                picture = self._pixels(held) if picture is None else picture
                number += 1
                yield picture
            held = following

    def skip(self, seconds: float) -> Iterator[tuple[float, TimedFrame]]:
        """Passes over so many seconds; gives how long is left, at each frame."""
        first: float | None = None
        while True:
            frame = self._next()
            first = frame.seconds if first is None else first
            left = seconds - (frame.seconds - first)
            if left <= 0:
                return
            yield left, frame

    def _next(self) -> TimedFrame:
        try:
            return next(self._source.frames)
        except StopIteration:
            raise VideoError(f"{self._place.name}: ended while it was recorded") from None

    def _pixels(self, frame: TimedFrame) -> np.ndarray:
        picture = frame.picture()
        width, height = picture.width, picture.height
        if min(width, height) > _SHORT_SIDE:
            width, height = short_side_size(width, height, _SHORT_SIDE)
        pixels = resize(picture, width, height)
        self._size = self._size or (pixels.shape[1], pixels.shape[0])
        return fitted(pixels, *self._size)


def _count_down(frames: _Steady, delay: float, what: str, say: Say) -> None:
    """Says each second; the camera goes on meanwhile, so that its buffers hold no old frames."""
    said = None
    for left, _ in frames.skip(delay):
        whole = int(np.ceil(left))
        if whole != said:
            said = whole
            say(f"{what} in {whole}")


def _next_number(folder: Path) -> int:
    numbers = [int(found[1]) for each in folder.iterdir() if (found := _NAME.fullmatch(each.name))]
    return max(numbers, default=0) + 1


def _say_nothing(_line: str) -> None:
    """Takes what nobody wants to hear."""
