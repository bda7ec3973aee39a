"""Where results go: stdout or a file, JSON Lines, CSV; existing outputs are refused."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from mafsar.errors import InputError


def refuse_existing(paths: Mapping[str, Path | None], overwrite: bool) -> None:
    """Stops before any work where an output exists and ``--overwrite`` was not given.

    Args:
        paths: Output by flag. A folder counts as existing where something lies in it.
        overwrite: The user's ``--overwrite``.
    """
    for flag, path in paths.items():
        if path is None or overwrite:
            continue
        if path.is_file() or (path.is_dir() and any(path.iterdir())):
            raise InputError(f"{flag} {path}: exists already; add --overwrite (-y) to replace it")


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
    """The stream for results: stdout, or the file of ``--out``."""
    if path is None:
        yield sys.stdout
        return
    refuse_existing({"--out": path}, overwrite)
    with _open("--out", path) as file:
        yield file


def print_json(stream: TextIO, value: Mapping[str, Any]) -> None:
    """One JSON object on one line, at once; a NaN would be a bug and raises."""
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
        self._file = _open("--csv", path)
        self._writer = csv.DictWriter(self._file, columns, restval="")
        self._writer.writeheader()

    def write(self, row: Mapping[str, Any]) -> None:
        """Writes one row at once; None is an empty cell."""
        self._writer.writerow({k: "" if v is None else v for k, v in row.items()})
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def _open(flag: str, path: Path) -> TextIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("w", encoding="utf-8", errors="surrogateescape", newline="")
    except OSError as problem:
        raise InputError(
            f"{flag} {path}: cannot be written ({problem.strerror}); name another file"
        ) from None
