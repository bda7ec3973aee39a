"""Making an index on one machine: decoders and encoders in threads, finished file by file.

Each file becomes a part of its own as soon as it is encoded (`parts`), so a kill loses at most the
files in flight. When all are there the parts become shards in the order of the files that were
named, so that the index is the same, bit for bit, whoever made which part.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mafsar.choices import Progress
from mafsar.errors import InputError, option
from mafsar.files import foreign_entry, locked
from mafsar.runtime.archive.coarse import add_coarse
from mafsar.runtime.archive.encode import FileEncoder
from mafsar.runtime.archive.manifest import (
    MANIFEST,
    Manifest,
    ShardEntry,
    Source,
    as_text,
    read_manifest,
    read_sources,
    write_sources,
)
from mafsar.runtime.archive.parts import (
    PARTS,
    FileRecord,
    Windows,
    features_buffer,
    read_part,
    read_record,
    read_windows,
    table_buffer,
    times_table,
)
from mafsar.runtime.archive.settings import IndexSettings
from mafsar.runtime.archive.store import Store
from mafsar.runtime.encoder import Encoder
from mafsar.video.live.place import Place

SHARD_WINDOWS = 65536
SHARD_BYTES = 256 << 20
"""A shard has at most so many windows, and bytes of features."""
# The names of an index's files but for its manifest, and of its parts.
_SHARD = r"windows-(\d{5,})\.parquet"
_OWN = rf"{_SHARD}|sources-\d{{5,}}b?\.parquet|(features|coarse)-\d{{5,}}\.arrow|coarse-basis\.npy"
_OWN_PART = r"[0-9a-f]{64}\.(arrow|parquet)"
_OWN_REMAINS = r"\.[\w.-]+\.\d+-[0-9a-f]{8}\.part"  # of a killed writer, see `written_beside`

Heard = Callable[[str, FileRecord], None]
"""Called with the name of each file and what is known of it, in the order of the files."""
RunFiles = Callable[[FileEncoder, Sequence[str]], Iterable[tuple[str, FileRecord]]]
"""Encodes files, and yields each path with its record, in any order."""


@dataclass(frozen=True)
class IndexReport:
    """What `build_index` did.

    Attributes:
        sources: All files of the index.
        windows: How many windows the index has.
        new: Files that this call encoded or found to be unreadable.
        known: Files that were in the index before.
    """

    sources: tuple[Source, ...]
    windows: int
    new: int
    known: int

    @property
    def failed(self) -> tuple[Source, ...]:
        """Files that cannot be read."""
        return tuple(each for each in self.sources if each.record.error is not None)


def build_index(
    store: Store,
    settings: IndexSettings,
    encoder: Encoder,
    places: Sequence[Place],
    *,
    workers: int = 2,
    resume: bool = False,
    overwrite: bool = False,
    heard: Heard | None = None,
    progress: Progress | None = None,
    run: RunFiles | None = None,
    waiting: Callable[[], None] = lambda: None,
) -> IndexReport:
    """Encodes files into an index, and goes on with one that was interrupted.

    Args:
        store: Where the index lies.
        settings: Of the index.
        encoder: Its encoder.
        places: Files and frame folders; cameras and streams have no end.
        workers: Files that are read and encoded side by side.
        resume: Add files to a finished index; an unfinished one is gone on with in any case. A name
            that comes back with other content takes the place of what it stood for.
        overwrite: Make the index again where there is one.
        heard: Called with each file, as soon as it and those before it are done.
        progress: Called with (files done, files, "indexing").
        run: Encodes the files in another way; None = in threads.
        waiting: Called once when another process is making the index.

    Raises:
        InputError: A place is not a file, the index exists and neither `resume` nor `overwrite`, or
            what is to be replaced holds other files too.
        MismatchError: The index was made with other settings.
    """
    if workers < 1:
        raise InputError(option(workers=workers), ": must be at least 1")
    for place in places:
        if place.kind != "file":
            raise InputError(f"{place.name}: an index is made of files; record it first")
    with _lock(store, waiting):
        manifest = _opened(store, settings, resume=resume, overwrite=overwrite)
        before = read_sources(store, manifest)
        known = [each.record for each in before if each.record.error is None]
        known += [
            read_record(store, name) for name in store.names(PARTS) if name.endswith(".parquet")
        ]
        work = FileEncoder(store, settings, encoder, known)
        named: dict[str, list[str]] = {}
        for place in places:
            named.setdefault(str(place.where), []).append(place.name)
        found: dict[str, FileRecord] = {}
        unheard = deque(named)
        for path, record in (run or run_in_threads(workers))(work, list(named)):
            found[path] = record
            if progress is not None:
                progress(len(found), len(named), "indexing")
            while unheard and unheard[0] in found:
                first = unheard.popleft()
                if heard is not None:
                    heard(named[first][0], found[first])
        pairs = [(name, found[path]) for path, names in named.items() for name in names]
        sources, fresh = _merge(before, pairs)
        manifest = _finish(store, manifest, before, sources, fresh)
    old = {record.content_sha256 for record in known}
    new = sum(record.content_sha256 not in old for record in found.values())
    return IndexReport(tuple(sources), manifest.windows, new, len(found) - new)


def run_in_threads(workers: int) -> RunFiles:
    """Encodes files in threads of this process; each has one more that decodes ahead.

    Where it ends early, as by Ctrl-C, no file is encoded further than its next batch.

    Args:
        workers: Files side by side.
    """

    def run(work: FileEncoder, paths: Sequence[str]) -> Iterator[tuple[str, FileRecord]]:
        pool = ThreadPoolExecutor(workers, thread_name_prefix="mafsar-index")
        stopped = threading.Event()
        try:
            waiting = {pool.submit(work, path, stopped): path for path in paths}
            for done in as_completed(waiting):
                yield waiting[done], done.result()
        finally:
            stopped.set()
            pool.shutdown(wait=True, cancel_futures=True)

    return run


def _lock(store: Store, waiting: Callable[[], None]) -> AbstractContextManager[None]:
    folder = store.folder
    if folder is None:
        return nullcontext()
    return locked(folder.resolve(), waiting=waiting)


def _opened(store: Store, settings: IndexSettings, *, resume: bool, overwrite: bool) -> Manifest:
    """The manifest of an index that is begun, gone on with, or made again."""
    if not store.exists(MANIFEST):
        if store.names() or store.names(PARTS):
            raise InputError(f"{store.place}: not empty and not an index; name another folder")
        manifest = Manifest(settings)
        manifest.write(store)
        return manifest
    if overwrite:
        read_manifest(store)  # only an index is removed
        foreign = _foreign(store)
        if foreign is not None:
            raise InputError(
                f"{store.place}: holds {foreign!r}, which no index has, so it is not replaced; move it, "
                "or name another folder"
            )
        _remove_parts(store)  # first: they would count as made with the new settings
        manifest = Manifest(settings)
        manifest.write(store)
        _sweep(store, manifest)
        return manifest
    manifest = read_manifest(store)
    if manifest.complete and not resume:
        raise InputError(
            f"{store.place}: a finished index exists; add files to it with ",
            option(resume=True),
            ", or replace it with ",
            option(overwrite=True),
        )
    manifest.settings.check_same(settings, store.place)
    _sweep(store, manifest)
    return manifest


def _foreign(store: Store) -> str | None:
    """The first file in the folder that no index writes, or None."""
    own = rf"{re.escape(MANIFEST)}|{_OWN}|{PARTS}/{_OWN_PART}|({PARTS}/)?{_OWN_REMAINS}"
    if store.folder is not None:
        return foreign_entry(store.folder, own)
    names = [*store.names(), *(f"{PARTS}/{name}" for name in store.names(PARTS))]
    return next((name for name in names if not re.fullmatch(own, name)), None)


def _sweep(store: Store, manifest: Manifest) -> None:
    """Removes what earlier calls have left: files of an index that its manifest does not name.

    They are not removed when they are superseded: a search that is under way may read them still.
    """
    named = {manifest.sources, manifest.basis}
    for shard in manifest.shards:
        named |= {shard.table, shard.features, shard.coarse}
    for name in store.names():
        if name not in named and re.fullmatch(_OWN, name):
            store.remove(name)


def _remove_parts(store: Store) -> None:
    for part in store.names(PARTS):
        if re.fullmatch(_OWN_PART, part):
            store.remove(f"{PARTS}/{part}")
    store.remove_folder(PARTS)


def _merge(
    before: Sequence[Source], pairs: Sequence[tuple[str, FileRecord]]
) -> tuple[list[Source], list[FileRecord]]:
    """The files of the index from now on, and those whose windows are not in its shards yet.

    A file that was there keeps its place, by which the shards know it. One that comes back with
    other content takes the place of the old one; one that cannot be read now stays as it was.
    """
    sources = list(before)
    place = {each.name: number for number, each in enumerate(before)}
    for name, record in pairs:
        number = place.setdefault(as_text(name), len(sources))
        if number == len(sources):
            sources.append(Source(name, record))
        elif record.error is None or sources[number].record.error is not None:
            sources[number] = Source(name, record)
    owned = _owners(before)
    owner = {
        content: number
        for content, number in owned.items()
        if sources[number].record.content_sha256 == content
    }
    for number, each in enumerate(sources):
        if each.record.error is None:
            owner.setdefault(each.record.content_sha256, number)
    for number, each in enumerate(sources):
        first = owner.get(each.record.content_sha256, number)
        sources[number] = replace(each, same_as=None if first == number else sources[first].name)
    return sources, [
        sources[number].record for content, number in owner.items() if content not in owned
    ]


def _owners(sources: Sequence[Source]) -> dict[str, int]:
    """For each content the number of the file that its windows stand under."""
    return {
        each.record.content_sha256: number
        for number, each in enumerate(sources)
        if each.same_as is None and each.record.error is None
    }


def _finish(
    store: Store,
    manifest: Manifest,
    before: Sequence[Source],
    sources: Sequence[Source],
    fresh: Sequence[FileRecord],
) -> Manifest:
    """Makes shards of the new parts; the index is complete when its manifest is replaced."""
    number = _owners(sources)
    settings = manifest.settings
    shards: list[ShardEntry] = []
    taken = [re.fullmatch(_SHARD, entry.table) for entry in manifest.shards]
    free = max((int(found[1]) + 1 for found in taken if found), default=0)

    def write(rows: Windows, files: Sequence[tuple[int, int]]) -> None:
        nonlocal free
        table, features = f"windows-{free:05d}.parquet", f"features-{free:05d}.arrow"
        store.write(features, features_buffer(rows))
        store.write(table, table_buffer(_with_sources(rows, files, sources), settings))
        shards.append(ShardEntry(table, features, len(rows)))
        free += 1

    now = np.array([number.get(each.record.content_sha256, -1) for each in before], np.int64)
    for entry in manifest.shards:
        held = _numbers(store, entry)
        if np.array_equal(now[held], held):
            shards.append(entry)
            continue
        # Some of its files have other content now, or another name for the same: it is made again.
        kept = np.flatnonzero(now[held] >= 0)
        if len(kept):
            rows = read_windows(store, settings, entry.table, entry.features).taken(kept)
            write(rows, _runs(now[held][kept]))
    for rows, files in _shards(
        store, settings, [(number[each.content_sha256], each) for each in fresh]
    ):
        write(rows, files)
    name = f"sources-{free:05d}.parquet"
    if name == manifest.sources:
        name = f"sources-{free:05d}b.parquet"
    write_sources(store, settings, name, sources)
    finished = Manifest(settings, True, name, tuple(shards), manifest.basis)
    finished = add_coarse(store, finished)
    finished.write(store)
    _remove_parts(store)
    return finished


def _numbers(store: Store, entry: ShardEntry) -> NDArray[np.int32]:
    """Number of the file of each row of a shard."""
    from pyarrow import parquet

    with store.open(entry.table) as file:
        found: NDArray[np.int32] = parquet.read_table(file, columns=["file"])["file"].to_numpy()
    return found


def _runs(numbers: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Each file and how many rows it has, of the files of at least one row."""
    starts = np.flatnonzero(np.diff(numbers, prepend=-1))
    counts = np.diff(starts, append=len(numbers))
    return list(zip(numbers[starts].tolist(), counts.tolist(), strict=True))


