"""Groups of clips, as the persons in them, from a CSV with the columns ``path`` and ``group``."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from mafsar.documents import LARGEST_LIST, read_text
from mafsar.errors import InputError, MissingError
from mafsar.files import exists


def read_groups(path: Path, clips: Sequence[Path]) -> list[str]:
    """Reads the group of each clip.

    Args:
        path: The CSV, UTF-8, with a header; its paths are absolute or relative to its folder.
        clips: Paths of the clips.

    Returns:
        One group per clip.

    Raises:
        MissingError: There is no such file.
        InputError: It lacks a column, a clip, or names a clip in two groups.
    """
    if not exists(path):
        raise MissingError(f"{path}: no such file of groups")
    stream = io.StringIO(read_text(path, most_bytes=LARGEST_LIST), newline="")
    try:
        rows = csv.DictReader(stream)
        missing = {"path", "group"} - set(rows.fieldnames or ())
        if missing:
            raise InputError(
                f"{path}: no column {min(missing)}; the header should be path,group, found "
                f"{','.join(rows.fieldnames or ()) or 'nothing'}"
            )
        found: dict[Path, str] = {}
        for row in rows:
            if "\0" in (row["path"] or ""):
                raise InputError(f"{path}: line {rows.line_num}: a path has no NUL in it")
            clip = (path.parent / (row["path"] or "")).resolve()
            group = (row["group"] or "").strip()
            if not group:
                raise InputError(f"{path}: line {rows.line_num}: {row['path']} has no group")
            if found.setdefault(clip, group) != group:
                raise InputError(
                    f"{path}: line {rows.line_num}: {row['path']} is in {found[clip]} and {group}"
                )
    except csv.Error as error:
        raise InputError(f"{path}: cannot be read as a CSV of groups ({error})") from error
    without = [clip for clip in clips if clip.resolve() not in found]
    if without:
        more = f" and {len(without) - 1} more" if len(without) > 1 else ""
        raise InputError(f"{path}: has no group for {without[0]}{more}; add a row for each clip")
    return [found[clip.resolve()] for clip in clips]
