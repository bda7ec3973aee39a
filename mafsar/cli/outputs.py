"""Where results go: stdout or a file, JSON Lines, CSV; existing outputs are refused."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from mafsar.cli import targets, voice
from mafsar.errors import InputError, MafsarError
from mafsar.files import written_beside
from mafsar.plain import plain_json


def say_written(*paths: Path | None) -> None:
    """Prints on stderr which files were written; None stands for a file that was not asked for."""
    for path in paths:
        if path is not None:
            voice.note(f"wrote {path}")


def make_folder(flag: str, path: Path) -> Path:
    """Makes an output folder, in a folder that exists or is the only other one that does not."""
    targets.refuse_places([(flag, path)])
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise InputError(
            f"{flag} {path}: cannot make this folder ({problem.strerror}); name another"
        ) from None
    return path


@contextmanager
def results_to(path: Path | None, *, overwrite: bool, flag: str = "--out") -> Iterator[TextIO]:
    """The stream for results: stdout, or the file of ``--out``, named on stderr at the end.

    The file is written beside its place and renamed at the end, after an interrupt or an error too
    where anything has been written; not where the disk is full.
    """
    if path is None:
        yield sys.stdout
        return
    if not overwrite:
        targets.refuse_existing({flag: path})
    output = OutputFile(flag, path, overwrite=overwrite)
    try:
        yield output.stream
    except BaseException:
        output.end(keep=output.has_content)
        raise
    if output.end(keep=True):
        say_written(path)


def print_json(stream: TextIO, value: Mapping[str, Any]) -> None:
    """One JSON object on one line, at once; a NaN is a bug and raises."""
    line = json.dumps(value, ensure_ascii=False, allow_nan=False)
    try:
        line.encode(getattr(stream, "encoding", None) or "utf-8")
    except UnicodeEncodeError:  # a terminal that is not UTF-8, a file name that is not text
        line = json.dumps(value, ensure_ascii=True, allow_nan=False)
    stream.write(f"{plain_json(line)}\n")
    stream.flush()


class CsvWriter:
    """A CSV whose columns are the JSON's names, nested ones joined by dots."""

    def __init__(self, path: Path, columns: list[str], *, overwrite: bool) -> None:
        self._path = path
        self._output = OutputFile("--csv", path, overwrite=overwrite)
        self._writer = csv.DictWriter(self._output.stream, columns, restval="")
        self._writer.writeheader()

    def write(self, row: Mapping[str, Any]) -> None:
        """Writes one row at once; None is an empty cell."""
        self._writer.writerow({k: "" if v is None else v for k, v in row.items()})
        self._output.stream.flush()

    def close(self) -> None:
        """Puts the file in place and names it on stderr."""
        if self._output.end(keep=True):
            say_written(self._path)


class OutputFile:
    """A text file that is written beside its place and renamed when it is closed.

    Args:
        flag: What asked for it, for messages.
        path: Its place; the folder is made where only the last part of it is missing.
        overwrite: Whether an existing file may be replaced.
    """

    def __init__(self, flag: str, path: Path, *, overwrite: bool) -> None:
        self._beside = written_beside(path, exclusive=not overwrite)
        self._say = f"{flag} {path}"
        with self._named():
            self._file = self._beside.__enter__().open("wb", buffering=0)
        self._open = True
        self.stream: TextIO = _Checked(self._file, self)

    @property
    def has_content(self) -> bool:
        """Whether anything has been written, and no write has failed."""
        return self._open and self.stream.tell() > 0

    def end(self, *, keep: bool) -> bool:
        """Puts the file in place, or removes it; False where that has been done before."""
        if not self._open:
            return False
        if not keep:
            self._drop()
            return True
        with self._named():
            self.stream.flush()
            self._open = False
            self.stream.close()
            self._beside.__exit__(None, None, None)
        return True

    def failed(self, problem: OSError) -> InputError:
        """The error to raise where a write has failed; nothing is left behind."""
        self._drop()
        return InputError(f"{self._say}: cannot be written ({problem.strerror}); name another file")

    def _drop(self) -> None:
        self._open = False
        self._file.close()  # what is buffered above it is lost, as it should be
        with contextlib.suppress(OSError):
            self._beside.__exit__(OSError, OSError(), None)

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OSError as problem:
            if isinstance(problem, MafsarError):
                raise
            raise InputError(
                f"{self._say}: cannot be written ({problem.strerror}); name another file"
            ) from None


class _Checked(io.TextIOWrapper):
    """A text stream whose failed writes name the file and what asked for it."""

    def __init__(self, file: Any, output: OutputFile) -> None:
        super().__init__(
            io.BufferedWriter(file), encoding="utf-8", errors="surrogateescape", newline=""
        )
        self._output = output

    def write(self, text: str) -> int:
        """Writes a text, or raises an InputError that names the file."""
        try:
            return super().write(text)
        except OSError as problem:
            raise self._output.failed(problem) from None

    def flush(self) -> None:
        """Flushes, or raises an InputError that names the file."""
        try:
            super().flush()
        except OSError as problem:
            raise self._output.failed(problem) from None

    def close(self) -> None:
        """Closes; what a failed write has left in the buffer goes nowhere."""
        with contextlib.suppress(OSError, ValueError):
            super().close()
