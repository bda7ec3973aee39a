"""Where an index lies: a local folder, or a folder of any file system that pyarrow knows."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from mafsar.errors import InputError
from mafsar.extras import require
from mafsar.files import written_beside


class Store:
    """The files of an index by name; a name may have folders in it (`parts/x.arrow`).

    A file appears whole or not at all: locally it is written beside its place and renamed, and an
    object of a store is there when its upload has ended.

    Args:
        place: A folder, or an address as `s3://bucket/folder` or `gs://bucket/folder`.

    Raises:
        UnavailableError: pyarrow is not installed.
        InputError: An address that pyarrow does not know, or that cannot be reached.
    """

    def __init__(self, place: str | Path) -> None:
        require("an index", "pyarrow", extra="index")
        self.place = str(place)
        self._system: Any = None
        self._root = self.place
        if "://" not in self.place:
            return
        from pyarrow import ArrowException, fs

        try:
            self._system, self._root = fs.FileSystem.from_uri(self.place)
        except (ArrowException, OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"{self.place}: not a place for an index ({reason})") from None

    @property
    def folder(self) -> Path | None:
        """The local folder; None for another file system."""
        return Path(self.place) if self._system is None else None

    def names(self, folder: str = "") -> list[str]:
        """Names of the files in a folder of the index, sorted; empty where it is not there."""
        if self._system is None:
            here = Path(self._root) / folder
            found = [path.name for path in here.iterdir()] if here.is_dir() else []
        else:
            from pyarrow import fs

            selector = fs.FileSelector(self._path(folder), allow_not_found=True)
            infos = self._system.get_file_info(selector)
            found = [info.base_name for info in infos if info.type == fs.FileType.File]
        return sorted(name for name in found if not name.startswith("."))

    def exists(self, name: str) -> bool:
        """Whether a file is there."""
        if self._system is None:
            return (Path(self._root) / name).is_file()
        from pyarrow import fs

        return bool(self._system.get_file_info(self._path(name)).type == fs.FileType.File)

    def write(self, name: str, data: Any) -> None:
        """Writes a file from bytes or a buffer of pyarrow; an existing one is replaced."""
        if self._system is None:
            with written_beside(Path(self._root) / name) as temporary, temporary.open("wb") as file:
                file.write(memoryview(data))
            return
        self._system.create_dir(self._path(name).rpartition("/")[0], recursive=True)
        with self._system.open_output_stream(self._path(name)) as file:
            file.write(data)

    def read(self, name: str) -> bytes:
        """The bytes of a file.

        Raises:
            FileNotFoundError: It is not there.
        """
        with self.open(name) as file:
            return bytes(file.read())

    def open(self, name: str) -> Any:
        """A file of pyarrow for reading at any place; a local file is mapped into memory.

        Raises:
            FileNotFoundError: It is not there.
        """
        if self._system is None:
            import pyarrow as pa

            return pa.memory_map(str(Path(self._root) / name))
        return self._system.open_input_file(self._path(name))

    def remove(self, name: str) -> None:
        """Removes a file, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            if self._system is None:
                (Path(self._root) / name).unlink()
            else:
                self._system.delete_file(self._path(name))

    def remove_folder(self, name: str) -> None:
        """Removes an empty folder; nothing where it is not empty, or not there."""
        with contextlib.suppress(OSError):
            if self._system is None:
                (Path(self._root) / name).rmdir()
            elif not self.names(name):
                self._system.delete_dir(self._path(name))

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}".rstrip("/")
