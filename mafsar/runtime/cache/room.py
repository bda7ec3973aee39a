"""What lies in the cache, and room in it: features and bundles share one cap.

Only files with the cache's own names count and are removed, and nothing is followed through a link.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from mafsar.files import is_plain_folder, own_files, own_folders
from mafsar.model.names import BUNDLE_SUFFIX, MANIFEST

CAP_BYTES = 5 << 30
"""Largest size of the whole cache."""
FEATURES, MODELS = "features", "models"

# An entry is named by the sha256 that is its key; a writer that was killed leaves its `.part`.
_FOLDER = r"[0-9a-f]{2}"
_ENTRY = r"[0-9a-f]{62}\.safetensors|\.[0-9a-f]{62}\.safetensors\.\d+-[0-9a-f]{8}\.part"
# What `kept_path` and `begun_path` name, the temporary folders beside them that a killed export
# leaves, and the folders of graphs that OpenVINO compiled.
_BUNDLE = rf"[\w.-]{{1,40}}-[0-9a-f]{{12}}{re.escape(BUNDLE_SUFFIX)}"
_BEGUN = rf"\.{_BUNDLE}\.begun"
_OWN_FOLDER = (
    rf"{_BUNDLE}|{_BEGUN}|\.({_BUNDLE}|{_BEGUN})\.\d+\.(part|fresh|old)|\.openvino-[0-9a-f]{{32}}"
)
OWN_REMAINS = rf"\.({_BUNDLE}|{_BEGUN})(\.lock|\.\d+\.tokenizer)"
_OWN_FILE = (
    r"\.?(bundle\.json|(query|support)-\w+\.onnx|text\.onnx|weights-\w+\.bin|tokenizer\.json|"
    r"probe\.safetensors|graph\.blob)(\.[\w.-]+\.part)?"
)
_OWN_ENGINE = r"\.?[\w-][\w.-]*\.(engine|json)(\.[\w.-]+\.part)?"
_ENGINES = "engines"
_in_use: set[Path] = set()


@dataclass(frozen=True, order=True)
class Entry:
    """A file of features, or the folder of a bundle; ordered by last use.

    Attributes:
        used: Time of last use, seconds.
        path: Its path.
        size_bytes: Its size.
    """

    used: float
    path: Path
    size_bytes: int


def feature_entries(cache: Path) -> Iterator[Entry]:
    """Yields the features of a cache.

    Args:
        cache: The folder of the whole cache.
    """
    for folder in own_folders(cache / FEATURES, _FOLDER):
        for path, state in own_files(folder, _ENTRY):
            yield Entry(state.st_mtime, path, state.st_size)


def bundle_entries(cache: Path) -> Iterator[Entry]:
    """Yields the bundles of a cache, and what stands beside them; one that vanishes is passed over.

    Args:
        cache: The folder of the whole cache.
    """
    for path in own_folders(cache / MODELS, _OWN_FOLDER):
        try:
            size = sum(state.st_size for _, state in _own_files(path))
            manifest = path / MANIFEST
            used = (manifest if manifest.is_file() else path).stat().st_mtime
            yield Entry(used, path, size)
        except FileNotFoundError:
            continue


def mark_in_use(bundle: Path) -> None:
    """Notes that this process reads from a bundle, which `evict` leaves alone from now on."""
    _in_use.add(bundle.resolve())


def evict(cache: Path, fit_bytes: float, keep: Collection[Path] = ()) -> tuple[int, list[str]]:
    """Removes what has not been used for longest until the rest fits.

    Args:
        cache: The folder of the whole cache.
        fit_bytes: Size that the rest may have.
        keep: Bundles that stay, beside those that this process uses.

    Returns:
        The size of the rest, bytes, and the names of the removed bundles.
    """
    features, bundles = list(feature_entries(cache)), list(bundle_entries(cache))
    total = sum(entry.size_bytes for entry in (*features, *bundles))
    folders = {entry.path for entry in bundles}
    removed = []
    for entry in sorted((*features, *bundles)):
        if total <= fit_bytes:
            break
        if entry.path not in folders:
            entry.path.unlink(missing_ok=True)
        elif entry.path in keep or entry.path.resolve() in _in_use:
            continue
        else:
            discard_kept(entry.path)
            removed.append(entry.path.name)
        total -= entry.size_bytes
    return total, removed


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


def _own_files(path: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yields the files of a bundle's folder that an export writes."""
    yield from own_files(path, _OWN_FILE)
    for folder in own_folders(path, _ENGINES):
        yield from own_files(folder, _OWN_ENGINE)
