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
from typing import Any, cast

from mafsar.data.catalogue import Catalogue, DataClass, assemble
from mafsar.data.labelled import LabelledClip
from mafsar.data.presets import preset
from mafsar.data.splits import Part
from mafsar.data.store_file import APPLICATION_ID, ClipRow, Reader
from mafsar.errors import InputError, MismatchError, MissingError, option
from mafsar.video.rates import check_clock

MAGIC = b"SQLite format 3\x00"


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
            ((application,),) = connection.execute("PRAGMA application_id").fetchall()
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
        self._reader: Reader | None = None
        self._owner = 0
        # A killed packer leaves a journal; only the next packer can roll it back.
        meta: dict[str, str] = {}
        if not path.with_name(f"{path.name}-journal").exists():
            try:
                with closing(_connect(path, "mode=ro")) as connection:
                    reader = Reader(path, connection)
                    meta = reader.meta()
                    classes = reader.classes()
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
        self._title = meta["title"]
        try:
            self._preset = preset(meta["preset"]) if meta["preset"] else None
        except InputError as error:
            raise InputError(f"{path}: ", error) from error
        self._classes = {
            number: DataClass(label, text, cast(Part, part))
            for number, label, text, part in classes
        }
        self._class_ids = {item.label: number for number, item in self._classes.items()}

    def catalogue(self) -> Catalogue:
        """The classes and clips that were packed; clips without frames count as missing.

        Raises:
            InputError: The file is damaged.
        """
        return assemble(
            self._title,
            self.path,
            list(self._classes.values()),
            [
                LabelledClip(
                    None if row.problem is not None else self.path,
                    item.label,
                    name=row.name,
                    part=item.part,
                )
                for item, row in self._clips()
            ],
            preset=self._preset,
        )

    def frame_counts(self) -> dict[tuple[str, str], int]:
        """Number of different frames kept of each clip, by (label, name)."""
        return {
            (item.label, row.name): len(set(row.shown))
            for item, row in self._clips()
            if row.problem is None
        }

    def duration(self, clip: LabelledClip) -> tuple[float, float | None]:
        """Duration in seconds, and frames per second or None if the clip has no clock.

        Raises:
            MissingError: The clip is not in the store.
            InputError: The file is damaged.
        """
        row = self._row(clip)
        return row.duration_seconds, row.fps

    def read(self, clip: LabelledClip, segments: Sequence[int]) -> list[bytes]:
        """The JPEGs of segments of a clip.

        Args:
            clip: Of this store's catalogue, or of the data that it was packed from.
            segments: Numbers in [0, F).

        Raises:
            MissingError: The clip is not in the store.
            InputError: A frame is missing: the file is damaged.
        """
        row = self._row(clip)
        wanted = [row.id * self.settings.frames + row.shown[segment] for segment in segments]
        marks = ",".join("?" * len(set(wanted)))
        query = f"SELECT id, jpeg FROM frames WHERE id IN ({marks})"
        found = dict(self._open().rows(query, [*{*wanted}]))
        if not all(isinstance(found.get(frame), bytes) for frame in wanted):
            raise InputError(f"{self.path}: frames of {clip.name} are missing; pack the data again")
        return [found[frame] for frame in wanted]

    def _clips(self) -> list[tuple[DataClass, ClipRow]]:
        found = []
        for row in self._open().clips(self.settings.frames):
            if row.class_id not in self._classes:
                raise InputError(
                    f"{self.path}: {row.name} is of a class that is not there; pack the data again"
                )
            found.append((self._classes[row.class_id], row))
        return found

    def _row(self, clip: LabelledClip) -> ClipRow:
        values = (self._class_ids.get(clip.label), clip.name)
        rows = self._open().clips(self.settings.frames, "WHERE class = ? AND name = ?", values)
        if not rows or rows[0].problem is not None:
            raise MissingError(
                f"{self.path}: has no frames of {clip.name} ({clip.label}); pack the data again"
            )
        return rows[0]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_reader": None}

    def close(self) -> None:
        """Closes the file; reading opens it again."""
        if self._reader is not None:
            self._reader.connection.close()
        self._reader = None

    def __del__(self) -> None:
        if getattr(self, "_reader", None) is not None:
            self.close()

    def _open(self) -> Reader:
        if self._owner != os.getpid():  # SQLite handles must not be used after a fork
            self.close()
        if self._reader is None:
            self._reader = Reader(self.path, _connect(self.path, "mode=ro&immutable=1"))
            self._owner = os.getpid()
        return self._reader


def settings_json(settings: StoreSettings) -> str:
    """Settings as the store keeps them; earlier versions know no `ignore_clock`."""
    kept = asdict(settings)
    if settings.ignore_clock is None:
        del kept["ignore_clock"]
    return json.dumps(kept)


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    uri = f"{path.resolve().as_uri()}?{mode}"
    return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
