"""Writing files safely, so that an interrupted process never leaves half a file; hashing files."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from mafsar.errors import InputError

_HASHES: dict[tuple[str, int, int], str] = {}


@contextlib.contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """Yields a temporary path in the same folder; renames it to `path` when the block succeeds.

    Raises:
        InputError: `path` is a folder, a device or a pipe.
    """
    if path.is_symlink():
        path = path.resolve()  # writes the target and keeps the link
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: not a regular file; choose another path")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 text file; see `written_beside`."""
    with written_beside(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_safetensors(
    path: Path, tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]
) -> None:
    """Writes named arrays and string metadata as safetensors; see `written_beside`."""
    import numpy as np
    from safetensors.numpy import save

    # `save` writes an array's memory as it lies, so a transposed view would come out wrong.
    contiguous = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    data = save(contiguous, metadata=dict(metadata))
    with written_beside(path) as temporary:
        temporary.write_bytes(data)


def file_sha256(path: Path) -> str:
    """Hash of a file's bytes; computed again only when its size or time of change differs."""
    stat = path.stat()
    key = (str(path.resolve()), stat.st_size, stat.st_mtime_ns)
    if key not in _HASHES:
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        _HASHES[key] = digest.hexdigest()
    return _HASHES[key]
