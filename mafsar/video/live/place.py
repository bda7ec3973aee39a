"""What a source of `watch` or `record` is: a file, a camera, a stream, stdin, or frames in memory."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from mafsar.errors import ArgumentTypeError, InputError, MissingError
from mafsar.files import exists, is_folder
from mafsar.video.find import search_clips
from mafsar.video.frame_folder import clip_exists, is_frame_folder

Kind = Literal["file", "stream", "camera", "csi", "stdin", "frames", "pushed"]

STDIN = "-"
_NUMBER = re.compile(r"\d{1,3}")
_DEVICE = re.compile(r"/dev/video\d+")
_ADDRESS = re.compile(r"(v4l2|rtsps?|rtmps?|https?|udp|tcp|srt|csi)://.+", re.IGNORECASE)
_NAMED = re.compile(r"([^=/\\:]+)=(.+)", re.DOTALL)
_SECRET = re.compile(r"(?<=//)[^/@]*@")


@dataclass(frozen=True)
class Place:
    """One source.

    Attributes:
        name: What events call it; no password is in it.
        kind: How it is opened.
        where: A path, an address, a device or the number of a camera; for "frames" the iterable, and
            for "pushed" one whose frames come at their own speed.
    """

    name: str
    kind: Kind
    where: Any

    @property
    def is_live(self) -> bool:
        """Whether it goes on by itself, at its own speed; a file waits for its reader."""
        return self.kind in ("stream", "camera", "csi", "pushed")


def is_address(word: str) -> bool:
    """Whether a word names a camera or a stream: `0`, `/dev/video0`, `rtsp://…`, `csi://0`."""
    fits = _NUMBER.fullmatch(word) or _DEVICE.fullmatch(word) or _ADDRESS.fullmatch(word)
    # A device of the name exists, and is the camera itself.
    return bool(fits) and (_DEVICE.fullmatch(word) is not None or not exists(Path(word)))


def places_of(source: Any) -> list[Place]:
    """The places that a source names: one, or the clips of a folder in natural order.

    Args:
        source: A path, an address, `NAME=SOURCE`, `-`, or an iterable of (seconds, frame) with
            frames uint8 RGB (H, W, 3).

    Raises:
        MissingError: There is no such file.
        InputError: A folder without a clip.
        ArgumentTypeError: Something else.
    """
    if isinstance(source, Place):
        return [source]
    if isinstance(source, Path):
        return _files(str(source), source)
    if isinstance(source, int) and not isinstance(source, bool):
        return [Place(str(source), "camera", f"/dev/video{source}")]
    if isinstance(source, str):
        return _of_word(source)
    if isinstance(source, Iterable):
        return [Place("frames", "frames", source)]
    raise ArgumentTypeError(
        "a source is a path, an address or an iterable of (seconds, frame), got "
        f"{type(source).__name__}"
    )


def places_of_all(sources: Iterable[Any]) -> list[Place]:
    """The places of several sources, each with a name of its own.

    Iterables of frames are called frames, frames-2, ….

    Raises:
        MafsarError: As `places_of`; InputError where two have one name.
    """
    places: list[Place] = []
    unnamed = 0
    for source in sources:
        for place in places_of(source):
            if place is not source and place.kind == "frames":
                unnamed += 1
                if unnamed > 1:
                    place = replace(place, name=f"{place.name}-{unnamed}")
            places.append(place)
    names = [place.name for place in places]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"SOURCE {twice}: named twice; name each one once, or as NAME=SOURCE")
    return places


def _of_word(word: str) -> list[Place]:
    named = None if exists(Path(word)) else _NAMED.fullmatch(word)
    name, rest = (None, word) if named is None else (named[1], named[2])
    if rest == STDIN:
        return [Place(name or "stdin", "stdin", STDIN)]
    if not is_address(rest):
        return _files(name or rest, Path(rest), named=name is not None)
    shown = name or _SECRET.sub("", rest)
    if rest.isdigit():
        return [Place(shown, "camera", f"/dev/video{rest}")]
    scheme, _, tail = rest.partition("://")
    if scheme.lower() == "v4l2":
        return [Place(shown, "camera", tail if tail.startswith("/") else f"/dev/{tail}")]
    if scheme.lower() == "csi":
        if not tail.isdigit():
            raise InputError(f"{rest}: a CSI camera is csi://N with the number of its sensor")
        return [Place(shown, "csi", int(tail))]
    return [Place(shown, "stream" if "://" in rest else "camera", rest)]


def _files(name: str, path: Path, *, named: bool = False) -> list[Place]:
    if is_folder(path) and not is_frame_folder(path):
        clips = search_clips(path, leave_out_unlisted=True).clips
        if not clips:
            raise InputError(f"{path}: no video and no frame folder in this folder")
        shown = [f"{name}/{clip.relative_to(path)}" if named else str(clip) for clip in clips]
        return [Place(each, "file", clip) for each, clip in zip(shown, clips, strict=True)]
    if not clip_exists(path):
        raise MissingError(
            f"{path}: no such file; give a file, a folder, a camera (0, /dev/video0), a stream "
            "(rtsp://…) or - for stdin"
        )
    return [Place(name, "file", path)]
