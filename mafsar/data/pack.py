"""Decodes a data set once into a store; a kill at any moment loses about a second of work."""

from __future__ import annotations

import io
import json
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from mafsar.choices import Progress
from mafsar.data.catalogue import Catalogue
from mafsar.data.labelled import LabelledClip
from mafsar.data.parallel import in_order
from mafsar.data.store import StoreSettings, is_store, settings_json
from mafsar.data.store_file import APPLICATION_ID, SCHEMA, TABLES, Reader
from mafsar.errors import InputError, MafsarError, MismatchError, option
from mafsar.video import load_raw_clip

COMMIT_SECONDS = 1.0
"""Seconds between commits: what a kill may lose. A commit waits for the disk."""

MISSING = "missing"
"""`clips.problem` of a clip that was not found."""


@dataclass(frozen=True)
class PackResult:
    """The result of packing.

    Attributes:
        path: The store.
        packed: Clips decoded by this call.
        kept: Clips that were in the store before.
        unreadable: Clips that cannot be decoded, with the reason.
        missing: Clips that lists name but that were not found.
        repairs: What was repaired in reading clips of this call: name and sentences.
        frames: Frames in the store.
        size_bytes: Of the store.
        seconds: Wall time.
    """

    path: Path
    packed: int
    kept: int
    unreadable: tuple[tuple[str, str], ...]
    missing: tuple[str, ...]
    frames: int
    size_bytes: int
    seconds: float
    repairs: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass(frozen=True)
class _Packed:
    """The frames of one clip, or the reason why it has no frames."""

    clip: LabelledClip
    jpegs: Sequence[bytes] = ()
    shown: Sequence[int] = ()
    duration_seconds: float = 0.0
    fps: float | None = None
    problem: str | None = None
    repairs: tuple[str, ...] = ()


