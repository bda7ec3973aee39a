"""A packed data set: a few frames of every clip as JPEG, in one SQLite file.

SQLite is used because a commit survives a kill, one frame can be read without the rest, many
processes can read at once, and every language opens the file. JPEG is used because it decodes three
times as fast as WebP at these sizes, and decoding takes most of the loader's time.

The clip is cut into F equal segments and the frame shown in the middle of each is kept; with F an
odd multiple of the model's T, they include the frames that testing takes. Equal frames are kept
once.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mafsar.data.catalogue import Catalogue, DataClass, assemble
from mafsar.data.labelled import LabelledClip
from mafsar.data.presets import preset
from mafsar.errors import InputError, MismatchError, MissingError, option
from mafsar.video.scan import check_clock

SCHEMA = 1
APPLICATION_ID = 0x4D414653  # "MAFS", in the file's header
MAGIC = b"SQLite format 3\x00"

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


@dataclass(frozen=True)
class StoreSettings:
    """Which frames of a clip are kept, and how.

    Attributes:
        frames: F, the most frames kept of a clip, 1 to 999.
        short_side: Short side of the kept frames, pixels, 32 to 4096; smaller clips are enlarged.
        quality: JPEG quality, 1 to 95.
        ignore_clock: Frames per second that replaced the timestamps of video files, or None.
    """

    frames: int = 24
    short_side: int = 256
    quality: int = 90
    ignore_clock: float | None = None

    def __post_init__(self) -> None:
        for name, value, least, most in (
            ("frames", self.frames, 1, 999),
            ("short_side", self.short_side, 32, 4096),
            ("quality", self.quality, 1, 95),
        ):
            if not least <= value <= most:
                raise InputError(option(**{name: value}), f": must be from {least} to {most}")
        check_clock(self.ignore_clock)


def is_store(path: Path) -> bool:
    """Whether a path is a SQLite file, as every store is."""
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def refuse_foreign(path: Path) -> None:
    """Refuses a SQLite file that another program wrote; an empty file is nobody's.

    Raises:
        InputError: It is no store of any version of mafsar.
    """
    if path.stat().st_size == 0:
        return
    try:
        with closing(_connect(path, "mode=ro")) as connection:
            (application,) = connection.execute("PRAGMA application_id").fetchone()
    except sqlite3.Error as error:
        raise InputError(f"{path}: no packed data set ({error}); name another file") from error
    if application != APPLICATION_ID:
        raise InputError(f"{path}: a SQLite file, but no packed data set; name another file")


def refuse_clock(path: Path, ignore_clock: float | None) -> None:
    """Refuses another clock for a packed data set, whose frames are chosen already.

    Raises:
        InputError: A clock is given.
    """
    if ignore_clock is not None:
        raise InputError(
            option(ignore_clock=ignore_clock),
            f": {path} is packed, and its frames are chosen already; pack the videos again with it",
        )


class Store:
    """Reads a packed data set; can be passed to other processes, which open the file themselves."""

    def __init__(self, path: Path) -> None:
        """Opens a store.

        Raises:
            MissingError: The file does not exist.
            InputError: The file is not a store.
            MismatchError: Its packing was interrupted, or another version wrote it.
        """
        if not path.is_file():
            raise MissingError(f"{path}: no such file; create it with mafsar data pack … -o {path}")
        self.path = path
        self._connection: sqlite3.Connection | None = None
        self._owner = 0
        # A killed packer leaves a journal; only the next packer can roll it back.
        meta: dict[str, str] = {}
        if not path.with_name(f"{path.name}-journal").exists():
            try:
                with closing(_connect(path, "mode=ro")) as connection:
                    meta = read_meta(path, connection)
            except sqlite3.Error as error:
                raise InputError(
                    f"{path}: not a packed data set ({error}); pack it again"
                ) from error
        if meta.get("complete") != "1":
            raise MismatchError(
                f"{path}: its packing is not finished; run the same mafsar data pack again to "
                "continue"
            )
        self.settings = StoreSettings(**json.loads(meta["settings"]))
        self._meta = meta

    def catalogue(self) -> Catalogue:
        """The classes and clips that were packed; clips without frames count as missing."""
        classes = [
            DataClass(label, text, part)
            for label, text, part in self._rows("SELECT label, text, part FROM classes ORDER BY id")
        ]
        clips = [
            LabelledClip(None if problem else self.path, label, name=name, part=part)
            for name, problem, label, part in self._rows(
                "SELECT name, problem, label, part FROM clips JOIN classes ON classes.id = class"
            )
        ]
        named = self._meta["preset"]
        return assemble(
            self._meta["title"],
            self.path,
            classes,
            clips,
            preset=preset(named) if named else None,
        )

    def frame_counts(self) -> dict[tuple[str, str], int]:
        """Number of different frames kept of each clip, by (label, name)."""
        rows = self._rows(
            "SELECT label, name, frames FROM clips JOIN classes ON classes.id = class "
            "WHERE problem IS NULL"
        )
        return {(label, name): len(set(json.loads(frames))) for label, name, frames in rows}

    def duration(self, clip: LabelledClip) -> tuple[float, float | None]:
        """Duration in seconds, and frames per second or None if the clip has no clock.

        Raises:
            MissingError: The clip is not in the store.
        """
        seconds, fps = self._row(clip, "duration_seconds, fps")
        return float(seconds), fps

    def read(self, clip: LabelledClip, segments: Sequence[int]) -> list[bytes]:
        """The JPEGs of segments of a clip.

        Args:
            clip: Of this store's catalogue, or of the data that it was packed from.
            segments: Numbers in [0, F).

        Raises:
            MissingError: The clip is not in the store.
        """
        number, listed = self._row(clip, "clips.id, frames")
        frames = json.loads(listed)
        wanted = [number * self.settings.frames + frames[segment] for segment in segments]
        marks = ",".join("?" * len(set(wanted)))
        found = dict(self._rows(f"SELECT id, jpeg FROM frames WHERE id IN ({marks})", [*{*wanted}]))
        return [found[frame] for frame in wanted]

    def _row(self, clip: LabelledClip, columns: str) -> Any:
        rows = self._rows(
            f"SELECT {columns} FROM clips JOIN classes ON classes.id = class "
            "WHERE label = ? AND name = ? AND problem IS NULL",
            (clip.label, clip.name),
        )
        if not rows:
            raise MissingError(
                f"{self.path}: has no frames of {clip.name} ({clip.label}); pack the data again"
            )
        return rows[0]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_connection": None}

    def close(self) -> None:
        """Closes the file; reading opens it again."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def __del__(self) -> None:
        if getattr(self, "_connection", None) is not None:
            self.close()

    def _rows(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        if self._owner != os.getpid():  # SQLite handles must not be used after a fork
            self.close()
        if self._connection is None:
            self._connection = _connect(self.path, "mode=ro&immutable=1")
            self._owner = os.getpid()
        return self._connection.execute(query, values).fetchall()


def settings_json(settings: StoreSettings) -> str:
    """Settings as the store keeps them; earlier versions know no `ignore_clock`."""
    kept = asdict(settings)
    if settings.ignore_clock is None:
        del kept["ignore_clock"]
    return json.dumps(kept)


def read_meta(path: Path, connection: sqlite3.Connection) -> dict[str, str]:
    """The store's table `meta`.

    Raises:
        InputError: The file is SQLite but not a store.
        MismatchError: Another version of mafsar wrote it.
    """
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID:
        raise InputError(f"{path}: a SQLite file, but not a packed data set; name another file")
    if version != SCHEMA:
        raise MismatchError(
            f"{path}: a store of version {version}, but this mafsar reads {SCHEMA}; pack it again"
        )
    return dict(connection.execute("SELECT key, value FROM meta").fetchall())


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    uri = f"{path.resolve().as_uri()}?{mode}"
    return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
