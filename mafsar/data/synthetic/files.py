"""Files of a rendered data set: tables, the mark that it is one, and processes that fill it."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

from mafsar.data.splits import PARTS
from mafsar.data.synthetic.actions import action
from mafsar.data.synthetic.recipe import Recipe
from mafsar.errors import InputError

MANIFEST = "synth.json"
Job = TypeVar("Job")
Result = TypeVar("Result")


def clear(folder: Path) -> None:
    """Remove a data set that was rendered before; a folder of other things is refused.

    Raises:
        InputError: Something lies there that is no rendered data set.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / MANIFEST).is_file():
        raise InputError(
            f"{folder}: holds other things than a rendered data set; name another folder"
        )
    shutil.rmtree(folder)


def spread(
    function: Callable[[Job], Result], jobs: Sequence[Job], workers: int | None
) -> Iterator[Result]:
    """Run jobs in processes, in order; in this one where there is one worker or one job."""
    count = min(len(jobs), workers or os.cpu_count() or 1)
    if count <= 1:
        yield from map(function, jobs)
        return
    # Spawned, not forked: the caller may have threads.
    pool = ProcessPoolExecutor(count, mp_context=get_context("spawn"))
    try:
        yield from pool.map(function, jobs)
    finally:
        pool.shutdown(cancel_futures=True)


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
    """Write how a data set is made, which also marks the folder as one."""
    _write_json(folder / MANIFEST, {"schema": 1, **asdict(recipe)})


@contextmanager
def open_csv(path: Path, header: Sequence[str]) -> Iterator[Callable[[Sequence[object]], None]]:
    """Write a table with a head line, UTF-8; gives what adds a row, which is in the file at once."""
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
