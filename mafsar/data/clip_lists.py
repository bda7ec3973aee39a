"""Lists of labelled clips in one file, as users and the field write them.

- CSV ``path,label[,start,end]``, with tabs or semicolons too, with or without a header;
- a header with other names of the columns (``file_name,label``, ``video,class``), as the
  ``metadata.csv`` of a Hugging Face video folder;
- ``path label``, where the label may be the number of a class, and ``path frames label``;
- ``path`` alone, where its folder is the class.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mafsar.data.list_paths import PathRule, find_rule
from mafsar.data.tables import read_seconds
from mafsar.documents import LARGEST_LIST, parse_json, read_text, shortened
from mafsar.errors import InputError
from mafsar.files import exists
from mafsar.video.source import is_video

LIST_ENDINGS = frozenset({".csv", ".jsonl", ".list", ".lst", ".tsv", ".txt"})
METADATA = ("metadata.csv", "metadata.jsonl")
"""The list of a Hugging Face video folder, in it."""

_LOOKED_AT = 50  # lines that tell the delimiter
EXPECTED = "path,label[,start][,end]"
_NAMES = {
    "path": "path file file_name filename file_path filepath video video_path video_name clip "
    "clip_path",
    "label": "label class class_name class_label label_name action category activity",
    "start": "start start_time time_start t_start begin",
    "end": "end end_time time_end t_end stop",
}
_COLUMN = {alias: name for name, aliases in _NAMES.items() for alias in aliases.split()}
# Names that count where no column has one of the above.
_OTHER_NAMES = {
    "path": "clip_name video_id clip_id name uri id",
    "label": "activity_label action_label label_text category_name action_name activity_name gesture "
    "verb label_id class_id class_index class_idx label_index category_id action_id target",
}
_OTHER_COLUMN = {alias: name for name, aliases in _OTHER_NAMES.items() for alias in aliases.split()}
_CLASS_FILES = (
    "classInd.txt", "class_ind.txt", "classes.txt", "class_names.txt", "label_map.txt",
    "label_names.txt", "labels.txt", "categories.txt",
)  # fmt: skip


@dataclass(frozen=True)
class ListRow:
    """One line.

    Attributes:
        line: Its number.
        listed: The path as written, with slashes.
        path: Where the clip is or would be.
        exists: Whether it is there.
        label: The class.
        start: First second, or None.
        end: Last second, or None.
    """

    line: int
    listed: str
    path: Path
    exists: bool
    label: str
    start: float | None
    end: float | None


@dataclass(frozen=True)
class ClipList:
    """A list.

    Attributes:
        rows: Its lines, in order.
        notes: How it was read, where that is not plain, one sentence each.
    """

    rows: tuple[ListRow, ...]
    notes: tuple[str, ...]


Row = tuple[int, dict[str, str]]
"""Line number, and cells by column."""


def read_clip_list(table: Path) -> ClipList:
    """Reads a list of labelled clips.

    Raises:
        InputError: It is not UTF-8, or a line or column cannot be read; names the line.
    """
    rows = list(_read_jsonl(table) if table.suffix.lower() == ".jsonl" else _read_text(table))
    labels, notes = _class_names(table, rows)
    rule = find_rule(table.parent, [row["path"] for _, row in rows])
    if rows and "raw" in rows[0][1] and not rule.find(rows[0][1]["path"])[1]:
        raise _unknown_header(table, rows[0][0], rows[0][1]["raw"])
    if rule.note:
        notes.append(f"{table}: {rule.note}")
    return ClipList(tuple(_row(table, line, row, labels, rule) for line, row in rows), tuple(notes))


def metadata_of(folder: Path) -> Path | None:
    """The list of a Hugging Face video folder, or None where there is none."""
    return next((folder / name for name in METADATA if (folder / name).is_file()), None)


def _row(
    table: Path, line: int, row: dict[str, str], labels: dict[str, str], rule: PathRule
) -> ListRow:
    where = f"{table} line {line}"
    if re.match(r"(https?|rtsp|ftp|s3|gs)://", row["path"]):
        raise InputError(
            f"{where}, column path: {row['path']} is on the web; download it, and list the file"
        )
    start, end = (read_seconds(row.get(name, ""), name, where) for name in ("start", "end"))
    if end is not None and end <= (start or 0.0):
        raise InputError(f"{where}: end must be after start, got {start or 0:g} and {end:g}")
    path, exists = rule.find(row["path"])
    label = labels.get(row["label"], row["label"])
    return ListRow(line, row["path"], path, exists, label, start, end)


def _read_text(table: Path) -> Iterator[Row]:
    """The lines of a table with a delimiter, or of a list with spaces."""
    lines = read_text(table, most_bytes=LARGEST_LIST).splitlines()
    first = [line for line in lines if _counts(line)][:_LOOKED_AT]
    # max() keeps the first of equals.
    delimiter = max((",", "\t", ";"), key=lambda mark: sum(mark in line for line in first))
    if not any(delimiter in line for line in first):
        yield from _spaced_rows(table, lines)
        return
    reader = csv.reader(lines, strict=True, delimiter=delimiter)
    try:
        cells = ((reader.line_num, [cell.strip() for cell in row]) for row in reader)
        yield from _table_rows(table, (item for item in cells if _counts("".join(item[1]))))
    except csv.Error as error:
        raise InputError(f"{table} line {reader.line_num}: {error}; expected {EXPECTED}") from error


def _table_rows(table: Path, cells: Iterator[tuple[int, list[str]]]) -> Iterator[Row]:
    order: list[str] = ["path", "label", "start", "end"]
    headed = False
    for number, (line, row) in enumerate(cells):
        if number == 0 and _is_header(table, row):
            order = _columns(row)
            headed = True
            _check_header(table, line, row, order)
            continue
        found = dict(zip(order, row, strict=False))
        if (
            number == 0
            and not 1 < len(row) <= len(order)
            and not any(is_video(cell) for cell in row)
        ):
            raise _unknown_header(table, line, ",".join(row))
        if len(row) > len(order) or not (found.get("path") and found.get("label")):
            lacks = "" if len(row) > len(order) else _lacking(found, headed)
            raise InputError(
                f"{table} line {line}: expected {EXPECTED}, got {','.join(row)}{lacks}"
            )
        found["path"] = found["path"].replace("\\", "/")
        if number == 0 and not PurePosixPath(found["path"]).suffix and "/" not in found["path"]:
            found["raw"] = ",".join(row)  # it may be a header with other names
        yield line, found


def _is_header(table: Path, row: Sequence[str]) -> bool:
    """Whether a first line names columns: it has known names and no clip."""
    known = {"path", "label", "start", "end"}.intersection(_columns(row))
    if not known or any(is_video(cell) for cell in row):
        return False
    return {"path", "label"} <= known or not (row[0] and exists(table.parent / row[0]))


def _columns(names: Sequence[str]) -> list[str]:
    """What each column is: path, label, start or end, else its own name."""
    order = [_COLUMN.get(_plain(name), _plain(name)) for name in names]
    for column in ("path", "label"):
        if column not in order:
            others = [i for i, name in enumerate(order) if _OTHER_COLUMN.get(name) == column]
            if others:
                aliases = _OTHER_NAMES[column].split()
                order[min(others, key=lambda i: aliases.index(order[i]))] = column
    return order


def _check_header(table: Path, line: int, row: Sequence[str], order: Sequence[str]) -> None:
    for column in ("path", "label"):
        if order.count(column) > 1:
            names = " and ".join(
                cell for cell, name in zip(row, order, strict=True) if name == column
            )
            if column in (_plain(cell) for cell in row):
                continue
            raise InputError(
                f"{table} line {line}: the columns {names} could both be the {column}; name one of "
                f"them {column}"
            )
        if column not in order:
            few = ", ".join(_NAMES[column].split()[:4])
            raise InputError(
                f"{table} line {line}: none of the columns {','.join(row)} is the {column}; name it "
                f"{column} (or {few})"
            )


def _unknown_header(table: Path, line: int, text: str) -> InputError:
    return InputError(
        f"{table} line {line}: {shortened(text)} names no clip and is not a known header; expected {EXPECTED}"
    )


def _lacking(found: dict[str, str], headed: bool) -> str:
    column = "path" if not found.get("path") else "label"
    return f" (column {column} is empty)" if headed else ""


def _spaced_rows(table: Path, lines: Sequence[str]) -> Iterator[Row]:
    """``path label``, ``path frames label``, or ``path`` alone; a label may have several words."""
    for line, text in enumerate(lines, start=1):
        if not _counts(text):
            continue
        text = text.strip().replace("\\", "/")
        words = text.split()
        if is_video(text) or (len(words) == 1 and "/" in text):
            label = PurePosixPath(text).parent.name
            if not label:
                raise InputError(
                    f"{table} line {line}: {shortened(text)} names no class; expected {EXPECTED}"
                )
            yield line, {"path": text, "label": label}
        elif len(words) == 1:
            raise _unknown_header(table, line, text)
        else:
            head, label = _after_video(text) or text.rsplit(maxsplit=1)
            before = head.rsplit(maxsplit=1)
            if label.isdecimal() and len(before) == 2 and before[1].isdecimal():
                head = before[0]  # how many frames the clip has
            yield line, {"path": head, "label": label}


def _after_video(text: str) -> tuple[str, str] | None:
    """A line apart behind the last word that ends like a video's name; None where none does."""
    for space in reversed([match.start() for match in re.finditer(r"\s", text)]):
        if is_video(text[:space]):
            path, label = text[:space], text[space:].strip()
            words = label.split()
            numbered = len(words) == 2 and all(word.isdecimal() for word in words)
            return path, words[-1] if numbered else label
    return None


