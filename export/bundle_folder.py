"""Puts a bundle's folder in place: by one process at a time, complete or not at all (no torch)."""

from __future__ import annotations

import ctypes
import errno
import glob
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mafsar.errors import InputError, option
from mafsar.files import locked as locked_place

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # of Linux's renameat2
_UNWRITABLE = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR, errno.EEXIST,
}  # fmt: skip
_BESIDE = ("part", "fresh", "tokenizer", "old")  # suffixes of temporary files beside a bundle


def _do_nothing() -> None:
    pass


@contextmanager
def locked(place: Path, *, waiting: Callable[[], None] = _do_nothing) -> Iterator[None]:
    """Locks a bundle's folder against other processes; the lock ends with the process.

    Temporary files that a killed process left beside the folder are removed, and a bundle that it
    had moved away is put back.

    Args:
        place: The bundle's folder, resolved; it need not exist.
        waiting: Called once when another process holds the lock.

    Raises:
        OSError: The parent folder cannot be written.
    """
    with locked_place(place, waiting=waiting):
        _recover(place)
        yield


def unwritable(place: Path, error: OSError, *remedy: object) -> Exception:
    """The exception to raise for an error of the file system.

    Args:
        place: The folder that was written to.
        error: The error.
        remedy: What to do instead, as parts of a message; without any, to choose another `out`.

    Returns:
        InputError where the folder cannot be written, else `error` itself.
    """
    if error.errno in _UNWRITABLE:
        remedy = remedy or ("choose another ", option("out"))
        return InputError(f"{place}: cannot be written ({error.strerror}); ", *remedy)
    return error


def replace_folder(new: Path, out: Path) -> None:
    """Replaces the folder `out` by `new`, in one step where the file system can."""
    if not out.exists():
        new.rename(out)
    elif _exchange(new, out):
        shutil.rmtree(new)
    else:
        old = out.with_name(f".{out.name}.{os.getpid()}.old")
        out.rename(old)
        new.rename(out)
        shutil.rmtree(old)


def _exchange(a: Path, b: Path) -> bool:
    """Swaps two folders in one step; False where that is not possible."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        return False
    words = _AT_FDCWD, os.fsencode(a), _AT_FDCWD, os.fsencode(b), _RENAME_EXCHANGE
    return bool(rename(*words) == 0)


def _recover(place: Path) -> None:
    beside = f"{glob.escape(f'.{place.name}')}.*."
    olds = sorted(place.parent.glob(f"{beside}old"), key=lambda path: path.stat().st_mtime)
    if olds and not place.exists():
        olds[-1].rename(place)
    for ending in _BESIDE:
        for path in place.parent.glob(beside + ending):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
