"""A small copy of an index's features that keeps their order in time, for shortlists.

The frames of a window become means of two neighbours, T' = ⌈T/2⌉, and their width the d directions
in which frames and their changes differ most (principal components). Projection and means are
linear: what is seen about a mean (`mafsar.runtime.scoring.views`) can be computed of the small copy
too, for any bank, and OTAM over its T' steps still knows what comes before what. Features pooled
over time do not: their change is 0.
"""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mafsar.runtime.archive.manifest import Manifest
from mafsar.runtime.archive.parts import Half, read_features
from mafsar.runtime.archive.store import Store
from mafsar.runtime.encoder import Float32

FROM_WINDOWS = 100_000
"""An index of fewer windows has no small copy: it is searched exactly in a second or two."""
WIDTH = 32
"""d, at most; less where the features are narrower."""
BASIS = "coarse-basis.npy"
_SAMPLE = 20_000  # windows that the directions are computed from
_CHUNK = 4096


def add_coarse(store: Store, manifest: Manifest) -> Manifest:
    """Writes the small copy of each shard that has none, where the index is large enough.

    Args:
        store: The index.
        manifest: With all shards.

    Returns:
        The manifest that names the copies.
    """
    if manifest.basis is None and manifest.windows < FROM_WINDOWS:
        return manifest
    shards = list(manifest.shards)
    if manifest.basis is None:
        buffer = io.BytesIO()
        np.save(buffer, _directions(store, manifest), allow_pickle=False)
        store.write(BASIS, buffer.getvalue())
        manifest = replace(manifest, basis=BASIS)
    basis = read_basis(store, BASIS)
    for number, shard in enumerate(shards):
        if shard.coarse is None:
            frames, _ = read_features(store, manifest.settings, shard.features)
            small = np.concatenate(
                [
                    coarsen(frames[first : first + _CHUNK].astype(np.float32), basis)
                    for first in range(0, len(frames), _CHUNK)
                ]
            )
            name = shard.features.replace("features", "coarse")
            store.write(name, _buffer(small.astype(np.float16)))
            shards[number] = replace(shard, coarse=name)
    return replace(manifest, shards=tuple(shards))


def coarsen(frames: Float32, basis: Float32) -> Float32:
    """Features (..., T, E) as (..., T', d): projected, and means of two neighbours each."""
    small = frames @ basis
    length = small.shape[-2]
    out = np.empty((*small.shape[:-2], (length + 1) // 2, small.shape[-1]), np.float32)
    half = length // 2
    out[..., :half, :] = (small[..., 0 : 2 * half : 2, :] + small[..., 1 : 2 * half : 2, :]) / 2
    if length % 2:
        out[..., half, :] = small[..., -1, :]
    return out


def read_basis(store: Store, name: str) -> Float32:
    """The directions, (E, d)."""
    return np.asarray(np.load(io.BytesIO(store.read(name)), allow_pickle=False), np.float32)


def read_coarse(store: Store, name: str, steps: int, width: int) -> Half:
    """The small copy of a shard, (n, T', d), mapped."""
    from pyarrow import ipc

    batch = ipc.open_file(store.open(name)).get_batch(0)
    return np.asarray(batch.column(0).flatten().to_numpy().reshape(-1, steps, width))


def _directions(store: Store, manifest: Manifest) -> Float32:
    """Principal directions of frames about their mean and of their changes, weighted alike, (E, d)."""
    settings = manifest.settings
    step = max(1, manifest.windows // _SAMPLE)
    width = settings.width
    total, count = np.zeros(width), 0
    about, change = np.zeros((width, width)), np.zeros((width, width))
    for shard in manifest.shards:
        frames, _ = read_features(store, settings, shard.features)
        sample = frames[::step].astype(np.float64)
        flat = sample.reshape(-1, width)
        total += flat.sum(axis=0)
        count += len(flat)
        about += flat.T @ flat
        moved = (sample - sample.mean(axis=1, keepdims=True)).reshape(-1, width)
        change += moved.T @ moved
    mean = total / count
    about -= count * np.outer(mean, mean)
    both = _scaled(about) + _scaled(change)
    _, vectors = np.linalg.eigh(both)
    return np.ascontiguousarray(vectors[:, ::-1][:, : min(WIDTH, width)], np.float32)


def _scaled(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    trace = float(np.trace(matrix))
    return matrix / trace if trace > 0 else matrix


def _buffer(values: Half) -> Any:
    import pyarrow as pa
    from pyarrow import ipc

    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    column = pa.FixedSizeListArray.from_arrays(flat, int(np.prod(values.shape[1:])))
    batch = pa.record_batch([column], names=["coarse"])
    sink = pa.BufferOutputStream()
    with ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue()
