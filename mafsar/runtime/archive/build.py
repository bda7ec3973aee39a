"""Making an index on one machine: decoders and encoders in threads, finished file by file.

Each file becomes a part of its own as soon as it is encoded (`parts`), so a kill loses at most the
files in flight. When all are there the parts become shards in the order of the files that were
named, so that the index is the same, bit for bit, whoever made which part.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from mafsar.choices import Progress
from mafsar.errors import InputError, option
from mafsar.files import locked
from mafsar.runtime.archive.coarse import add_coarse
from mafsar.runtime.archive.encode import FileEncoder
from mafsar.runtime.archive.manifest import (
    MANIFEST,
    Manifest,
    ShardEntry,
    Source,
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
) -> IndexReport:
    """Encodes files into an index, and goes on with one that was interrupted.

    Args:
        store: Where the index lies.
        settings: Of the index.
        encoder: Its encoder.
        places: Files and frame folders; cameras and streams have no end.
        workers: Files that are read and encoded side by side.
        resume: Add files to a finished index; an unfinished one is gone on with in any case.
        overwrite: Make the index again where there is one.
        heard: Called with each file, as soon as it and those before it are done.
        progress: Called with (files done, files, "indexing").
        run: Encodes the files in another way; None = in threads.

    Raises:
        InputError: A place is not a file, or the index exists and neither `resume` nor `overwrite`.
        MismatchError: The index was made with other settings.
    """
    if workers < 1:
        raise InputError(option(workers=workers), ": must be at least 1")
    for place in places:
        if place.kind != "file":
            raise InputError(f"{place.name}: an index is made of files; record it first")
    with _lock(store):
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
        waiting = deque(named)
        for path, record in (run or run_in_threads(workers))(work, list(named)):
            found[path] = record
            if progress is not None:
                progress(len(found), len(named), "indexing")
            while waiting and waiting[0] in found:
                first = waiting.popleft()
                if heard is not None:
                    heard(named[first][0], found[first])
        pairs = [(name, found[path]) for path, names in named.items() for name in names]
        sources, fresh = _merge(before, pairs)
        manifest = _finish(store, manifest, sources, fresh)
    old = {record.content_sha256 for record in known}
    new = sum(record.content_sha256 not in old for record in found.values())
    return IndexReport(tuple(sources), manifest.windows, new, len(found) - new)


def run_in_threads(workers: int) -> RunFiles:
    """Encodes files in threads of this process; each has one more that decodes ahead.

    Args:
        workers: Files side by side.
    """

    def run(work: FileEncoder, paths: Sequence[str]) -> Iterator[tuple[str, FileRecord]]:
        pool = ThreadPoolExecutor(workers, thread_name_prefix="mafsar-index")
        waiting = {pool.submit(work, path): path for path in paths}
        try:
            for done in as_completed(waiting):
                yield waiting[done], done.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    return run


def _lock(store: Store) -> AbstractContextManager[None]:
    folder = store.folder
    if folder is None:
        return nullcontext()
    return locked(folder.resolve())


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
        for folder in ("", PARTS):
            for name in store.names(folder):
                if name.endswith((".parquet", ".arrow", ".npy")):
                    store.remove(f"{folder}/{name}" if folder else name)
        manifest = Manifest(settings)
        manifest.write(store)
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
    return manifest


def _merge(
    before: Sequence[Source], pairs: Sequence[tuple[str, FileRecord]]
) -> tuple[list[Source], list[FileRecord]]:
    """The files of the index from now on, and those whose windows are not in its shards yet."""
    asked = dict(pairs)
    kept = [each for each in before if each.record.error is None or each.name not in asked]
    owner = {
        each.record.content_sha256: each.name
        for each in kept
        if each.same_as is None and each.record.error is None
    }
    there, sources, fresh = {each.name for each in kept}, list(kept), []
    for name, record in pairs:
        content = record.content_sha256
        if record.error is not None:
            if name not in there:
                sources.append(Source(name, record))
            continue
        if content in owner:
            if name not in there:
                sources.append(Source(name, record, owner[content]))
            continue
        owner[content] = name
        fresh.append(record)
        sources.append(Source(name, record))
    return sources, fresh


def _finish(
    store: Store, manifest: Manifest, sources: Sequence[Source], fresh: Sequence[FileRecord]
) -> Manifest:
    """Makes shards of the new parts; the index is complete when its manifest is replaced."""
    number = {
        each.record.content_sha256: i
        for i, each in enumerate(sources)
        if each.same_as is None and each.record.error is None
    }
    settings, shards = manifest.settings, list(manifest.shards)
    for rows, files in _shards(
        store, settings, [(number[each.content_sha256], each) for each in fresh]
    ):
        table, features = f"windows-{len(shards):05d}.parquet", f"features-{len(shards):05d}.arrow"
        store.write(features, features_buffer(rows))
        store.write(table, table_buffer(_with_sources(rows, files, sources), settings))
        shards.append(ShardEntry(table, features, len(rows)))
    name = f"sources-{len(shards):05d}.parquet"
    if name == manifest.sources:
        name = f"sources-{len(shards):05d}b.parquet"
    write_sources(store, settings, name, sources)
    finished = Manifest(settings, True, name, tuple(shards), manifest.basis)
    finished = add_coarse(store, finished)
    finished.write(store)
    if manifest.sources is not None:
        store.remove(manifest.sources)
    for part in store.names(PARTS):
        store.remove(f"{PARTS}/{part}")
    store.remove_folder(PARTS)
    return finished


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
    import numpy as np
    import pyarrow as pa

    numbers = np.repeat([number for number, _ in files], [count for _, count in files])
    names = [sources[number].name for number, _ in files]
    places = np.repeat(np.arange(len(files), dtype=np.int32), [count for _, count in files])
    shown = [
        name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        for name in names
    ]
    table = times_table(rows)
    source = pa.DictionaryArray.from_arrays(places, pa.array(shown, pa.string()))
    table = table.add_column(0, "source", source)
    return table.add_column(0, "file", pa.array(numbers.astype(np.int32)))
