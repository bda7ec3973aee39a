"""Cached bundles of models that are not bundles themselves: a CLIP by name, a run folder.

A bundle is found by its weights (the bytes of the files that a name stands for, else the published
name), so that a second use of the model needs no torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mafsar.files import file_sha256
from mafsar.model.names import ADAPTERS_FILE, BUNDLE_SUFFIX, MANIFEST, parse_model_name
from mafsar.runtime.cache.features import CAP_BYTES, FeatureCache, cache_folder
from mafsar.version import __version__

_RECIPE = 1  # version of the graphs; a change makes new bundles


@dataclass(frozen=True)
class KeptBundles:
    """The bundles in the cache.

    Attributes:
        path: The folder that holds them.
        names: Names of the bundles' folders, the least recently used first.
        size_bytes: Size of all bundles.
    """

    path: Path
    names: tuple[str, ...]
    size_bytes: int


def bundles_folder() -> Path:
    """Where the cache keeps bundles."""
    return cache_folder() / "models"


def kept_path(name: str) -> Path:
    """Where the bundle of a model is cached, whether it exists or not.

    Args:
        name: A CLIP's name, a run folder or trained adapters.

    Raises:
        InputError: The name is not a model's.
    """
    path = Path(name).expanduser()
    stem = path.stem if path.exists() else name
    safe = "".join(c if c.isalnum() or c in "-_." else "-" for c in stem).strip("-.")[:40]
    return bundles_folder() / f"{safe or 'model'}-{_identity(name)[:12]}{BUNDLE_SUFFIX}"


def find_kept(name: str) -> Path | None:
    """The cached bundle of a model, or None; marks it as used."""
    path = kept_path(name)
    manifest = path / MANIFEST
    if not manifest.is_file():
        return None
    with contextlib.suppress(OSError):  # a cache that cannot be written can still be read
        os.utime(manifest)  # the modification time orders bundles by last use
    return path


def kept_bundles() -> KeptBundles:
    """The cached bundles; the size includes what interrupted exports left."""
    found = sorted((used, path, size) for path, used, size in _entries())
    names = tuple(path.name for _, path, _ in found if not path.name.startswith("."))
    return KeptBundles(bundles_folder(), names, sum(size for _, _, size in found))


def clear_kept() -> KeptBundles:
    """Removes every bundle; returns what there was."""
    before = kept_bundles()
    for path, _, _ in list(_entries()):
        discard_kept(path)
    return before


def make_room(keep: Path, *, cap_bytes: int = CAP_BYTES) -> list[str]:
    """Removes the least recently used bundles until features and bundles fit the cap.

    Args:
        keep: A bundle that stays.
        cap_bytes: Largest size of the whole cache.

    Returns:
        The names of the removed bundles.
    """
    total = FeatureCache(cap_bytes=cap_bytes).info().size_bytes + kept_bundles().size_bytes
    removed = []
    for _, path, size in sorted((used, path, size) for path, used, size in _entries()):
        if total <= cap_bytes:
            break
        if path != keep:
            discard_kept(path)
            total -= size
            removed.append(path.name)
    return removed


def discard_kept(path: Path) -> None:
    """Removes one bundle."""
    # The manifest goes first: nothing reads a folder without one as a bundle.
    (path / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(path, ignore_errors=True)


def _identity(name: str) -> str:
    """A sha256 of everything that decides the weights and graphs of a model."""
    path = Path(name).expanduser()
    parts: dict[str, object] = {"recipe": _RECIPE}
    if path.exists():
        file = path / ADAPTERS_FILE if path.is_dir() else path
        parts["trained"] = file_sha256(file) if file.is_file() else str(path.resolve())
    else:
        parsed = parse_model_name(name)
        parts["name"] = str(parsed)
        files = []
        if parsed.source == "file":
            parts["name"], files = parsed.base, [Path(parsed.value)]
        elif parsed.source == "local-dir":
            folder = Path(parsed.value).expanduser()
            parts["name"] = parsed.source
            files = sorted((*folder.glob("*.json"), *folder.glob("*.safetensors")))
        elif parsed.source == "random":
            parts["version"] = __version__  # the random weights depend on it
        parts["files"] = [(file.name, file_sha256(file)) for file in files if file.is_file()]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _entries() -> Iterator[tuple[Path, float, int]]:
    """Yields folder, time of last use and size; skips bundles removed meanwhile."""
    folder = bundles_folder()
    for path in folder.iterdir() if folder.is_dir() else ():
        try:
            if not path.is_dir():
                continue
            size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
            manifest = path / MANIFEST
            yield path, (manifest if manifest.is_file() else path).stat().st_mtime, size
        except FileNotFoundError:
            continue
