"""Opening a packed data set that somebody else made: what its file may hold, and reading in bounds.

SQLite trusts the schema of a file, and a schema can compute: a view or a trigger may run without
end. So the schema must be word for word that of a store. A file of a few pages can also claim
rows without end, by pages that refer to each other. So reading stops where a statement takes more
steps, or gives more, than a file of this size can hold.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mafsar.documents import items, number, one_of, optional, parse_json, record, text, whole
from mafsar.errors import InputError, MismatchError
from mafsar.video.rates import HIGHEST_FPS, LOWEST_FPS

SCHEMA = 1
APPLICATION_ID = 0x4D414653  # "MAFS", in the file's header

TABLES = """
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE classes(id INTEGER PRIMARY KEY, label TEXT NOT NULL, text TEXT, part TEXT NOT NULL);
CREATE TABLE clips(
  id INTEGER PRIMARY KEY, class INTEGER NOT NULL REFERENCES classes(id), name TEXT NOT NULL,
  duration_seconds REAL, fps REAL, frames TEXT, problem TEXT, UNIQUE(class, name)
);
CREATE TABLE frames(id INTEGER PRIMARY KEY, jpeg BLOB NOT NULL);
"""
"""`clips.frames` is a JSON list: the number of the frame that each of the F segments shows; frame k
of clip c has the id c·F + k. `clips.problem` says why a clip has no frames."""

_STEPS = (
    10_000_000  # of SQLite's machine that every statement may take, besides 2 a byte of the file
)
_STEPS_AT_ONCE = 100_000
_ROW_BYTES = 3  # a row of a page takes at least so many
_LONGEST_VALUE = 64 << 20  # bytes
_LONGEST_TEXT = 10_000
_LAST_ID = 1 << 50
_SETTINGS = record(
    {"frames": whole(1, 999), "short_side": whole(32, 4096), "quality": whole(1, 95)},
    {"ignore_clock": number(least=LOWEST_FPS, most=HIGHEST_FPS)},
)
_META = record(
    {
        "title": text(longest=_LONGEST_TEXT),
        "preset": text(longest=100),
        "settings": text(longest=1000),
        "complete": one_of("0", "1"),
    },
    open_to_more=True,
)
_PATH = text(pattern=r"[^\0]+", longest=4096, wanted="a text that is not empty")
_CLASS = record(
    {
        "id": whole(0, _LAST_ID),
        "label": _PATH,
        "text": optional(text(longest=_LONGEST_TEXT)),
        "part": one_of("train", "val", "test"),
    }
)
_CLIP = record(
    {
        "id": whole(0, _LAST_ID),
        "class": whole(0, _LAST_ID),
        "name": _PATH,
        "duration_seconds": optional(number(least=0.0)),
        "fps": optional(number(above=0.0)),
        "frames": optional(text(longest=_LONGEST_TEXT)),
        "problem": optional(text(longest=1 << 20)),
    }
)


@dataclass(frozen=True)
class ClipRow:
    """A clip as the table `clips` has it, checked.

    Attributes:
        id: Its number; its frames have the ids from id·F on.
        class_id: The number of its class.
        name: Its name.
        duration_seconds: Of the part that was packed.
        fps: Frames per second, or None.
        shown: Which of its frames each of the F segments shows.
        problem: Why it has no frames, or None.
    """

    id: int
    class_id: int
    name: str
    duration_seconds: float
    fps: float | None
    shown: tuple[int, ...]
    problem: str | None


CLIP_COLUMNS = "id, class, name, duration_seconds, fps, frames, problem"


class Reader:
    """Reads a store's tables; every statement ends, and gives no more than the file holds.

    Attributes:
        path: The file.
        connection: Its open connection.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        """Guards a connection until `release`."""
        self.path = path
        self.connection = connection
        self._size = path.stat().st_size
        self._left = 0
        connection.execute("PRAGMA trusted_schema = OFF")
        if hasattr(connection, "setlimit"):  # Python 3.11
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST_VALUE)
        connection.set_progress_handler(self._takes_too_long, _STEPS_AT_ONCE)

    def release(self) -> None:
        """Lets the connection take as long as it needs, for writing."""
        self.connection.set_progress_handler(None, 0)

    def _takes_too_long(self) -> bool:
        self._left -= _STEPS_AT_ONCE
        return self._left < 0

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query of one table.

        Raises:
            InputError: The file is damaged, or gives more than it can hold.
        """
        self._left = _STEPS + 2 * self._size
        found: list[tuple[Any, ...]] = []
        given = 0
        try:
            for row in self.connection.execute(query, values):
                given += _ROW_BYTES + sum(len(v) for v in row if isinstance(v, (str, bytes)))
                if given > self._size:
                    raise self._damaged("its pages refer to each other without end")
                found.append(row)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            why = "its pages refer to each other without end" if self._left < 0 else error
            raise self._damaged(why) from error
        return found

    def meta(self) -> dict[str, str]:
        """The checked table `meta`, after the schema of the file.

        Raises:
            InputError: The file is SQLite but not a store, or is damaged.
            MismatchError: Another version of mafsar wrote it.
        """
        ((application,),) = self.rows("PRAGMA application_id")
        ((version,),) = self.rows("PRAGMA user_version")
        if application != APPLICATION_ID:
            raise InputError(
                f"{self.path}: a SQLite file, but not a packed data set; name another file"
            )
        if version != SCHEMA:
            raise MismatchError(
                f"{self.path}: a store of version {version}, but this mafsar reads {SCHEMA}; pack "
                "it again"
            )
        self._check_schema()
        meta = dict(self.rows("SELECT key, value FROM meta"))
        self._check(_META, meta, "meta")
        self._check(_SETTINGS, self._json(meta["settings"], "meta.settings"), "meta.settings")
        return meta

    def classes(self) -> list[tuple[int, str, str | None, str]]:
        """The rows (id, label, text, part) of the table `classes`, by id.

        Raises:
            InputError: A row is not what it should be, or a label is there twice.
        """
        found = self.rows("SELECT id, label, text, part FROM classes ORDER BY id")
        for row in found:
            self._check(
                _CLASS, dict(zip(("id", "label", "text", "part"), row, strict=True)), "classes"
            )
        if len({row[1] for row in found}) < len(found):
            raise self._damaged("a class is there twice")
        return found

    def clips(self, frames: int, where: str = "", values: Sequence[Any] = ()) -> list[ClipRow]:
        """Rows of the table `clips`.

        Args:
            frames: F, of the settings.
            where: The end of the statement.
            values: Of its question marks.

        Raises:
            InputError: A row is not what it should be.
        """
        names = ("id", "class", "name", "duration_seconds", "fps", "frames", "problem")
        found = []
        for row in self.rows(f"SELECT {CLIP_COLUMNS} FROM clips {where}", values):
            entry = dict(zip(names, row, strict=True))
            self._check(_CLIP, entry, "clips")
            shown: tuple[int, ...] = ()
            if entry["problem"] is None:
                listed = self._json(entry["frames"] or "", "clips.frames")
                self._check(items(whole(0, frames - 1), frames, frames), listed, "clips.frames")
                shown = tuple(listed)
            found.append(
                ClipRow(
                    entry["id"],
                    entry["class"],
                    entry["name"],
                    float(entry["duration_seconds"] or 0.0),
                    entry["fps"],
                    shown,
                    entry["problem"],
                )
            )
        return found

    def _check_schema(self) -> None:
        """Refuses every schema but that of `TABLES`."""
        found = self.rows("SELECT type, name, sql FROM sqlite_master")
        tables = {" ".join(str(sql).split()) for kind, _, sql in found if kind == "table"}
        others = [
            str(name)[:100]
            for kind, name, sql in found
            if kind != "table" and not (kind == "index" and sql is None)
        ]
        if others:
            raise self._damaged(f"it has {others[0]!r}, which no store has")
        wanted = {" ".join(each.split()) for each in TABLES.split(";") if each.strip()}
        if tables != wanted:
            raise self._damaged("its tables are not those of a store")

    def _json(self, value: str, where: str) -> Any:
        try:
            return parse_json(value, where)
        except InputError as error:
            raise self._damaged(error) from error

    def _check(self, check: Any, value: Any, where: str) -> None:
        try:
            check(value, where)
        except InputError as error:
            raise self._damaged(error) from error

    def _damaged(self, why: object) -> InputError:
        return InputError(f"{self.path}: not a packed data set, or damaged ({why}); pack it again")
