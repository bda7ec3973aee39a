"""What a QUERY may be: file, frame folder, folder, glob, ``NAME=SOURCE``, or ``-`` for stdin."""

from __future__ import annotations

import glob
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mafsar.cli import voice
from mafsar.errors import InputError
from mafsar.files import exists, is_folder

_LIVE = re.compile(
    r"^(\d{1,3}|/dev/video\d+|(v4l2|rtsps?|rtmps?|https?|udp|tcp|srt|csi)://.*)$", re.IGNORECASE
)
_STREAMED = frozenset({".mjpeg", ".mjpg"})  # what cameras call their streams
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


def expand(words: Sequence[str], frames_pattern: str | None = None) -> list[Source]:
    """The clips that the QUERY words name, in order.

    Args:
        words: QUERY.
        frames_pattern: Which pictures are frames in folders that hold several kinds.

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
    if frames_pattern is None:
        return sources
    from mafsar.video.find import choose_frames

    paths = choose_frames([source.path for source in sources], frames_pattern)
    return [Source(source.name, path) for source, path in zip(sources, paths, strict=True)]


def is_live(word: str) -> bool:
    """Whether a word names a camera or a stream."""
    return bool(_LIVE.match(word)) and not exists(Path(word))


def is_web_file(word: str) -> bool:
    """Whether a word is the address of a video or picture file, rather than of a stream."""
    from mafsar.video import is_image, is_video

    address = re.match(r"(?:https?|ftp)://[^?#]+", word, re.IGNORECASE)
    if address is None or exists(Path(word)):
        return False
    name = Path(address[0])
    return (is_video(name) and name.suffix.lower() not in _STREAMED) or is_image(name)


def _stdin_lines() -> Iterator[str]:
    for line in sys.stdin:
        text = line.rstrip("\r\n")
        if text.strip():
            yield text


def _expand_one(word: str) -> list[Source]:
    name, source = _split_name(word)
    if is_web_file(source):
        raise InputError(
            f"QUERY {source}: a file on the web; download it first, then give the file"
        )
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
    from mafsar.video import clip_exists, is_frame_folder
    from mafsar.video.find import search_clips, skipped_note
    from mafsar.video.sniff import clip_kind

    path = Path(source)
    if is_folder(path):
        if is_frame_folder(path):
            return [path]
        below = search_clips(path, leave_out_unlisted=True)
        found = below.clips
        note = skipped_note(path, below.skipped)
        if note:
            voice.note(f"note: {note}")
        if not found:
            raise InputError(f"QUERY {path}: no video and no frame folder in this folder")
        return found
    # What is missing is reported in its turn, so that one bad name does not end the run.
    if not clip_exists(path) and _GLOB.search(source) and "\0" not in source:
        hits = [Path(hit) for hit in sorted(glob.glob(source, recursive=True))]  # noqa: PTH207 - "**" and absolute patterns
        found = [p for p in hits if clip_kind(p) is not None or is_frame_folder(p)]
        return found or [path]
    return [path]