def _shards(
    store: Store, settings: IndexSettings, parts: Sequence[tuple[int, FileRecord]]
) -> Iterator[tuple[Windows, list[tuple[int, int]]]]:
    """Rows of each shard, and the number of each of its files with how many rows it has there."""
    each = 2 * settings.width * (settings.frames + settings.pooled)
    most = max(1, min(SHARD_WINDOWS, SHARD_BYTES // each))
    held: list[Windows] = []
    files: list[tuple[int, int]] = []
    room = most
    for number, record in parts:
        rows, first = read_part(store, settings, record), 0
        while first < len(rows):
            taken = min(room, len(rows) - first)
            held.append(rows.cut(first, first + taken))
            files.append((number, taken))
            first, room = first + taken, room - taken
            if room == 0:
                yield Windows.joined(held), files
                held, files, room = [], [], most
    if held:
        yield Windows.joined(held), files


def _with_sources(
    rows: Windows, files: Sequence[tuple[int, int]], sources: Sequence[Source]
) -> Any:
    """The table of a shard: its windows with number and name of their file."""
    import pyarrow as pa

    numbers = np.repeat([number for number, _ in files], [count for _, count in files])
    names = [sources[number].name for number, _ in files]
    places = np.repeat(np.arange(len(files), dtype=np.int32), [count for _, count in files])
    table = times_table(rows)
    shown = pa.array([as_text(name) for name in names], pa.string())
    source = pa.DictionaryArray.from_arrays(places, shown)
    table = table.add_column(0, "source", source)
    return table.add_column(0, "file", pa.array(numbers.astype(np.int32)))
