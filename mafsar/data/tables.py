"""CSV tables that users write: read as UTF-8, with or without a header."""

from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mafsar.data.labels import nfc
from mafsar.documents import LARGEST_LIST, read_text, shortened
from mafsar.errors import InputError


def read_rows(
    path: Path, columns: Sequence[str], *, required: int
) -> Iterator[tuple[int, dict[str, str]]]:
    """Reads a CSV row by row; a header, if there is one, sets the order of the columns.

    Args:
        path: The table. Empty lines and lines that start with ``#`` are skipped.
        columns: Names, in the order that applies without a header.
        required: How many of the first columns must not be empty.

    Yields:
        Line number, and the row by column; cells that are left out are empty.

    Raises:
        InputError: The file is not UTF-8 or not CSV, or a line lacks a required cell.
    """
    expected = ",".join(columns[:required]) + "".join(f"[,{name}]" for name in columns[required:])
    order = list(columns)
    text = read_text(path, most_bytes=LARGEST_LIST)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        first = True
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            if not any(cells) or cells[0].startswith("#"):
                continue
            header, first = first, False
            if header and {cell.lower() for cell in cells} >= set(columns[:required]):
                order = [cell.lower() for cell in cells]
                continue
            row = dict.fromkeys(columns, "") | dict(zip(order, cells, strict=False))
            if len(cells) > len(order) or not all(row[name] for name in columns[:required]):
                raise InputError(
                    f"{path} line {reader.line_num}: expected {expected}, got {','.join(cells)}"
                )
            yield reader.line_num, row
    except csv.Error as error:
        raise InputError(f"{path} line {reader.line_num}: {error}; expected {expected}") from error


def unknown_header(table: Path, row: Mapping[str, str], what: str, columns: str) -> InputError:
    """The error for a first line that is neither a row nor a known header.

    Args:
        table: The table.
        row: Its first line, read as a row.
        what: What each row names, as "clip".
        columns: The expected header.
    """
    line = ",".join(cell for cell in row.values() if cell)
    return InputError(
        f"{table} line 1: {shortened(line)} names no {what} and is not a known header; expected {columns}"
    )


def read_seconds(value: str, name: str, where: str) -> float | None:
    """Reads a cell of seconds ≥ 0; empty is None.

    Raises:
        InputError: The cell is not a number ≥ 0; the message starts with ``where``.
    """
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0.0 <= seconds < float("inf"):
        raise InputError(f"{where}: {name} must be seconds ≥ 0, got {shortened(value)}")
    return seconds


def read_texts(table: Path, labels: Mapping[str, str]) -> dict[str, str]:
    """Reads a table `folder,text`: what the text tower reads for a class.

    Args:
        table: Usually ``labels.csv``; it need not exist.
        labels: The classes' labels by NFC label.

    Returns:
        Texts by NFC label; empty if there is no such file.

    Raises:
        InputError: A line names an unknown class, or cannot be read.
    """
    if not table.is_file():
        return {}
    texts: dict[str, str] = {}
    for line, row in read_rows(table, ("folder", "text"), required=2):
        key = nfc(row["folder"])
        if key not in labels:
            near = difflib.get_close_matches(key, labels, 1)
            if line == 1 and not near:
                raise unknown_header(table, row, "class", "folder,text")
            hint = f"did you mean {labels[near[0]]!r}?" if near else "remove the line"
            raise InputError(f"{table} line {line}: no class {shortened(row['folder'])}; {hint}")
        texts[key] = row["text"]
    return texts
