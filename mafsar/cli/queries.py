"""What a QUERY may be: file, frame folder, folder, glob, ``NAME=SOURCE``, or ``-`` for stdin."""

from __future__ import annotations

import glob
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mafsar.errors import InputError

_LIVE = re.compile(
    r"^(\d+|/dev/video\d+|(v4l2|rtsps?|rtmps?|https?|udp|tcp|srt|csi)://.*)$", re.IGNORECASE
)
_GLOB = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Source:
    """One clip to match.

    Attributes:
        name: Its name in the results.
        path: Where it is. It may be missing, which is reported when its turn comes.
    """

    name: str
    path: Path


def expand(words: Sequence[str]) -> list[Source]:
    """The clips that the QUERY words name, in order.

    Raises:
        InputError: A live source, an empty folder or glob, or no clip at all.
    """
    sources: list[Source] = []
    for word in words:
        if word == "-":
            for line in _stdin_lines():
                sources += _expand_one(line)
        else:
            sources += _expand_one(word)
    if not sources:
        raise InputError("QUERY: no clip was named; give files, folders, a glob, or paths on stdin")
    return sources


def is_live(word: str) -> bool:
    """Whether a word names a camera or a stream."""
    return bool(_LIVE.match(word)) and not Path(word).is_file()


def _stdin_lines() -> Iterator[str]:
    for line in sys.stdin:
        text = line.rstrip("\r\n")
        if text.strip():
            yield text


def _expand_one(word: str) -> list[Source]:
    name, source = _split_name(word)
    if is_live(source):
        raise InputError(
            f"QUERY {source}: a live source; match takes clips, use mafsar watch SUPPORT {source}"
        )
    paths = _paths(source)
    if name is None:
        return [Source(str(path), path) for path in paths]
    if len(paths) == 1:
        return [Source(name, paths[0])]
    return [Source(f"{name}/{path.name}", path) for path in paths]


def _split_name(word: str) -> tuple[str | None, str]:
    """``NAME=SOURCE`` apart; a path that exists is never split."""
    name, equals, source = word.partition("=")
    if not equals or not name or not source or Path(word).exists() or "/" in name:
        return None, word
    return name, source


def _paths(source: str) -> list[Path]:
    from mafsar.video import find_clips, is_frame_folder, is_image, is_video

    path = Path(source)
    if path.is_dir():
        found = [path] if is_frame_folder(path) else find_clips(path)
        if not found:
            raise InputError(f"QUERY {path}: no video and no frame folder in this folder")
        return found
    if not path.exists() and _GLOB.search(source):
        hits = [Path(hit) for hit in sorted(glob.glob(source, recursive=True))]  # noqa: PTH207 - "**" and absolute patterns
        found = [p for p in hits if is_video(p) or is_image(p) or is_frame_folder(p)]
        if not found:
            raise InputError(f"QUERY {source}: no clip matches this pattern; quote it and check it")
        return found
    return [path]
