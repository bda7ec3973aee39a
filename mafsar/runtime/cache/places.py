"""Where this machine's models lie, by the hash of their weights.

A bank says only the hash, not the path: that has names of users and machines. The path stays here.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from mafsar.files import write_text
from mafsar.runtime.cache.features import cache_folder

_SHA256 = "[0-9a-f]{64}"
_LONGEST = 4096


def remember_place(weights_sha256: str, name: str) -> None:
    """Notes what `load_model` takes for the model of these weights; no error where it cannot."""
    path = _path(weights_sha256)
    if path is not None and recall_place(weights_sha256) != name:
        with contextlib.suppress(OSError, ValueError):
            write_text(path, name)


def recall_place(weights_sha256: str) -> str | None:
    """What `load_model` takes for the model of these weights, or None where it is not known."""
    path = _path(weights_sha256)
    try:
        if path is None or path.is_symlink() or not path.is_file():
            return None
        return path.read_text(encoding="utf-8")[:_LONGEST] or None
    except (OSError, ValueError):
        return None


def _path(weights_sha256: str) -> Path | None:
    if not re.fullmatch(_SHA256, weights_sha256):
        return None
    return cache_folder() / "places" / f"{weights_sha256}.txt"
