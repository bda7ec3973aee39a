"""Cached bundles of models that are not bundles themselves: a CLIP by name, a run folder.

A bundle is found by its weights (the bytes of the files that a name stands for, else the published
name), so that a second use of the model needs no torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mafsar.files import file_sha256, is_plain_folder, own_files, own_folders
from mafsar.model.names import (
    ADAPTERS_FILE,
    BUNDLE_SUFFIX,
    MANIFEST,
    given_path,
    parse_model_name,
)
from mafsar.runtime.cache.features import CAP_BYTES, FeatureCache, cache_folder
from mafsar.version import __version__

# What `kept_path` and `begun_path` name, the temporary folders beside them that a killed export
# leaves, and the folders of graphs that OpenVINO compiled.
_BUNDLE = rf"[\w.-]{{1,40}}-[0-9a-f]{{12}}{re.escape(BUNDLE_SUFFIX)}"
_BEGUN = rf"\.{_BUNDLE}\.begun"
_OWN_FOLDER = (
    rf"{_BUNDLE}|{_BEGUN}|\.({_BUNDLE}|{_BEGUN})\.\d+\.(part|fresh|old)|\.openvino-[0-9a-f]{{32}}"
)
_OWN_REMAINS = rf"\.({_BUNDLE}|{_BEGUN})(\.lock|\.\d+\.tokenizer)"
_OWN_FILE = (
    r"\.?(bundle\.json|(query|support)-\w+\.onnx|text\.onnx|weights-\w+\.bin|tokenizer\.json|"
    r"probe\.safetensors|graph\.blob)(\.[\w.-]+\.part)?"
)
_OWN_ENGINE = r"\.?[\w-][\w.-]*\.(engine|json)(\.[\w.-]+\.part)?"
_ENGINES = "engines"
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
    found = sorted((used, path, size) for path, used, size in _entries())
    names = tuple(path.name for _, path, _ in found if not path.name.startswith("."))
    return KeptBundles(bundles_folder(), names, sum(size for _, _, size in found))


def clear_kept() -> KeptBundles:
    """Removes every bundle and says what there was; other files and links stay."""
    before = kept_bundles()
    for path, _, _ in list(_entries()):
        discard_kept(path)
    for path, _ in own_files(bundles_folder(), _OWN_REMAINS):
        path.unlink(missing_ok=True)
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
    """Removes the files of one bundle, and its folder where nothing else is in it."""
    # The manifest goes first: a folder without one is no bundle to anybody.
    if is_plain_folder(path):
        (path / MANIFEST).unlink(missing_ok=True)
    for file, _ in _own_files(path):
        file.unlink(missing_ok=True)
    for folder in (*own_folders(path, _ENGINES), path):
        with contextlib.suppress(OSError):  # not empty, or a link
            folder.rmdir()


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


def _own_files(path: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yields the files of a bundle's folder that an export writes."""
    yield from own_files(path, _OWN_FILE)
    for folder in own_folders(path, _ENGINES):
        yield from own_files(folder, _OWN_ENGINE)


def _entries() -> Iterator[tuple[Path, float, int]]:
    """Yields folder, time of last use and size; one that vanishes meanwhile is passed over."""
    for path in own_folders(bundles_folder(), _OWN_FOLDER):
        try:
            size = sum(state.st_size for _, state in _own_files(path))
            manifest = path / MANIFEST
            yield path, (manifest if manifest.is_file() else path).stat().st_mtime, size
        except FileNotFoundError:
            continue
