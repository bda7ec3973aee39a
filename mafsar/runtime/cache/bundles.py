"""Bundles that the cache keeps of models that are none: a CLIP by name, a run folder (no torch).

Such a bundle is found by what its weights are, so that a second use needs no torch: the bytes of
the files that a name leads to, else the published name itself.
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
from mafsar.model.names import ADAPTERS_FILE, BUNDLE_SUFFIX, MANIFEST, parse_model_name
from mafsar.runtime.cache.features import CAP_BYTES, FeatureCache, cache_folder
from mafsar.version import __version__

# What `kept_path` names, and the temporary folders beside it that a killed export leaves.
_BUNDLE = rf"[\w.-]{{1,40}}-[0-9a-f]{{12}}{re.escape(BUNDLE_SUFFIX)}"
_OWN_FOLDER = re.compile(rf"{_BUNDLE}|\.{_BUNDLE}\.\d+\.(part|fresh|old)")
_OWN_REMAINS = re.compile(rf"\.{_BUNDLE}(\.lock|\.\d+\.tokenizer)")
_OWN_FILE = re.compile(
    r"\.?(bundle\.json|(query|support)-\w+\.onnx|text\.onnx|weights-\w+\.bin|tokenizer\.json|"
    r"probe\.safetensors)(\.[\w.-]+\.part)?"
)
_OWN_ENGINE = re.compile(r"\.?[\w-][\w.-]*\.(engine|json)(\.[\w.-]+\.part)?")
_ENGINES = re.compile("engines")
_RECIPE = 1  # of the graphs; another one makes new bundles


@dataclass(frozen=True)
class KeptBundles:
    """The bundles in the cache.

    Attributes:
        path: Their folder.
        names: Their folders' names, the longest unused first.
        size_bytes: Together.
    """

    path: Path
    names: tuple[str, ...]
    size_bytes: int


def bundles_folder() -> Path:
    """Where the cache keeps bundles."""
    return cache_folder() / "models"


def kept_path(name: str) -> Path:
    """Where the bundle of a model is kept, whether it is there or not.

    Args:
        name: A CLIP's name, a run folder or trained adapters.

    Raises:
        InputError: A name that is none.
    """
    path = Path(name).expanduser()
    stem = path.stem if path.exists() else name
    safe = "".join(c if c.isalnum() or c in "-_." else "-" for c in stem).strip("-.")[:40]
    return bundles_folder() / f"{safe or 'model'}-{_identity(name)[:12]}{BUNDLE_SUFFIX}"


def find_kept(name: str) -> Path | None:
    """The bundle that the cache keeps of a model, or None; marks it as used."""
    path = kept_path(name)
    manifest = path / MANIFEST
    if not manifest.is_file():
        return None
    with contextlib.suppress(OSError):  # a cache that cannot be written can still be read
        os.utime(manifest)  # the time of change orders bundles by last use
    return path


def kept_bundles() -> KeptBundles:
    """What the cache keeps, remains of interrupted makings included in the size."""
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
    """Removes the bundles that were used longest ago until features and bundles fit the cap.

    Args:
        keep: One that stays.
        cap_bytes: Of the whole cache.

    Returns:
        The names of those removed.
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
    """What decides the weights and graphs behind a name, as a sha256."""
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
            parts["version"] = __version__  # the numbers drawn belong to it
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