def _read_jsonl(table: Path) -> Iterator[Row]:
    lines = read_text(table, most_bytes=LARGEST_LIST).splitlines()
    for line, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        try:
            value = parse_json(text, "the line")
        except InputError as error:
            raise InputError(f"{table} line {line}: is not a JSON object ({error})") from error
        if not isinstance(value, dict):
            raise InputError(f"{table} line {line}: is not a JSON object, got {shortened(value)}")
        try:
            row = dict(zip(_columns(list(value)), map(str, value.values()), strict=True))
        except (ValueError, RecursionError) as error:  # thousands of digits; nested
            raise InputError(f"{table} line {line}: a value is too large to be text") from error
        for column in ("path", "label"):
            if not row.get(column):
                raise InputError(
                    f"{table} line {line}: no key is the {column}; name it {column} (or "
                    f"{', '.join(_NAMES[column].split()[:4])})"
                )
        yield line, row


def _class_names(table: Path, rows: Sequence[Row]) -> tuple[dict[str, str], list[str]]:
    """The names of classes that a list gives by number: from a file beside it, or the folders."""
    numbers = {row["label"] for _, row in rows}
    if not numbers or not all(number.isdecimal() for number in numbers):
        return {}, []
    for name in _CLASS_FILES:
        path = table.parent / name
        if path.is_file() and path != table:
            names = _read_class_file(path, {int(number) for number in numbers})
            if names is not None:
                return names, []
    if "," in read_text(table, most_bytes=LARGEST_LIST).partition("\n")[0]:
        return {}, []
    folders = {number: set[str]() for number in numbers}
    for _, row in rows:
        folders[row["label"]].add(PurePosixPath(row["path"]).parent.name)
    single = {number: next(iter(names)) for number, names in folders.items() if len(names) == 1}
    if len(single) == len(numbers) == len(set(single.values())) and "" not in single.values():
        return single, []
    few = ", ".join(_CLASS_FILES[:3])
    return {}, [f"{table}: classes have only numbers; a file {few} beside it would name them"]


def _read_class_file(path: Path, numbers: set[int]) -> dict[str, str] | None:
    """Names by number, of lines ``number name`` or of one name a line; None where they do not fit."""
    lines = [line.strip() for line in read_text(path, any_bytes=True).splitlines()]
    lines = [line for line in lines if line]
    counted = [re.fullmatch(r"(\d+)[\s,;:]+(\S.*)", line) for line in lines]
    if all(counted):
        names = {int(match[1]): match[2] for match in counted if match is not None}
    else:
        first = 1 if 0 not in numbers and max(numbers) == len(lines) else 0
        names = dict(enumerate(lines, start=first))
    return {str(n): names[n] for n in numbers} if numbers <= set(names) else None


def _plain(cell: str) -> str:
    return re.sub(r"[\s-]+", "_", cell.strip().lower())


def _counts(line: str) -> bool:
    """Whether a line is neither empty nor a comment."""
    text = line.strip()
    return bool(text.strip(",;\t ")) and not text.startswith("#")
