"""Changing bank files in place, so that two processes that do so at once both get their way."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from mafsar.errors import InputError
from mafsar.files import locked
from mafsar.runtime.bank.bank import Bank, read_bank
from mafsar.runtime.bank.edit import added, merge_banks, remove


def _do_nothing() -> None:
    pass


def save_added(
    path: Path,
    before: Bank,
    after: Bank,
    *,
    images: bool = True,
    waiting: Callable[[], None] = _do_nothing,
) -> Bank:
    """Writes a bank that clips were added to over the bank it was made of.

    What other processes have done to the file since `before` was read is kept.

    Args:
        path: The bank's file.
        before: The bank as it was read from there.
        after: The same with more clips.
        images: As `Bank.save`.
        waiting: Called once when another process is at the file.

    Returns:
        The bank that is in the file now.

    Raises:
        InputError: A class that was added has another text in the file now, or the folder cannot
            be written.
        MismatchError: The file holds a bank of another model now.
    """
    path = path.resolve()
    with _locks([path], waiting):
        if path.exists():
            now = read_bank(path)
            if now.same_content(before):
                now = after
            elif (extra := added(before, after)) is not None:
                now = merge_banks(now, extra)
        else:
            now = after
        now = replace(now, added_to=None)
        now.save(path, images=images, overwrite=True)
    return now


def remove_in_place(
    paths: Sequence[Path],
    *,
    class_names: Sequence[str] = (),
    clip_names: Sequence[str] = (),
    waiting: Callable[[], None] = _do_nothing,
) -> list[Bank]:
    """Removes classes and clips from bank files; none is written where one lacks what is named.

    Args:
        paths: The files.
        class_names: As `edit.remove`.
        clip_names: As `edit.remove`.
        waiting: Called once when another process is at one of the files.

    Returns:
        The smaller banks.

    Raises:
        MissingError: A name is not in one of the banks.
        InputError: Nothing is named, nothing would be left, or a folder cannot be written.
    """
    with _locks([path.resolve() for path in paths], waiting):
        smaller = [
            remove(read_bank(path), class_names=class_names, clip_names=clip_names)
            for path in paths
        ]
        for path, bank in zip(paths, smaller, strict=True):
            bank.save(path, overwrite=True)
    return smaller


@contextlib.contextmanager
def _locks(paths: Sequence[Path], waiting: Callable[[], None]) -> Iterator[None]:
    """Locks files in one order, so that two processes cannot wait for each other."""
    with contextlib.ExitStack() as stack:
        for path in sorted(set(paths)):
            try:
                stack.enter_context(locked(path, waiting=waiting))
            except OSError as error:
                raise InputError(
                    f"{path}: its folder cannot be written ({error.strerror}); choose another place"
                ) from error
        yield
