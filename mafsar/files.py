"""Writing files safely, so that an interrupted process never leaves half a file; hashing files."""

from __future__ import annotations

import contextlib
import math
import os
import re
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from mafsar.errors import InputError, MafsarError, option

if TYPE_CHECKING:
    from numpy.typing import NDArray

Kind = Literal["text", "page", "picture", "video", "bank", "store"]
_LONGEST_NAME = 255  # bytes, on every file system in use
_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?",
}  # fmt: skip
"""numpy's names of the types of safetensors."""
LARGE_ARRAY_BYTES = 64 << 20
"""Arrays of more bytes are kept in files and written piece by piece."""
_PIECE_BYTES = 16 << 20
_ROWS = 1024  # taken of a large array at a time
_HEAD_BYTES = 4096  # that tell what a file is
_CONTROLS = frozenset(range(9)) | frozenset(range(14, 27))  # bytes that no text has
_HASHES: dict[tuple[int, int, int, int], str] = {}


class UnwritableError(InputError, OSError):
    """A file cannot be written; says which, and why."""


def _do_nothing() -> None:
    pass


@contextlib.contextmanager
def locked(path: Path, *, waiting: Callable[[], None] = _do_nothing) -> Iterator[None]:
    """Locks a file or folder against other processes that change it; ends with the process.

    The lock is a file `.NAME.lock` beside it, which is removed afterwards.

    Args:
        path: What is locked, resolved; it need not exist.
        waiting: Called once when another process holds the lock.

    Raises:
        InputError: A link, a folder or a pipe has the lock's name.
        OSError: The parent folder cannot be written.
    """
    import fcntl  # here: readers need no locks, and some systems do not have it

    lock = beside(path, ".lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    while True:
        handle = _open_lock(lock)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            waiting = _do_nothing
            fcntl.flock(handle, fcntl.LOCK_EX)
        if _is_at(handle, lock):
            break
        os.close(handle)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # another user's, which a killed process left
            lock.unlink()
        os.close(handle)


def _open_lock(path: Path) -> int:
    """Opens a lock file, which is made where none is; what somebody else put there is not touched."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        handle = os.open(path, flags, 0o666)
    except PermissionError:  # another user's: a lock needs no right to write
        handle = os.open(path, flags & ~(os.O_RDWR | os.O_CREAT))
    except OSError:
        if path.is_symlink() or path.is_dir():
            raise InputError(f"{path}: not a file, so it is no lock; remove it") from None
        raise
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise InputError(f"{path}: not a regular file, so it is no lock; remove it")
    return handle


def _is_at(handle: int, path: Path) -> bool:
    """Whether the lock file is still at its path: once removed, it locks out nobody."""
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def written_beside(path: Path, *, exclusive: bool = False) -> Iterator[Path]:
    """Gives a temporary path in the same folder, renamed to `path` when the block ends well.

    Args:
        path: The file.
        exclusive: Refuse to replace a file, also one that appears while the block runs.

    Raises:
        InputError: A device, a pipe or a folder, which must not be replaced by a file; or a file
            that exists and `exclusive`.
        UnwritableError: The disk is full, or the folder cannot be written.
    """
    if path.is_symlink():
        path = path.resolve()  # writes the target and keeps the link
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: not a regular file; choose another path")
    temporary = beside(path, f".{os.getpid()}-{os.urandom(4).hex()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if exclusive:
            _put_in_place(temporary, path)
        else:
            temporary.replace(path)
    except OSError as error:
        if isinstance(error, MafsarError):
            raise
        raise UnwritableError(
            f"{path}: cannot be written ({error.strerror or error}); choose another place"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def beside(path: Path, ending: str) -> Path:
    """A hidden name in the same folder; a name too long for more letters is replaced by its hash."""
    name = path.name
    if len(os.fsencode(name)) + len(ending) + 1 > _LONGEST_NAME:
        import hashlib

        name = hashlib.sha256(os.fsencode(name)).hexdigest()[:32]
    return path.with_name(f".{name}{ending}")


def _put_in_place(temporary: Path, path: Path) -> None:
    """Gives a file its name where nothing has it yet, in one step where the file system can."""
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        raise InputError(
            f"{path}: exists already; replace it with ", option(overwrite=True)
        ) from None
    except OSError:  # a file system without hard links
        if path.exists():
            raise InputError(
                f"{path}: exists already; replace it with ", option(overwrite=True)
            ) from None
        temporary.replace(path)


_KINDS_OF_FILE = {
    stat.S_IFIFO: "a pipe (FIFO)",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def irregular(path: Path) -> str | None:
    """What a path is that may give bytes without end or none at all; None for files and folders.

    Links are followed. To be asked before a file is opened: a pipe without a writer blocks already
    then. A path that cannot be looked at is left to whoever opens it.
    """
    try:
        return _KINDS_OF_FILE.get(stat.S_IFMT(path.stat().st_mode))
    except (OSError, ValueError):
        return None


def exists(path: Path) -> bool:
    """Whether a path exists; False also for a name that the system does not take.

    Such are names with a NUL and names over 255 bytes, for which `Path.exists` raises.
    """
    try:
        path.stat()
    except (OSError, ValueError):
        return False
    return True


def is_folder(path: Path) -> bool:
    """Whether a path is a folder; as `exists` for names that the system does not take."""
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def is_file(path: Path) -> bool:
    """Whether a path is a regular file; as `exists` for names that the system does not take."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def refuse_other_kind(path: Path, kind: Kind, name: str = "") -> None:
    """Refuses to replace a file that is neither of a kind nor empty; a damaged one of it is.

    Args:
        path: The file to write; where nothing is there, nothing is refused.
        kind: What is written there.
        name: What messages call it; empty = its path.

    Raises:
        InputError: It is another file.
    """
    if not is_file(path):
        return  # nothing is there, or what is there is refused when it is written
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return  # said when it is written
    what, fits = _KINDS[kind]
    if head and not fits(head):
        raise InputError(
            f"{name or path}: exists and is not {what}, so it is not replaced; name another file"
        )


_KINDS: dict[Kind, tuple[str, Callable[[bytes], bool]]] = {
    "text": ("a text file", lambda head: not _CONTROLS & set(head)),
    "page": ("a page of HTML", lambda head: head.lstrip().lower().startswith(b"<!doctype html")),
    "picture": ("a PNG picture", lambda head: head.startswith(b"\x89PNG\r\n")),
    "video": ("an MP4 video", lambda head: head[4:8] == b"ftyp"),
    "bank": ("a bank", lambda head: b'"__metadata__":{"' in head and b'mafsar"' in head),
    "store": ("a packed data set", lambda head: head.startswith(b"SQLite format 3\0")),
}


def own_files(folder: Path, name: str) -> Iterator[tuple[Path, os.stat_result]]:
    """Yields the regular files of a folder whose whole name fits a regular expression, with their state.

    Links are passed over, and so is a folder that is one: what they lead to is somebody else's.
    """
    for path in plain_entries(folder):
        if re.fullmatch(name, path.name):
            with contextlib.suppress(OSError):  # vanished meanwhile
                state = path.lstat()
                if stat.S_ISREG(state.st_mode):
                    yield path, state


def foreign_entry(folder: Path, own: str) -> str | None:
    """What in a folder is somebody else's, so that the folder must not be replaced as a whole.

    Args:
        folder: The folder. Folders in it count by what is in them; links are entries of their own.
        own: A regular expression that the paths of own files fit, relative to the folder.

    Returns:
        The path of the first other entry within the folder, or None.
    """
    waiting = [folder]
    while waiting:
        for path in sorted(waiting.pop().iterdir()):
            if is_plain_folder(path):
                waiting.append(path)
                continue
            within = path.relative_to(folder).as_posix()
            if not re.fullmatch(own, within):
                return within
    return None


def own_folders(folder: Path, name: str) -> Iterator[Path]:
    """Yields the folders in a folder whose whole name fits a regular expression; links are passed over."""
    for path in plain_entries(folder):
        if re.fullmatch(name, path.name) and is_plain_folder(path):
            yield path


def plain_entries(folder: Path) -> list[Path]:
    """What is in a folder; nothing where it is a link, is missing or cannot be read."""
    if not is_plain_folder(folder):
        return []
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def is_plain_folder(path: Path) -> bool:
    """Whether a path is a folder itself, not a link to one."""
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 text file; see `written_beside`."""
    with written_beside(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_safetensors(
    path: Path,
    tensors: Mapping[str, NDArray[Any]],
    metadata: Mapping[str, str],
    *,
    exclusive: bool = False,
) -> None:
    """Writes named arrays and string metadata as safetensors; see `written_beside`.

    Large ones are written piece by piece, so that arrays that lie in a file need no memory.
    """
    import numpy as np
    from safetensors.numpy import save

    if sum(tensor.nbytes for tensor in tensors.values()) > LARGE_ARRAY_BYTES:
        with written_beside(path, exclusive=exclusive) as temporary, temporary.open("wb") as file:
            _write_large(file, tensors, metadata)
        return
    # `save` takes the bytes of an array as they lie, so a transposed view would come out wrong.
    whole = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    data = save(whole, metadata=dict(metadata))
    with written_beside(path, exclusive=exclusive) as temporary:
        temporary.write_bytes(data)


def _write_large(
    file: IO[bytes], tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]
) -> None:
    """The format of safetensors: length of the header, header, arrays, the widest types first."""
    import json

    import numpy as np

    codes = {np.dtype(numpy_name): code for code, numpy_name in _DTYPES.items()}
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    order = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    at = 0
    for name in order:
        tensor = tensors[name]
        header[name] = {
            "dtype": codes[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [at, at + tensor.nbytes],
        }
        at += tensor.nbytes
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for name in order:
        flat = np.ascontiguousarray(tensors[name]).reshape(-1).view(np.uint8)
        for first in range(0, len(flat), _PIECE_BYTES):
            file.write(flat[first : first + _PIECE_BYTES].data)


def new_array(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """An array of zeros; a large one lies in a temporary file, so that it needs no memory.

    The file has no name and is gone with the array. TMPDIR says where.
    """
    import numpy as np

    count = math.prod(shape) * np.dtype(dtype).itemsize
    if count <= LARGE_ARRAY_BYTES:
        return np.zeros(shape, dtype)
    with tempfile.TemporaryFile(prefix="mafsar-") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, count)
        except OSError:  # no room there: in memory, before a write to the map would end the program
            return np.zeros(shape, dtype)
        return np.memmap(file, dtype, mode="r+", shape=shape).view(np.ndarray)


def take_rows(array: NDArray[Any], rows: NDArray[Any]) -> NDArray[Any]:
    """Some rows of an array: a view where they follow one another, else as `new_array`."""
    if len(rows) and bool((rows[1:] - rows[:-1] == 1).all()):
        first = int(rows[0])
        view: NDArray[Any] = array[first : first + len(rows)]
        return view
    if array.nbytes <= LARGE_ARRAY_BYTES:
        copy: NDArray[Any] = array[rows]
        return copy
    taken = new_array((len(rows), *array.shape[1:]), array.dtype)
    for first in range(0, len(rows), _ROWS):
        taken[first : first + _ROWS] = array[rows[first : first + _ROWS]]
    return taken


def map_safetensors(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a safetensors file, read-only and mapped: what is not looked at is not read.

    The file must have passed the checks of `safetensors.safe_open`.

    Args:
        path: The file; replacing it by another one leaves these arrays as they are.
    """
    import json

    import numpy as np

    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    arrays: dict[str, NDArray[Any]] = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        first, last = entry["data_offsets"]
        dtype, shape = np.dtype(_DTYPES[entry["dtype"]]), tuple(entry["shape"])
        if first == last:
            arrays[name] = np.zeros(shape, dtype)
        else:
            arrays[name] = np.memmap(
                path, dtype, mode="r", offset=8 + length + first, shape=shape
            ).view(np.ndarray)
    return arrays


def file_sha256(path: Path) -> str:
    """Hash of a file's bytes; computed again only for another file, size or time of change."""
    state = path.stat()
    key = (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns)
    if key not in _HASHES:
        import hashlib  # slow to import; most commands hash nothing

        digest = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        _HASHES[key] = digest.hexdigest()
    return _HASHES[key]
