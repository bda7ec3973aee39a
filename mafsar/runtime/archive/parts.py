"""The windows of one file as a pair of files: a Parquet table, and features in an Arrow file.

    parts/CONTENT.arrow      frames: T·E values of float16 a window; pooled: E values
    parts/CONTENT.parquet    t_start, t_end, length, motion, and what is said of the file

CONTENT is the hash of the file's content. The table is written last: where it is, the part is whole.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mafsar.errors import MismatchError
from mafsar.runtime.archive.settings import IndexSettings
from mafsar.runtime.archive.store import Store
from mafsar.runtime.encoder import Float32

PARTS = "parts"
_KEY = b"mafsar"
Half = NDArray[np.float16]


@dataclass(frozen=True)
class FileRecord:
    """What is known of one file of the archive.

    Attributes:
        content_sha256: Hash of its content; empty where it cannot be read.
        size_bytes: Its size; 0 for a folder of frames.
        modified_ns: Its time of change, nanoseconds; 0 for a folder of frames.
        path: Where it was read, as given.
        duration_seconds: Its length.
        fps: Frames per second; None where it has no clock.
        windows: How many it has.
        repairs: What was repaired in reading it, plain sentences.
        error: Why it has no window, or None.
    """

    content_sha256: str
    size_bytes: int
    modified_ns: int
    path: str
    duration_seconds: float = 0.0
    fps: float | None = None
    windows: int = 0
    repairs: tuple[str, ...] = ()
    error: str | None = None

    @property
    def name(self) -> str:
        """Name of its part, without an ending."""
        return f"{PARTS}/{self.content_sha256}"


@dataclass(frozen=True, eq=False)
class Windows:
    """Rows of an index, in the order of its files.

    Attributes:
        t_start: Seconds of the file's clock, (n,), float64.
        t_end: The same.
        length: Number of the length, (n,), int8.
        motion: See `mafsar.video.motion.motion_levels`, (n,), float32.
        frames: Features of the frames by the query graph, (n, T, E), float16.
        pooled: Pooled features, (n, E), float16; None where the index keeps none.
    """

    t_start: NDArray[np.float64]
    t_end: NDArray[np.float64]
    length: NDArray[np.int8]
    motion: Float32
    frames: Half
    pooled: Half | None

    def __len__(self) -> int:
        return len(self.t_start)

    @staticmethod
    def joined(parts: Sequence[Windows]) -> Windows:
        """The rows of several, one after another; at least one."""
        pooled = [part.pooled for part in parts if part.pooled is not None]
        return Windows(
            np.concatenate([part.t_start for part in parts]),
            np.concatenate([part.t_end for part in parts]),
            np.concatenate([part.length for part in parts]),
            np.concatenate([part.motion for part in parts]),
            np.concatenate([part.frames for part in parts]),
            np.concatenate(pooled) if pooled else None,
        )

    def cut(self, first: int, last: int) -> Windows:
        """Rows first … last − 1."""
        return self.taken(slice(first, last))

    def taken(self, rows: slice | NDArray[np.intp]) -> Windows:
        """Some rows."""
        return Windows(
            self.t_start[rows],
            self.t_end[rows],
            self.length[rows],
            self.motion[rows],
            self.frames[rows],
            None if self.pooled is None else self.pooled[rows],
        )


def to_half(values: Float32, what: str) -> Half:
    """Features as float16.

    Raises:
        MismatchError: A value is beyond the range of float16.
    """
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    if not np.isfinite(half).all():
        raise MismatchError(f"{what}: features up to {np.abs(values).max():g} do not fit float16")
    return half


def write_part(store: Store, settings: IndexSettings, record: FileRecord, windows: Windows) -> None:
    """Writes the part of a file."""
    store.write(f"{record.name}.arrow", features_buffer(windows))
    said = json.dumps(asdict(record), ensure_ascii=False, sort_keys=True)
    store.write(f"{record.name}.parquet", table_buffer(times_table(windows), settings, said))


def read_record(store: Store, name: str) -> FileRecord:
    """What a part says of its file.

    Args:
        store: The index.
        name: Of the part's table, in its folder.
    """
    from pyarrow import parquet

    with store.open(f"{PARTS}/{name}") as file:
        said = parquet.read_schema(file).metadata[_KEY]
    values = json.loads(said)["file"]
    return FileRecord(**(values | {"repairs": tuple(values["repairs"])}))


def read_part(store: Store, settings: IndexSettings, record: FileRecord) -> Windows:
    """The windows of a part."""
    return read_windows(store, settings, f"{record.name}.parquet", f"{record.name}.arrow")


def read_windows(store: Store, settings: IndexSettings, table: str, features: str) -> Windows:
    """Rows of a table and of its features, which stay mapped where the file is local."""
    from pyarrow import parquet

    with store.open(table) as file:
        found = parquet.read_table(file, columns=["t_start", "t_end", "length", "motion"])
    frames, pooled = read_features(store, settings, features)
    column = {name: found[name].to_numpy() for name in found.column_names}
    return Windows(
        column["t_start"], column["t_end"], column["length"], column["motion"], frames, pooled
    )


def read_features(store: Store, settings: IndexSettings, name: str) -> tuple[Half, Half | None]:
    """Features of an Arrow file, (n, T, E) and (n, E): views of the mapped file."""
    from pyarrow import ipc

    batch = ipc.open_file(store.open(name)).get_batch(0)
    shape = (batch.num_rows, settings.frames, settings.width)
    frames = batch.column("frames").flatten().to_numpy().reshape(shape)
    if not settings.pooled:
        return frames, None
    pooled = batch.column("pooled").flatten().to_numpy().reshape(shape[0], shape[2])
    return frames, pooled


def features_buffer(windows: Windows) -> Any:
    """The features as the bytes of an Arrow file with one batch."""
    import pyarrow as pa
    from pyarrow import ipc

    columns = {"frames": _listed(windows.frames)}
    if windows.pooled is not None:
        columns["pooled"] = _listed(windows.pooled)
    batch = pa.record_batch(list(columns.values()), names=list(columns))
    sink = pa.BufferOutputStream()
    with ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue()


def times_table(windows: Windows) -> Any:
    """The other columns as a table of pyarrow."""
    import pyarrow as pa

    return pa.table(
        {
            "t_start": windows.t_start,
            "t_end": windows.t_end,
            "length": windows.length,
            "motion": windows.motion,
        }
    )


def table_buffer(table: Any, settings: IndexSettings, said: str = "null") -> Any:
    """A table as the bytes of a Parquet file that names its model and pre-processing.

    Args:
        table: Of pyarrow.
        settings: Of the index.
        said: What is said of the file, JSON.
    """
    import pyarrow as pa
    from pyarrow import parquet

    hashes = {
        "weights_sha256": settings.weights_sha256,
        "preprocess_sha256": settings.preprocess_sha256,
        "precision": settings.precision,
    }
    metadata = json.dumps(hashes)[:-1] + f', "file": {said}}}'
    sink = pa.BufferOutputStream()
    parquet.write_table(table.replace_schema_metadata({_KEY: metadata.encode()}), sink)
    return sink.getvalue()


def _listed(values: Half) -> Any:
    import pyarrow as pa

    flat = np.ascontiguousarray(values).reshape(-1)
    size = int(np.prod(values.shape[1:]))
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), size)
