"""Some rows of a shard's features, read one by one.

A mapped file would bring in sixteen pages around each row, and keep them in memory.
"""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mafsar.errors import InputError
from mafsar.runtime.archive.parts import Half


class RowReader:
    """Reads rows of a local file of features; any threads may call it.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._begin: dict[str, int] | None = None
        self._lock = threading.Lock()

    def __call__(
        self, rows: NDArray[np.intp], out: Half, places: NDArray[np.intp], *, pooled: bool
    ) -> None:
        """Reads frames, (T, E) each, or pooled features, (E,) each, of some rows.

        Args:
            rows: Their numbers in the file, (k,).
            out: Where they are written, (n, T, E) or (n, E), contiguous.
            places: Their places in it, (k,).
            pooled: Which of the two.

        Raises:
            InputError: The file ends before a row does.
        """
        begin, size = self._begins()["pooled" if pooled else "frames"], out[0].nbytes
        to = out.reshape(-1).view(np.uint8).data
        # Rows that follow each other are read in one piece.
        breaks = np.flatnonzero((np.diff(rows) != 1) | (np.diff(places) != 1)) + 1
        firsts = [0, *breaks.tolist()]
        counts = np.diff([*firsts, len(rows)])
        pieces = zip(
            (begin + rows[firsts] * size).tolist(),
            (places[firsts] * size).tolist(),
            (counts * size).tolist(),
            strict=True,
        )
        with self._path.open("rb", buffering=0) as file:
            for start, at, length in pieces:
                file.seek(start)
                end = at + length
                while at < end:
                    count = file.readinto(to[at:end])
                    if not count:
                        raise InputError(f"{self._path}: ends too early; make the index again")
                    at += count

    def _begins(self) -> dict[str, int]:
        """Where the values of each column begin in the file, bytes."""
        with self._lock:
            if self._begin is None:
                import pyarrow as pa
                from pyarrow import ipc

                with pa.memory_map(str(self._path)) as file:
                    start = file.read_buffer(1).address
                    batch = ipc.open_file(file).get_batch(0)
                    self._begin = {
                        name: batch.column(name).flatten().buffers()[1].address - start
                        for name in batch.schema.names
                    }
            return self._begin
