"""The features of clips as arrays, filled row by row as entries of the cache arrive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mafsar.errors import MafsarError
from mafsar.files import new_array, take_rows
from mafsar.runtime.cache.clip_jobs import ClipBranch
from mafsar.runtime.cache.features import Tensors
from mafsar.runtime.encoder import Float32, Frames


@dataclass(frozen=True, repr=False)
class EncodedClips:
    """Features of n clips, in the order asked for; large ones lie in temporary files.

    Attributes:
        query: Features of the query graph, (n, T, E).
        pooled: Means over time of its raw features, (n, E).
        support: Features of the support graph with each clip's class text, (n, T, E), or None.
        durations_seconds: Duration of each clip, (n,).
        content_sha256: Hash of each clip's content.
        images: Small pictures, (n, T, 64, 64, 3), uint8, or None.
        encoded: Number of clips that this call encoded.
        repairs: What was repaired in reading each clip, sentences.
        motion: How much moves in each clip, (n,), grey levels; −1 where an older entry of the cache
            does not say.
        failed: Errors of clips that were left out, by index in the clips asked for; the other
            fields have no row for them.
    """

    query: Float32
    pooled: Float32
    support: Float32 | None
    durations_seconds: NDArray[np.float64]
    content_sha256: tuple[str, ...]
    images: Frames | None
    encoded: int
    failed: Mapping[int, MafsarError] = field(default_factory=dict)
    repairs: tuple[tuple[str, ...], ...] = ()
    motion: Float32 = field(default_factory=lambda: np.zeros(0, np.float32))


class ClipRows:
    """Rows of n clips that entries of the cache are put into.

    Args:
        keys: Keys of the entries of each clip, by what they are.
        frames: T.
        width: E.
        with_support: Whether rows of the support graph are wanted. A clip without a class has no
            text; the query graph's features take its place.
    """

    def __init__(
        self,
        keys: Sequence[Mapping[ClipBranch, str]],
        frames: int,
        width: int,
        *,
        with_support: bool,
    ) -> None:
        n = len(keys)
        self.known: set[str] = set()
        self._query: Float32 = new_array((n, frames, width), np.float32)
        self._pooled: Float32 = new_array((n, width), np.float32)
        self._support: Float32 | None = None
        if with_support:
            self._support = new_array((n, frames, width), np.float32)
        self._images: Frames | None = None
        self._durations = np.zeros(n)
        self._motion = np.full(n, -1.0, np.float32)
        self._repairs: list[tuple[str, ...]] = [()] * n
        self._rows: dict[str, list[int]] = {}
        self._worded = [with_support and "support" not in each for each in keys]
        self._branch: dict[str, ClipBranch] = {}
        for row, each in enumerate(keys):
            for branch, key in each.items():
                self._rows.setdefault(key, []).append(row)
                self._branch[key] = branch

    def put(self, key: str, entry: Tensors) -> None:
        """Takes an entry into all rows that want it."""
        self.known.add(key)
        rows, branch = self._rows[key], self._branch[key]
        if branch == "images":
            if self._images is None:
                self._images = new_array((len(self._query), *entry["images"].shape), np.uint8)
            for row in rows:
                self._images[row] = entry["images"]
            return
        for row in rows:
            if branch == "support":
                assert self._support is not None
                self._support[row] = entry["frames"]
                continue
            self._query[row], self._pooled[row] = entry["frames"], entry["pooled"]
            if self._support is not None and self._worded[row]:
                self._support[row] = entry["frames"]
            self._durations[row] = entry["duration_seconds"][0]
            if "motion" in entry:
                self._motion[row] = entry["motion"][0]
            if "repairs" in entry:
                self._repairs[row] = tuple(entry["repairs"].tobytes().decode().split("\n"))

    def finish(
        self, content: Sequence[str], encoded: int, failed: Mapping[int, MafsarError]
    ) -> EncodedClips:
        """The rows of the clips that did not fail.

        Args:
            content: Hash of each clip's content.
            encoded: How many were encoded.
            failed: Errors by row.
        """
        kept = np.array([row for row in range(len(content)) if row not in failed], np.intp)
        return EncodedClips(
            take_rows(self._query, kept),
            take_rows(self._pooled, kept),
            None if self._support is None else take_rows(self._support, kept),
            self._durations[kept],
            tuple(content[row] for row in kept),
            None if self._images is None or len(kept) == 0 else take_rows(self._images, kept),
            encoded,
            failed,
            tuple(self._repairs[row] for row in kept),
            self._motion[kept],
        )
