"""Features of windows that were encoded before, so that long measurements can be interrupted."""

from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np

from mafsar.runtime.encoder import Encoder, Features


class KeptFeatures:
    """An encoder that keeps what its query graph gives in a file, by the content of the frames.

    Args:
        encoder: The encoder; everything else is its own.
        path: A SQLite file; made where it is missing.
    """

    def __init__(self, encoder: Encoder, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._encoder = encoder
        self._file = sqlite3.connect(path)
        self._file.execute("CREATE TABLE IF NOT EXISTS kept (key BLOB PRIMARY KEY, value BLOB)")
        self._salt = encoder.spec.weights_sha256.encode()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    def encode_query(self, frames: np.ndarray) -> Features:
        """As the encoder's; clips (B, T, S, S, 3) that are known are not encoded again."""
        keys = [hashlib.sha256(self._salt + np.ascontiguousarray(c).data).digest() for c in frames]
        rows = [self._read(key) for key in keys]
        for i, row in enumerate(rows):
            if row is None:
                found = self._encoder.encode_query(frames[i : i + 1])
                rows[i] = row = found.frames[0], found.pooled[0]
                value = np.concatenate([row[0].ravel(), row[1].ravel()]).astype(np.float32)
                self._file.execute(
                    "INSERT OR REPLACE INTO kept VALUES (?, ?)", (keys[i], value.tobytes())
                )
        self._file.commit()
        known = [row for row in rows if row is not None]
        return Features(
            np.stack([frame for frame, _ in known]), np.stack([pooled for _, pooled in known])
        )

    def _read(self, key: bytes) -> tuple[np.ndarray, np.ndarray] | None:
        found = self._file.execute("SELECT value FROM kept WHERE key = ?", (key,)).fetchone()
        if found is None:
            return None
        values = np.frombuffer(found[0], np.float32)
        spec = self._encoder.spec
        frames = values[: spec.frames * spec.embed_dim].reshape(spec.frames, spec.embed_dim)
        return frames, values[frames.size :]
