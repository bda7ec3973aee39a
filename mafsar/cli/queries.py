"""What a QUERY may be: file, frame folder, folder, glob, ``NAME=SOURCE``, or ``-`` for stdin."""

from __future__ import annotations

import glob
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mafsar.errors import InputError
from mafsar.files import exists, is_folder

_LIVE = re.compile(
    r"^(\d{1,3}|/dev/video\d+|(v4l2|rtsps?|rtmps?|https?|udp|tcp|srt|csi)://.*)$", re.IGNORECASE
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
    return bool(_LIVE.match(word)) and not exists(Path(word))


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
    if not equals or not name or not source or exists(Path(word)) or "/" in name:
        return None, word
    return name, source


def _paths(source: str) -> list[Path]:
    from mafsar.video import find_clips, is_frame_folder

    path = Path(source)
    if not exists(path):
        # What is missing is reported in its turn, so that one bad name does not end the run.
        return _matching(source) or [path]
    if is_folder(path):
        found = [path] if is_frame_folder(path) else find_clips(path)
        if not found:
            raise InputError(f"QUERY {path}: no video and no frame folder in this folder")
        return found
    return [path]


def _matching(pattern: str) -> list[Path]:
    """The clips that a glob pattern names."""
    from mafsar.video import is_frame_folder, is_image, is_video

    if not _GLOB.search(pattern) or "\0" in pattern:
        return []
    hits = [Path(hit) for hit in sorted(glob.glob(pattern, recursive=True))]  # noqa: PTH207 - "**" and absolute patterns
    return [path for path in hits if is_video(path) or is_image(path) or is_frame_folder(path)]
