"""Cached bundles of models that are not bundles themselves: a CLIP by name, a run folder.

A bundle is found by its weights (the bytes of the files that a name stands for, else the published
name), so that a second use of the model needs no torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from mafsar.files import file_sha256, own_files
from mafsar.model.names import (
    ADAPTERS_FILE,
    BUNDLE_SUFFIX,
    MANIFEST,
    given_path,
    parse_model_name,
)
from mafsar.runtime.cache.features import cache_folder
from mafsar.runtime.cache.room import (
    CAP_BYTES,
    MODELS,
    OWN_REMAINS,
    bundle_entries,
    discard_kept,
    evict,
)
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
    return cache_folder() / MODELS


def kept_path(name: str) -> Path:
    """Where the bundle of a model is cached, whether it exists or not.

    Args:
        name: A CLIP's name, a run folder or trained adapters.

    Raises:
        InputError: The name is not a model's.
    """
    path = given_path(name)
    stem = name if path is None else path.stem
    safe = "".join(c if c.isalnum() or c in "-_." else "-" for c in stem).strip("-.")[:40]
    return bundles_folder() / f"{safe or 'model'}-{_identity(name)[:12]}{BUNDLE_SUFFIX}"


def begun_path(kept: Path) -> Path:
    """Where the finished parts of a bundle are while the rest is made; a bundle in itself."""
    return kept.with_name(f".{kept.name}.begun")


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
    found = sorted(bundle_entries(cache_folder()))
    names = tuple(each.path.name for each in found if not each.path.name.startswith("."))
    return KeptBundles(bundles_folder(), names, sum(each.size_bytes for each in found))


def clear_kept() -> KeptBundles:
    """Removes every bundle and says what there was; other files and links stay."""
    before = kept_bundles()
    for entry in list(bundle_entries(cache_folder())):
        discard_kept(entry.path)
    for path, _ in own_files(bundles_folder(), OWN_REMAINS):
        path.unlink(missing_ok=True)
    return before


def make_room(keep: Path, *, cap_bytes: int = CAP_BYTES) -> list[str]:
    """Removes the least recently used features and bundles until they fit the cap.

    Args:
        keep: A bundle that stays.
        cap_bytes: Largest size of the whole cache.

    Returns:
        The names of the removed bundles.
    """
    return evict(cache_folder(), cap_bytes, [keep])[1]


def _identity(name: str) -> str:
    """A sha256 of everything that decides the weights and graphs of a model."""
    path = given_path(name)
    parts: dict[str, object] = {"recipe": _RECIPE}
    if path is not None:
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
