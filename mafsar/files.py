"""Writing files so that a kill loses nothing, and hashing them once."""

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
    """Gives a temporary path in the same folder, renamed to `path` when the block ends well.

    Raises:
        InputError: A device, a pipe or a folder, which must not be replaced by a file.
    """
    if path.is_symlink():
        path = path.resolve()  # what it leads to is written, the link stays
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: is no regular file; name another place")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 text file beside and renames it."""
    with written_beside(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_safetensors(
    path: Path, tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]
) -> None:
    """Writes named arrays with string metadata beside and renames them."""
    import numpy as np
    from safetensors.numpy import save

    # `save` takes the bytes of an array as they lie, so a transposed view would come out wrong.
    whole = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    data = save(whole, metadata=dict(metadata))
    with written_beside(path) as temporary:
        temporary.write_bytes(data)


def file_sha256(path: Path) -> str:
    """Hash of a file's bytes, computed once a process for one size and time of change."""
    stat = path.stat()
    key = (str(path.resolve()), stat.st_size, stat.st_mtime_ns)
    if key not in _HASHES:
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        _HASHES[key] = digest.hexdigest()
    return _HASHES[key]
