"""The feature cache: a clip that was encoded once is read back, even after it was renamed.

An entry is a small safetensors file, named by the sha256 of everything that its content depends on.
A damaged entry counts as absent. Several processes may share the folder: an entry is written to a
temporary file and renamed, and a process that finds it gone encodes the clip again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mafsar.choices import Branch
from mafsar.files import write_safetensors
from mafsar.runtime.cache.room import (
    CAP_BYTES,
    FEATURES,
    bundle_entries,
    evict,
    feature_entries,
)
from mafsar.runtime.encoder import ModelSpec
from mafsar.version import __version__
from mafsar.video import READING_RULES, Geometry

_SCHEMA = 2  # from 2 on a key has the hash of the files that made the features
_KEEP = 0.9  # share of the cap that remains after an eviction
_log = logging.getLogger("mafsar")
Tensors = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class CacheInfo:
    """State of the cache, or what was removed from it.

    Attributes:
        path: The folder.
        entries: Number of entries.
        size_bytes: Size of all entries.
        cap_bytes: Size of features and bundles together above which the least recently used are
            removed.
    """

    path: Path
    entries: int
    size_bytes: int
    cap_bytes: int


def cache_folder() -> Path:
    """The folder of the cache: `MAFSAR_CACHE`, else `$XDG_CACHE_HOME/mafsar`, else `~/.cache/mafsar`."""
    given = os.environ.get("MAFSAR_CACHE")
    if given:
        return Path(given).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "mafsar"


def clip_key(
    spec: ModelSpec,
    *,
    branch: Branch | str,
    precision: str,
    files_sha256: str | None,
    geometry: Geometry,
    content_sha256: str,
    start: float | None,
    end: float | None,
    text: str | None,
    ignore_clock: float | None = None,
) -> str:
    """Key of a clip's features, from everything that they depend on.

    Args:
        spec: The model: weights, pre-processing, frames and prompts.
        branch: "query", "support", or "images" for small pictures.
        precision: The engine's precision.
        files_sha256: Hash of the graph and weight files that the encoder runs, or None.
        geometry: Which part of the picture the model sees.
        content_sha256: Hash of the clip's content.
        start: First second taken, or None.
        end: Last second taken, or None.
        text: The class's text in the support branch, else None.
        ignore_clock: Frames a second instead of the file's timestamps, or None.
    """
    return _key(
        branch=branch,
        weights=spec.weights_sha256,
        preprocess=spec.preprocess_json(),
        precision=precision,
        files=files_sha256,
        geometry=geometry.to_json(),
        content=content_sha256,
        start=start,
        end=end,
        text=text,
        prompts=None if text is None else list(spec.prompts),
        reading=READING_RULES,
        **({} if ignore_clock is None else {"ignore_clock": ignore_clock}),
    )


def text_key(spec: ModelSpec, *, precision: str, files_sha256: str | None, text: str) -> str:
    """Key of a class text's embedding; arguments as `clip_key`."""
    return _key(
        branch="text",
        weights=spec.weights_sha256,
        precision=precision,
        files=files_sha256,
        text=text,
        prompts=list(spec.prompts),
    )


def probe_key(spec: ModelSpec, *, precision: str, files_sha256: str | None, with_text: bool) -> str:
    """Key of the features of a bank's probe clip; arguments as `clip_key`."""
    return _key(
        branch="probe",
        weights=spec.weights_sha256,
        preprocess=spec.preprocess_json(),
        precision=precision,
        files=files_sha256,
        with_text=with_text,
        prompts=list(spec.prompts),
    )


def _key(**parts: Any) -> str:
    # What is around the encoder may change between versions, so entries belong to one version.
    parts |= {"schema": _SCHEMA, "mafsar": __version__}
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


class FeatureCache:
    """Entries in one folder; above the cap the least recently used are removed, bundles too."""

    def __init__(self, folder: Path | None = None, *, cap_bytes: int = CAP_BYTES) -> None:
        self.folder = (cache_folder() if folder is None else folder) / FEATURES
        self.cap_bytes = cap_bytes
        self._size_bytes: int | None = None  # known from the first write on
        self._writable = True

    def get(self, key: str) -> Tensors | None:
        """The entry's arrays, or None if it is absent or damaged."""
        from safetensors import SafetensorError, safe_open

        path = self._path(key)
        try:
            if self._is_linked(path) or not path.is_file():
                return None
            with safe_open(path, framework="numpy") as file:
                checksum = (file.metadata() or {}).get("crc32")
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if checksum != _checksum(tensors):
                raise ValueError("checksum")
        except (SafetensorError, ValueError):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            return None
        except OSError:  # another user's, or gone meanwhile
            return None
        with contextlib.suppress(OSError):  # a read-only entry can still be used
            os.utime(path)  # the modification time orders entries by last use
        return tensors

    def put(self, key: str, tensors: Mapping[str, NDArray[Any]]) -> None:
        """Writes an entry; a folder that cannot be written is reported once and not tried again."""
        if not self._writable:
            return
        path = self._path(key)
        if self._is_linked(path):
            return
        try:
            if self._size_bytes is None:
                entries = (*feature_entries(cache := self.folder.parent), *bundle_entries(cache))
                self._size_bytes = sum(entry.size_bytes for entry in entries)
            write_safetensors(path, tensors, {"crc32": _checksum(tensors)})
            self._size_bytes += path.stat().st_size
        except OSError as error:
            cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
            if isinstance(cause, FileNotFoundError):
                return  # another process cleared the folder at this moment
            self._writable = False
            _log.warning(
                "feature cache %s cannot be written (%s); set MAFSAR_CACHE to a folder of your own",
                self.folder,
                cause.strerror or cause,
            )
            return
        if self._size_bytes > self.cap_bytes:
            self._evict()

    def info(self) -> CacheInfo:
        """The number and size of the entries."""
        sizes = [entry.size_bytes for entry in feature_entries(self.folder.parent)]
        return CacheInfo(self.folder, len(sizes), sum(sizes), self.cap_bytes)

    def clear(self) -> CacheInfo:
        """Removes all entries and says how many there were; other files and links stay."""
        before = self.info()
        for entry in list(feature_entries(self.folder.parent)):
            entry.path.unlink(missing_ok=True)
        self._size_bytes = None
        return before

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key[2:]}.safetensors"

    def _is_linked(self, path: Path) -> bool:
        """Whether a link leads to an entry: what is behind it is somebody else's."""
        return self.folder.is_symlink() or path.parent.is_symlink() or path.is_symlink()

    def _evict(self) -> None:
        """Removes the least recently used features and bundles until the rest is well below the cap."""
        self._size_bytes, _ = evict(self.folder.parent, self.cap_bytes * _KEEP)


def open_cache(cache: FeatureCache | bool) -> FeatureCache | None:
    """The cache that an argument `cache` means: True = the user's own, False = none."""
    if isinstance(cache, FeatureCache):
        return cache
    return FeatureCache() if cache else None


def _checksum(tensors: Mapping[str, NDArray[Any]]) -> str:
    value = 0
    for name in sorted(tensors):
        value = zlib.crc32(name.encode(), value)
        value = zlib.crc32(np.ascontiguousarray(tensors[name]).tobytes(), value)
    return f"{value:08x}"
