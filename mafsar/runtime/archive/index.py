"""An index that is read: times in memory, features mapped from its files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mafsar.errors import InputError
from mafsar.runtime.archive.coarse import read_basis, read_coarse
from mafsar.runtime.archive.manifest import Manifest, Source, read_manifest, read_sources
from mafsar.runtime.archive.parts import Half, read_features
from mafsar.runtime.archive.rows import RowReader
from mafsar.runtime.archive.settings import IndexSettings
from mafsar.runtime.archive.store import Store
from mafsar.runtime.encoder import Float32


@dataclass(frozen=True, eq=False)
class Shard:
    """Some tens of thousands of rows.

    Features are mapped anew each time that they are asked for, and given back when nobody looks at
    them any more: what was read long ago takes no memory of this process.

    Attributes:
        first: Number of its first row in the index.
        rows: How many it has.
        features: Opens (n, T, E) and (n, E) or None, float16.
        read: Reads some rows of them; called as `mafsar.runtime.archive.rows.RowReader`.
        small: Opens the small copy, (n, T', d), float16; None where there is none.
    """

    first: int
    rows: int
    features: Callable[[], tuple[Half, Half | None]]
    read: Callable[..., None]
    small: Callable[[], Half] | None = None

    def __len__(self) -> int:
        return self.rows

    @property
    def frames(self) -> Half:
        """Features of the frames, (n, T, E)."""
        return self.features()[0]

    @property
    def coarse(self) -> Half | None:
        """The small copy, (n, T', d), or None."""
        return None if self.small is None else self.small()

    def kept_open(self) -> Shard:
        """The same shard, mapped once, and given back with it."""
        small = None if self.small is None else cache(self.small)
        return replace(self, features=cache(self.features), small=small)


@dataclass(frozen=True, eq=False, repr=False)
class Index:
    """A finished index.

    Attributes:
        place: Where it lies.
        settings: What it is made with.
        sources: Its files.
        file: Number of each row's file, (n,), int32.
        t_start: Seconds of the file's clock, (n,).
        t_end: The same.
        length: Number of each row's length, (n,), int8.
        motion: See `mafsar.video.motion.motion_levels`, (n,), float32.
        shards: Features of the rows.
        basis: Directions of the small copy, (E, d); None where there is none.
    """

    place: str
    settings: IndexSettings
    sources: tuple[Source, ...]
    file: NDArray[np.int32]
    t_start: NDArray[np.float64]
    t_end: NDArray[np.float64]
    length: NDArray[np.int8]
    motion: Float32
    shards: tuple[Shard, ...]
    basis: Float32 | None = None

    def __len__(self) -> int:
        return len(self.t_start)

    def __repr__(self) -> str:
        return (
            f"Index({self.place}: {len(self):,} windows of {len(self.sources):,} files, "
            f"{self.settings.model})"
        )

    def frames(self, rows: NDArray[np.intp]) -> Half:
        """Features of some rows, (k, T, E)."""
        shape = (len(rows), self.settings.frames, self.settings.width)
        return self._gathered(rows, np.empty(shape, np.float16), pooled=False)

    def pooled(self, rows: NDArray[np.intp]) -> Half:
        """Pooled features of some rows, (k, E); only where the index keeps them."""
        shape = (len(rows), self.settings.width)
        return self._gathered(rows, np.empty(shape, np.float16), pooled=True)

    def _gathered(self, rows: NDArray[np.intp], out: Half, *, pooled: bool) -> Half:
        for shard in self.shards:
            here = np.flatnonzero((rows >= shard.first) & (rows < shard.first + len(shard)))
            if len(here):
                shard.read(rows[here] - shard.first, out, here, pooled=pooled)
        return out


def open_index(place: str | Path) -> Index:
    """Opens a finished index.

    Args:
        place: Its folder, or an address of an object store.

    Raises:
        MissingError: There is none.
        InputError: It is damaged, or not finished.
    """
    return _open(Store(place), again=True)


def _open(store: Store, *, again: bool) -> Index:
    manifest = read_manifest(store)
    if not manifest.complete:
        raise InputError(
            f"{store.place}: not finished; run its mafsar index command again to go on"
        )
    try:
        return _read(store, manifest)
    except (OSError, ValueError, KeyError) as error:
        if again and read_manifest(store) != manifest:  # changed meanwhile: its files may be gone
            return _open(store, again=False)
        if isinstance(error, InputError):
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{store.place}: damaged index ({reason}); make it again") from error


def _read(store: Store, manifest: Manifest) -> Index:
    from pyarrow import parquet

    names = ("file", "t_start", "t_end", "length", "motion")
    kinds = (np.int32, np.float64, np.float64, np.int8, np.float32)
    columns: dict[str, list[NDArray[np.generic]]] = {name: [] for name in names}
    shards: list[Shard] = []
    first = 0
    settings = manifest.settings
    sources = tuple(read_sources(store, manifest))
    basis = None if manifest.basis is None else read_basis(store, manifest.basis)
    for entry in manifest.shards:
        with store.open(entry.table) as file:
            table = parquet.read_table(file, columns=list(names))
        frames, _ = read_features(store, settings, entry.features)
        if not len(frames) == table.num_rows == entry.windows:
            raise InputError(
                f"{store.place}: {entry.features} has {len(frames)} rows, {entry.table} "
                f"{table.num_rows}; make it again"
            )
        for name in names:
            columns[name].append(table[name].to_numpy())
        open_features: Any = partial(read_features, store, settings, entry.features)
        open_small: Any = None
        if entry.coarse is not None and basis is not None:
            steps = (settings.frames + 1) // 2
            open_small = partial(read_coarse, store, entry.coarse, steps, basis.shape[1])
        read: Any
        if store.folder is None:  # fetched once; a local file is mapped in no time
            open_features = cache(open_features)
            open_small = None if open_small is None else cache(open_small)
            read = partial(_taken, open_features)
        else:
            read = RowReader(store.folder / entry.features)
        shards.append(Shard(first, len(frames), open_features, read, open_small))
        first += len(frames)
    arrays: dict[str, Any] = {
        name: np.concatenate(columns[name] or [np.zeros(0)]).astype(kind, copy=False)
        for name, kind in zip(names, kinds, strict=True)
    }
    return Index(store.place, settings, sources, **arrays, shards=tuple(shards), basis=basis)


def _taken(
    features: Callable[[], tuple[Half, Half | None]],
    rows: NDArray[np.intp],
    out: Half,
    places: NDArray[np.intp],
    *,
    pooled: bool,
) -> None:
    """Some rows of features that are in memory."""
    held = features()[int(pooled)]
    assert held is not None
    out[places] = held[rows]
