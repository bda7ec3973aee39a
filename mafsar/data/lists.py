"""Published split lists, read unchanged.

A file has one of two formats:

- ``train8/78687`` or ``train0//videos/<class>/<file>.avi``: the part, the class's number within
  that part, and the video's path;
- ``<class name>/<video>``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mafsar.data.splits import PARTS, Part
from mafsar.documents import LARGEST_LIST, parse_json, read_text
from mafsar.errors import InputError, MissingError, option

FORMATS = (
    "train*.txt, val*.txt and test*.txt, with lines train8/78687, "
    "train0//videos/<class>/<file>.avi or <class name>/<video>"
)
_NUMBERED = re.compile(r"^(train|val|test)(\d{1,9})//?(.+)$")
_SUFFIXES = {".txt", ".list"}


@dataclass(frozen=True)
class ListedClip:
    """One line of a list.

    Attributes:
        path: As listed, without the part and class number; posix, relative, with or without suffix.
        class_id: Number of the class within its part; None if the format has no numbers.
        folder: Name of the innermost folder of the path, which may be a class; None without one.
        line: Line number.
    """

    path: str
    class_id: int | None
    folder: str | None
    line: int


def find_lists(folder: Path, *, needed_by: str) -> dict[Part, Path]:
    """Finds the list of each part.

    Args:
        folder: The user's folder of lists.
        needed_by: Title of the data set, for messages.

    Raises:
        MissingError: The folder does not exist, or has no list for a part.
        InputError: Two files could be the list of a part.
    """
    if not folder.is_dir():
        raise MissingError(option(lists=folder), f": no such folder; {needed_by} needs {FORMATS}")
    found: dict[Part, Path] = {}
    for part in PARTS:
        files = sorted(
            path
            for path in folder.iterdir()
            if path.suffix.lower() in _SUFFIXES
            and path.name.lower().startswith(part)
            and "class" not in path.name.lower()
        )
        if len(files) > 1:
            names = " and ".join(path.name for path in files)
            raise InputError(
                option(lists=folder),
                f": {names} both look like the {part} list; keep one of them",
            )
        if not files:
            raise MissingError(
                option(lists=folder),
                f": no {part} list ({part}*.txt); {needed_by} needs {FORMATS}",
            )
        found[part] = files[0]
    return found


def read_list(path: Path, part: Part) -> list[ListedClip]:
    """Reads a list of either format.

    Args:
        path: The list.
        part: Which part it is; numbered lines must agree.

    Raises:
        InputError: The list is empty or mixes formats, or a line has neither format.
    """
    clips: list[ListedClip] = []
    for number, line in _lines(path):
        where = f"{path} line {number}"
        numbered = _NUMBERED.match(line)
        if numbered is not None and numbered[1] != part:
            raise InputError(
                f"{where}: {line!r} is of part {numbered[1]}, but the file name says {part}; "
                "rename the file"
            )
        class_id = int(numbered[2]) if numbered else None
        if clips and (clips[0].class_id is None) != (class_id is None):
            raise InputError(f"{where}: {line!r} is in another format than the lines before it")
        listed = PurePosixPath(numbered[3].lstrip("/") if numbered else line)
        if listed.is_absolute() or ".." in listed.parts:
            raise InputError(f"{where}: {line!r} leads out of the data folder; list relative paths")
        folder = listed.parent.name or None
        if class_id is None and folder is None:
            raise InputError(f"{where}: {line!r} names no class; expected {FORMATS}")
        clips.append(ListedClip(str(listed), class_id, folder, number))
    if not clips:
        raise InputError(f"{path}: contains no video; expected {FORMATS}")
    return clips


def read_class_names(folder: Path, part: Part) -> tuple[str, ...] | None:
    """Reads ``<part>_classes.txt``: names in class-number order; None if there is no such file."""
    path = folder / f"{part}_classes.txt"
    if not path.is_file():
        return None
    return tuple(line for _, line in _lines(path))


def read_video_names(folder: Path) -> dict[str, str]:
    """Reads Something-Something's own annotations, if they are beside the lists.

    Returns:
        Class name (the ``template``) of each video, by the video's id, from every
        ``something-something-v2-*.json`` or ``train.json``/``validation.json`` of the folder.

    Raises:
        InputError: Such a file is not a list of objects with ``id`` and ``template``.
    """
    files = sorted(folder.glob("something-something-v2-*.json"))
    files += [folder / "train.json", folder / "validation.json"]
    names: dict[str, str] = {}
    for path in files:
        if not path.is_file() or path.stem.endswith(("labels", "test")):
            continue
        try:
            for item in parse_json(read_text(path, most_bytes=LARGEST_LIST), str(path)):
                names[str(item["id"])] = str(item["template"])
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path}: not Something-Something's annotations ({type(error).__name__} {error}); "
                'expected [{"id": …, "template": …}, …]'
            ) from error
    return names


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yields non-empty lines; bytes that are not UTF-8 are kept, as in file names."""
    text = read_text(path, most_bytes=LARGEST_LIST, any_bytes=True)
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for number, line in enumerate(lines, start=1):
        line = line.strip().replace("\\", "/")
        if line:
            yield number, line
