"""Where results go: stdout or a file, JSON Lines, CSV; existing outputs are refused."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from mafsar.cli import voice
from mafsar.errors import InputError

_MOST_NAMED = 8  # files of one folder that a refusal names


def refuse_existing(
    paths: Mapping[str, Path | Sequence[Path] | None],
    overwrite: bool,
) -> None:
    """Stops before any work where outputs exist and ``--overwrite`` was not given.

    Args:
        paths: Output, or outputs in one folder, by flag. A folder exists where it is not empty.
        overwrite: The user's ``--overwrite``.

    Raises:
        InputError: Names all outputs that exist.
    """
    if overwrite:
        return
    found: list[str] = []
    for flag, value in paths.items():
        each = [] if value is None else [value] if isinstance(value, Path) else list(value)
        there = [str(path) for path in each if _exists(path)]
        if there:
            left = len(there) - _MOST_NAMED
            more = f" and {left} more" if left > 0 else ""
            found.append(f"{flag} {', '.join(there[:_MOST_NAMED])}{more}")
    if found:
        one = len(found) == 1 and "," not in found[0]
        verb, them = ("exists", "it") if one else ("exist", "them")
        raise InputError(
            f"{'; '.join(found)}: {verb} already; add --overwrite (-y) to replace {them}"
        )


def _exists(path: Path) -> bool:
    return path.is_file() or (path.is_dir() and any(path.iterdir()))


def say_written(*paths: Path | None) -> None:
    """Prints on stderr which files were written; None stands for a file that was not asked for."""
    for path in paths:
        if path is not None:
            voice.note(f"wrote {path}")


def make_folder(flag: str, path: Path) -> Path:
    """Makes an output folder."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise InputError(
            f"{flag} {path}: cannot make this folder ({problem.strerror}); name another"
        ) from None
    return path


@contextmanager
def results_to(path: Path | None, *, overwrite: bool) -> Iterator[TextIO]:
    """The stream for results: stdout, or the file of ``--out``, named on stderr at the end."""
    if path is None:
        yield sys.stdout
        return
    refuse_existing({"--out": path}, overwrite)
    with open_output("--out", path) as file:
        yield file
    say_written(path)


def print_json(stream: TextIO, value: Mapping[str, Any]) -> None:
    """One JSON object on one line, at once; a NaN is a bug and raises."""
    line = json.dumps(value, ensure_ascii=False, allow_nan=False)
    try:
        line.encode(getattr(stream, "encoding", None) or "utf-8")
    except UnicodeEncodeError:  # a terminal that is not UTF-8, a file name that is not text
        line = json.dumps(value, ensure_ascii=True, allow_nan=False)
    stream.write(f"{line}\n")
    stream.flush()


class CsvWriter:
    """A CSV whose columns are the JSON's names, nested ones joined by dots."""

    def __init__(self, path: Path, columns: list[str]) -> None:
        self._path = path
        self._file = open_output("--csv", path)
        self._writer = csv.DictWriter(self._file, columns, restval="")
        self._writer.writeheader()

    def write(self, row: Mapping[str, Any]) -> None:
        """Writes one row at once; None is an empty cell."""
        self._writer.writerow({k: "" if v is None else v for k, v in row.items()})
        self._file.flush()

    def close(self) -> None:
        """Closes the file and names it on stderr."""
        self._file.close()
        say_written(self._path)


def open_output(flag: str, path: Path) -> TextIO:
    """Opens a text file for writing; its folder is made where it is missing."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("w", encoding="utf-8", errors="surrogateescape", newline="")
    except OSError as problem:
        raise InputError(
            f"{flag} {path}: cannot be written ({problem.strerror}); name another file"
        ) from None