def pack(
    catalogue: Catalogue,
    path: Path,
    settings: StoreSettings | None = None,
    *,
    workers: int = 2,
    progress: Progress | None = None,
) -> PackResult:
    """Decodes every clip that is not in the store yet.

    An existing store of the same classes and settings is continued: its clips are kept, and clips
    that were missing or unreadable are tried again.

    Args:
        catalogue: The data set.
        path: The store; created if it does not exist.
        settings: Which frames are kept, and how.
        workers: Threads that decode.
        progress: Called with (done, total, what).

    Raises:
        InputError: The path is a file of another kind, or another process is packing into it.
        MismatchError: The store was packed with other settings or from other data.
    """
    settings = settings or StoreSettings()
    began = time.perf_counter()
    with _opened(path) as connection:
        if _is_new(connection):
            _begin(connection, catalogue, settings)
        else:
            _check_same(path, connection, catalogue, settings)
        reader = Reader(path, connection)
        classes = {label: number for number, label, _, _ in reader.classes()}
        held = reader.clips(settings.frames)
        done = {(row.class_id, row.name) for row in held if row.problem is None}
        reader.release()
        waiting = [clip for clip in catalogue.clips if (classes[clip.label], clip.name) not in done]
        connection.execute("UPDATE meta SET value = '0' WHERE key = 'complete'")
        unreadable, repairs = _fill(connection, classes, waiting, settings, workers, progress)
        connection.execute("BEGIN")
        for clip in catalogue.missing:
            _insert(connection, classes, settings, _Packed(clip, problem=MISSING))
        connection.execute("UPDATE meta SET value = '1' WHERE key = 'complete'")
        connection.execute("COMMIT")
        ((frames,),) = Reader(path, connection).rows("SELECT count(*) FROM frames")
    return PackResult(
        path=path,
        packed=len(waiting) - len(unreadable),
        kept=len(done),
        unreadable=tuple(unreadable),
        missing=tuple(clip.name for clip in catalogue.missing),
        frames=frames,
        size_bytes=path.stat().st_size,
        seconds=time.perf_counter() - began,
        repairs=tuple(repairs),
    )


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Opens a store for one writer."""
    if path.is_dir() or (path.exists() and path.stat().st_size and not is_store(path)):
        raise InputError(f"{path}: exists and is not a packed data set; name another file")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        connection = sqlite3.connect(path, isolation_level=None, timeout=0.0)
    except sqlite3.Error as error:
        raise InputError(f"{path}: cannot be opened ({error}); name another file") from error
    try:
        # Held until closed: a second packer must fail at once and never write in between.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute("COMMIT")
        yield connection
    except sqlite3.Error as error:
        raise InputError(
            f"{path}: {error}; is another mafsar data pack running, or is the disk full?"
        ) from error
    finally:
        connection.close()


def _is_new(connection: sqlite3.Connection) -> bool:
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return bool(tables == 0)


def _begin(connection: sqlite3.Connection, catalogue: Catalogue, settings: StoreSettings) -> None:
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {SCHEMA}")
    facts = {
        "title": Path(catalogue.title).name,  # a store travels: of a folder's path, its name alone
        "preset": catalogue.preset.name if catalogue.preset else "",
        "settings": settings_json(settings),
        "complete": "0",
    }
    connection.execute("BEGIN")
    for statement in TABLES.split(";"):
        connection.execute(statement)
    connection.executemany("INSERT INTO meta VALUES (?, ?)", facts.items())
    connection.executemany(
        "INSERT INTO classes(label, text, part) VALUES (?, ?, ?)",
        [(item.label, item.text, item.part) for item in catalogue.classes],
    )
    connection.execute("COMMIT")


def _check_same(
    path: Path, connection: sqlite3.Connection, catalogue: Catalogue, settings: StoreSettings
) -> None:
    """Raises if the store was packed with other settings or from other data."""
    remedy = ("name another file, or replace this one with ", option(overwrite=True))
    reader = Reader(path, connection)
    meta = reader.meta()
    if meta["settings"] != settings_json(settings):
        packed, now = asdict(StoreSettings(**json.loads(meta["settings"]))), asdict(settings)
        shown = [name for name in now if packed[name] is not None or now[name] is not None]
        raise MismatchError(
            f"{path}: was packed with ",
            option(**{name: packed[name] for name in shown}),
            ", not ",
            option(**{name: now[name] for name in shown}),
            "; use the same settings, ",
            *remedy,
        )
    classes = reader.classes()
    held = [row[1:] for row in classes]
    here = [(item.label, item.text, item.part) for item in catalogue.classes]
    if held != here:
        raise MismatchError(
            f"{path}: was packed from other classes ({meta['title']}, {len(held)} classes; "
            f"now {len(here)} of {catalogue.title}); ",
            *remedy,
        )
    names = {(clip.label, clip.name) for clip in catalogue.clips}
    label_of = {number: label for number, label, _, _ in classes}
    unknown = [
        row.name
        for row in reader.clips(settings.frames)
        if row.problem is None and (label_of.get(row.class_id), row.name) not in names
    ]
    if unknown:
        raise MismatchError(
            f"{path}: holds {len(unknown)} clips that are not in {catalogue.root} "
            f"({unknown[0]}); check that path, ",
            *remedy,
        )


def _fill(
    connection: sqlite3.Connection,
    classes: dict[str, int],
    waiting: Sequence[LabelledClip],
    settings: StoreSettings,
    workers: int,
    progress: Progress | None,
) -> tuple[list[tuple[str, str]], list[tuple[str, tuple[str, ...]]]]:
    """Decodes in threads and writes in this one; commits every second and when interrupted.

    Returns:
        The clips that cannot be decoded with the reason, and those that were repaired.
    """
    unreadable: list[tuple[str, str]] = []
    repairs: list[tuple[str, tuple[str, ...]]] = []
    results = in_order(lambda clip: _pack_clip(clip, settings), waiting, workers=workers)
    connection.execute("BEGIN")
    committed = time.monotonic()
    try:
        for done, packed in enumerate(results, start=1):
            _insert(connection, classes, settings, packed)
            if packed.problem:
                unreadable.append((packed.clip.name, packed.problem))
            if packed.repairs:
                repairs.append((packed.clip.name, packed.repairs))
            if time.monotonic() - committed > COMMIT_SECONDS:
                connection.execute("COMMIT")
                connection.execute("BEGIN")
                committed = time.monotonic()
            if progress is not None:
                progress(done, len(waiting), f"packing {packed.clip.label}")
    finally:
        results.close()
        if connection.in_transaction:
            connection.execute("COMMIT")
    return unreadable, repairs


def _insert(
    connection: sqlite3.Connection,
    classes: dict[str, int],
    settings: StoreSettings,
    packed: _Packed,
) -> None:
    where = (classes[packed.clip.label], packed.clip.name)
    connection.execute("DELETE FROM clips WHERE class = ? AND name = ?", where)
    cursor = connection.execute(
        "INSERT INTO clips(class, name, duration_seconds, fps, frames, problem) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        (
            *where,
            packed.duration_seconds,
            packed.fps,
            json.dumps(list(packed.shown)),
            packed.problem,
        ),
    )
    assert cursor.lastrowid is not None
    first = cursor.lastrowid * settings.frames
    connection.executemany(
        "INSERT OR REPLACE INTO frames VALUES (?, ?)",
        [(first + number, jpeg) for number, jpeg in enumerate(packed.jpegs)],
    )


def _pack_clip(clip: LabelledClip, settings: StoreSettings) -> _Packed:
    """Decodes and compresses one clip; an error becomes part of the result."""
    assert clip.path is not None
    try:
        raw = load_raw_clip(
            clip.path,
            frames=settings.frames,
            short_side=settings.short_side,
            start=clip.start,
            end=clip.end,
            threads=1,
            ignore_clock=settings.ignore_clock,
        )
    except MafsarError as error:
        return _Packed(clip, problem=str(error))
    jpegs: list[bytes] = []
    shown: list[int] = []
    for number, pixels in enumerate(raw.frames):
        again = number > 0 and raw.times_seconds[number] == raw.times_seconds[number - 1]
        if not again:
            jpegs.append(_jpeg(pixels, settings.quality))
        shown.append(len(jpegs) - 1)
    return _Packed(clip, jpegs, shown, raw.duration_seconds, raw.fps, repairs=raw.repairs)


def _jpeg(pixels: np.ndarray, quality: int) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
