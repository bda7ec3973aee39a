"""Files of a rendered data set: its tables, and the manifest that marks it as one."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from mafsar.data.splits import PARTS
from mafsar.errors import InputError
from mafsar.files import foreign_entry
from mafsar.synthetic.actions.classes import action
from mafsar.synthetic.sets.recipe import Recipe

MANIFEST = "synth.json"
_OWN = (
    r"(support/)?((labels|captions)\.csv|(split|synth)\.json|[a-z0-9_]+/clip-\d+\.mp4)"
    r"|streams/stream-\d+\.(mp4|csv)"
)
"""Files of a rendered data set, also those that a killed run leaves, by their path in it."""


def clear(folder: Path) -> None:
    """Remove a data set that was rendered before; refuse a folder of anything else.

    Raises:
        InputError: The folder holds something other than a rendered data set, or more than that.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / MANIFEST).is_file():
        raise InputError(
            f"{folder}: holds something other than a rendered data set; name another folder"
        )
    foreign = foreign_entry(folder, _OWN)
    if foreign is not None:
        raise InputError(
            f"{folder}: holds {foreign!r}, which was not rendered, so it is not replaced; move it, or "
            "name another folder"
        )
    shutil.rmtree(folder)


def write_tables(folder: Path, names: Sequence[str]) -> None:
    """Write ``labels.csv`` and ``split.json`` of classes."""
    with open_csv(folder / "labels.csv", ("folder", "text")) as add:
        for name in names:
            add((name, action(name).text))
    parts: dict[str, object] = {
        part: [name for name in names if action(name).split == part] for part in PARTS
    }
    _write_json(folder / "split.json", parts)


def write_manifest(folder: Path, recipe: Recipe) -> None:
    """Write the recipe of a data set, which also marks the folder as one."""
    _write_json(folder / MANIFEST, {"schema": 1, **asdict(recipe)})


@contextmanager
def open_csv(path: Path, header: Sequence[str]) -> Iterator[Callable[[Sequence[object]], None]]:
    """Write a table with a header, UTF-8; gives a function that adds a row and flushes the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")

        def add(row: Sequence[object]) -> None:
            writer.writerow(row)
            file.flush()

        add(header)
        yield add


def _write_json(path: Path, value: Mapping[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
