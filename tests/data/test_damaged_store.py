"""Packed data sets that somebody changed: one line says so; nothing runs, hangs or grows."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mafsar.data.check import check_clips
from mafsar.data.folders import read_own
from mafsar.data.frames import StoredFrames
from mafsar.data.pack import pack
from mafsar.data.store import Store, StoreSettings
from mafsar.errors import MafsarError

SMALL = StoreSettings(frames=8, short_side=32, quality=90)
ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory, numbered_tree: Path) -> Path:
    path = tmp_path_factory.mktemp("store") / "s.sqlite"
    pack(read_own(numbered_tree), path, SMALL)
    return path


def use(path: Path) -> None:
    """Everything that reads a store."""
    store = Store(path)
    try:
        catalogue = store.catalogue()
        list(check_clips(catalogue, frames=8))
        for clip in catalogue.clips:
            store.duration(clip)
            StoredFrames(store).testing(clip, frames=8, size=32)
            rng = np.random.default_rng(0)
            StoredFrames(store).training(clip, frames=8, short_side=36, rng=rng)
    finally:
        store.close()


def replaced(table: str, body: str) -> Callable[[sqlite3.Connection], None]:
    """A table whose place a view takes."""

    def change(connection: sqlite3.Connection) -> None:
        connection.execute(f"ALTER TABLE {table} RENAME TO old_{table}")
        connection.execute(f"CREATE VIEW {table} AS {body}")

    return change


def statement(*lines: str) -> Callable[[sqlite3.Connection], None]:
    def change(connection: sqlite3.Connection) -> None:
        for line in lines:
            connection.execute(line)

    return change


def of_setting(**values: object) -> Callable[[sqlite3.Connection], None]:
    text = json.dumps({"frames": 8, "short_side": 32, "quality": 90} | values)
    return statement(f"UPDATE meta SET value = '{text}' WHERE key = 'settings'")


SCHEMAS = {
    "endless meta": replaced("meta", f"{ENDLESS} SELECT 'k' || i AS key, 'v' AS value FROM n"),
    "endless classes": replaced(
        "classes",
        f"{ENDLESS} SELECT i AS id, 'a' || i AS label, '' AS text, 'train' AS part FROM n",
    ),
    "large value": replaced("meta", "SELECT 'title' AS key, zeroblob(900000000) AS value"),
    "view beside": statement(f"CREATE VIEW other AS {ENDLESS} SELECT i FROM n"),
    "trigger": statement(
        "CREATE TRIGGER t AFTER INSERT ON clips BEGIN DELETE FROM frames; END",
    ),
    "index on an expression": statement("CREATE INDEX i ON clips(abs(class))"),
    "generated column": statement(
        "ALTER TABLE classes ADD COLUMN more AS (hex(zeroblob(400000000)))"
    ),
    "another column": statement("ALTER TABLE clips ADD COLUMN more"),
    "no table": statement("DROP TABLE frames"),
    "virtual table": statement("CREATE VIRTUAL TABLE v USING fts5(x)"),
}
VALUES = {
    "no title": statement("DELETE FROM meta WHERE key = 'title'"),
    "settings": statement("UPDATE meta SET value = '[' || '[' WHERE key = 'settings'"),
    "deep settings": statement(
        f"UPDATE meta SET value = '{'[' * 900}' WHERE key = 'settings'",
    ),
    "no frames": of_setting(frames=0),
    "frames of text": of_setting(frames="8"),
    "another frame count": of_setting(frames=7),
    "more settings": of_setting(colour=1),
    "preset": statement("UPDATE meta SET value = 'nothing' WHERE key = 'preset'"),
    "bytes as a label": statement("UPDATE classes SET label = x'ff00ff' WHERE id = 1"),
    "label that is not UTF-8": statement(
        "UPDATE classes SET label = CAST(x'ff41ff' AS TEXT) WHERE id = 1"
    ),
    "part": statement("UPDATE classes SET part = 'all'"),
    "class twice": statement("UPDATE classes SET label = 'run' WHERE label = 'sit'"),
    "class that is not there": statement("UPDATE clips SET class = 99 WHERE id = 3"),
    "class of text": statement("UPDATE clips SET class = 'x' WHERE id = 3"),
    "shown": statement("UPDATE clips SET frames = '[0,1,2,3,4,5,6,99]'"),
    "shown twice": statement("UPDATE clips SET frames = '[0,1]'"),
    "shown nothing": statement("UPDATE clips SET frames = NULL"),
    "shown text": statement("""UPDATE clips SET frames = '["a"]'"""),
    "shown deep": statement(f"UPDATE clips SET frames = '{'[' * 9000}'"),
    "duration": statement("UPDATE clips SET duration_seconds = -1.0"),
    "endless duration": statement("UPDATE clips SET duration_seconds = 9e999"),
    "fps": statement("UPDATE clips SET fps = 'fast'"),
    "no such frame": statement("DELETE FROM frames WHERE id = 8"),
    "frame of text": statement("UPDATE frames SET jpeg = 'text' WHERE id = 8"),
    "frame that is not JPEG": statement("UPDATE frames SET jpeg = x'47494638396100' WHERE id = 8"),
    "half a frame": statement("UPDATE frames SET jpeg = substr(jpeg, 1, 400)"),
    "empty frame": statement("UPDATE frames SET jpeg = x'' WHERE id = 8"),
}


@pytest.mark.parametrize("name", [*SCHEMAS, *VALUES])
def test_a_changed_store_is_refused_in_one_line(packed: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / "s.sqlite"
    shutil.copy(packed, path)
    connection = sqlite3.connect(path)
    (SCHEMAS | VALUES)[name](connection)
    connection.commit()
    connection.close()
    began = time.process_time()  # a busy machine takes longer by the clock
    with pytest.raises(MafsarError) as caught:
        use(path)
    assert time.process_time() - began < 5
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("name", [*SCHEMAS, "class of text", "shown", "settings", "part"])
def test_packing_does_not_continue_a_changed_store(
    packed: Path, tmp_path: Path, numbered_tree: Path, name: str
) -> None:
    path = tmp_path / "s.sqlite"
    shutil.copy(packed, path)
    connection = sqlite3.connect(path)
    (SCHEMAS | VALUES)[name](connection)
    connection.commit()
    connection.close()
    before = path.read_bytes()
    with pytest.raises(MafsarError, match=r"s\.sqlite"):
        pack(read_own(numbered_tree), path, SMALL)
    assert path.read_bytes() == before


def test_pages_that_refer_to_each_other_end(packed: Path, tmp_path: Path) -> None:
    """Twelve levels of 30 children that are one and the same page: 30¹² rows in some kilobytes."""
    path = tmp_path / "s.sqlite"
    shutil.copy(packed, path)
    connection = sqlite3.connect(path)
    (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name='clips'").fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.close()
    data = bytearray(path.read_bytes())
    leaf = bytes(data[(root - 1) * size : root * size])
    count = len(data) // size
    pages = [leaf]
    for level in range(11):
        pages.append(interior(size, count + level + 1))
    data[(root - 1) * size : root * size] = interior(size, count + len(pages))
    data += b"".join(pages)
    data[28:32] = (count + len(pages)).to_bytes(4, "big")
    path.write_bytes(data)
    check = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    rows = check.execute("SELECT fps FROM clips")
    assert sum(1 for _ in zip(range(100_000), rows, strict=False)) == 100_000
    check.close()
    began = time.process_time()  # a busy machine takes longer by the clock
    with pytest.raises(MafsarError, match="refer to each other"):
        use(path)
    assert time.process_time() - began < 5


def interior(size: int, child: int) -> bytes:
    """A page of a table with 30 children, all of them the same."""
    cells = b"".join(child.to_bytes(4, "big") + bytes([key + 1]) for key in range(30))
    head = b"\x05\0\0" + (30).to_bytes(2, "big") + (size - len(cells)).to_bytes(2, "big") + b"\0"
    head += child.to_bytes(4, "big")
    head += b"".join((size - len(cells) + 5 * k).to_bytes(2, "big") for k in range(30))
    return head + bytes(size - len(cells) - len(head)) + cells


def test_flipped_bytes_are_answers_or_one_line(packed: Path, tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    whole = packed.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(60):
        data = bytearray(whole)
        for place in rng.integers(0, len(data) if rng.random() < 0.5 else 4096, 8).tolist():
            data[place] = int(rng.integers(256))
        path.write_bytes(data)
        began = time.process_time()  # a busy machine takes longer by the clock
        with contextlib.suppress(MafsarError):
            use(path)
        assert time.process_time() - began < 10
