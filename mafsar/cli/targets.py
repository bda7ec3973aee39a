"""One check of all outputs of a run, before any work: against its inputs and each other."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from mafsar.errors import InputError, MafsarError
from mafsar.files import Kind, exists, irregular, is_file, is_folder, refuse_other_kind

Outputs = Mapping[str, Path | Sequence[Path] | None]
_MOST_NAMED = 8  # files of one folder that a refusal names
_LONGEST_NAME = 255  # bytes
_MODEL_FILES = ("bundle.json", "adapters.safetensors", "config.toml")
_SUPPORT_FILES = ("labels.csv", "metadata.csv", "metadata.jsonl")


def check_outputs(
    outputs: Outputs,
    overwrite: bool,
    *,
    inputs: Mapping[str, Iterable[str | Path | None]] | None = None,
    kinds: Mapping[str, Kind] | None = None,
    growing: Outputs | None = None,
) -> None:
    """Stops before any work where an output would destroy something.

    Args:
        outputs: Output, or outputs in one folder, by flag. A folder exists where it is not empty.
        overwrite: The user's ``--overwrite``.
        inputs: What the run reads, by the word for it: "the query", "the support".
        kinds: What each flag writes; a page for ``--report`` and "text" for others where it is not
            named. With ``--overwrite``, too, only a file of the same kind is replaced.
        growing: Outputs that are appended to, so that they may exist.

    Raises:
        InputError: Two outputs are the same file; one is an input, or lies in a frame folder that
            is one; one exists, and is something else or `overwrite` is False.
    """
    listed = [
        (flag, path)
        for flag, value in {**outputs, **(growing or {})}.items()
        for path in ([] if value is None else [value] if isinstance(value, Path) else value)
    ]
    kinds = kinds or {}
    refuse_places(listed)
    _refuse_the_same(listed)
    _refuse_inputs(listed, inputs or {}, kinds)
    if not overwrite:
        refuse_existing(outputs)
    for flag, path in listed:
        if path.name in _MODEL_FILES and is_file(path):
            raise InputError(f"{flag} {path}: belongs to a bundle or a run; name another file")
        kind = kinds.get(flag, "page" if flag == "--report" else "text")
        refuse_other_kind(path, kind, f"{flag} {path}")


def refuse_places(listed: Iterable[tuple[str, Path]]) -> None:
    """Refuses outputs that could not be written, by writing beside them.

    A folder is made where only the last one of a path is missing: more than that is a typing error.

    Raises:
        InputError: A name is too long, a folder is missing, or nothing can be written there.
    """
    seen: set[Path] = set()
    for flag, path in listed:
        length = len(os.fsencode(path.name))
        if length > _LONGEST_NAME or "\0" in str(path):
            raise InputError(
                f"{flag} {str(path)[:60]}…: its name has {length} bytes, and a file system takes up "
                f"to {_LONGEST_NAME} and no NUL; choose a shorter one"
            )
        folder = path.parent
        if not exists(folder):
            folder = folder.parent
        if folder in seen or irregular(path) is not None:
            continue
        seen.add(folder)
        if not is_folder(folder):
            raise InputError(
                f"{flag} {path}: there is no folder {folder}; make it first, or check the path"
            )
        _try_to_write(flag, path, folder)


def _try_to_write(flag: str, path: Path, folder: Path) -> None:
    trial = folder / f".mafsar-{os.getpid()}-{os.urandom(4).hex()}.part"
    try:
        trial.touch(exist_ok=False)
    except OSError as problem:
        raise InputError(
            f"{flag} {path}: cannot be written in {folder} ({problem.strerror}); choose another "
            "place"
        ) from None
    finally:
        with contextlib.suppress(OSError):
            trial.unlink()


def refuse_existing(outputs: Outputs) -> None:
    """Raises one InputError that names all outputs that exist."""
    found: list[str] = []
    for flag, value in outputs.items():
        each = [] if value is None else [value] if isinstance(value, Path) else list(value)
        there = [str(path) for path in each if _exists(path)]
        if there:
            left = len(there) - _MOST_NAMED
            more = f" and {left} more" if left > 0 else ""
            found.append(f"{flag} {', '.join(there[:_MOST_NAMED])}{more}")
    if found:
        one = len(found) == 1 and "," not in found[0]
        verb, them = ("exists", "it") if one else ("exist", "them")
        raise InputError(
            f"{'; '.join(found)}: {verb} already; add --overwrite (-y) to replace {them}"
        )


def identity(path: Path) -> object:
    """The same for two paths of one file, whether it is there or not."""
    try:
        state = path.stat()
    except (OSError, ValueError):
        return os.path.realpath(path)  # links of its folders are followed, it need not exist
    return state.st_dev, state.st_ino


def _exists(path: Path) -> bool:
    return path.is_file() or (path.is_dir() and any(path.iterdir()))


def _refuse_the_same(listed: Sequence[tuple[str, Path]]) -> None:
    seen: dict[object, str] = {}
    for flag, path in listed:
        key = identity(path)
        if key in seen:
            raise InputError(f"{flag} {path}: the same file as that of {seen[key]}; name two files")
        seen[key] = flag


def _refuse_inputs(
    listed: Sequence[tuple[str, Path]],
    inputs: Mapping[str, Iterable[str | Path | None]],
    kinds: Mapping[str, Kind],
) -> None:
    if not listed:
        return
    some_exist = any(is_file(path) for _, path in listed)
    held: dict[object, str] = {}
    for word, paths in inputs.items():
        for given in paths:
            for each in _files_of(given, listed=some_exist):
                held.setdefault(identity(each), word)
    for flag, path in listed:
        if identity(path) in held:
            # `match` writes these into a folder, and `watch` a file for each source.
            raise InputError(
                f"{flag} {path}: would replace {held[identity(path)]}; name another "
                f"{'place' if flag in ('--plot', '--save-video') else 'file'}"
            )
        # What else is in a folder of clips is a clip, where pictures or videos are written.
        replaces = kinds.get(flag) in ("picture", "video") and is_file(path)
        parent = path.parent
        while parent != parent.parent:
            what = held.get(identity(parent))
            if what is not None and _is_frame_folder(path.parent):
                raise InputError(
                    f"{flag} {path}: would be written among the frames of {what}; name another "
                    "folder"
                )
            if what is not None and replaces:
                raise InputError(
                    f"{flag} {path}: would replace a file of {what}; name another folder"
                )
            parent = parent.parent


def _files_of(path: str | Path | None, *, listed: bool) -> Iterator[Path]:
    """An input, and the files in it that an output could replace.

    Args:
        path: The input.
        listed: Whether to read which clips a list names.
    """
    if path is None:
        return
    path = Path(path)
    yield path
    if is_folder(path):
        yield from (path / name for name in (*_MODEL_FILES, *_SUPPORT_FILES))
    elif listed and is_file(path):
        yield from _listed_in(path)


def _listed_in(path: Path) -> Iterator[Path]:
    from mafsar.data.clip_lists import LIST_ENDINGS, read_clip_list

    if path.suffix.lower() in LIST_ENDINGS:
        with contextlib.suppress(MafsarError):  # said when it is read
            yield from (row.path for row in read_clip_list(path).rows)


def _is_frame_folder(path: Path) -> bool:
    from mafsar.video.frame_folder import is_frame_folder

    try:
        return is_frame_folder(path)
    except OSError:
        return False
