"""Packed data sets: the right frames, no loss by a kill, no mixing of data or settings."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mafsar.data.folders import read_own
from mafsar.data.frames import StoredFrames
from mafsar.data.pack import pack
from mafsar.data.standard import read_standard
from mafsar.data.store import Store, StoreSettings
from mafsar.errors import InputError, MismatchError, MissingError
from mafsar.video import load_clip

SMALL = StoreSettings(frames=24, short_side=48, quality=95)
Numbers = Callable[[np.ndarray], list[int]]


def rows(path: Path) -> list[tuple[str, str, list[bytes]]]:
    """(label, name, JPEG of each segment) of a store, read with SQL alone."""
    connection = sqlite3.connect(path)
    frames = dict(connection.execute("SELECT id, jpeg FROM frames"))
    (settings,) = connection.execute("SELECT value FROM meta WHERE key = 'settings'").fetchone()
    kept = json.loads(settings)["frames"]
    listed = connection.execute(
        "SELECT label, name, clips.id, frames FROM clips JOIN classes ON classes.id = class "
        "WHERE problem IS NULL ORDER BY label, name"
    ).fetchall()
    connection.close()
    return [
        (label, name, [frames[number * kept + shown] for shown in json.loads(order)])
        for label, name, number, order in listed
    ]


def test_what_is_kept(tmp_path: Path, numbered_tree: Path) -> None:
    result = pack(read_own(numbered_tree), tmp_path / "s.sqlite", SMALL)
    assert (result.packed, result.kept, result.unreadable, result.missing) == (24, 0, (), ())
    assert result.frames == 18 * 24 + 6 * 5  # the same frame is kept once
    assert all(len(jpegs) == 24 for _, _, jpegs in rows(tmp_path / "s.sqlite"))


def test_a_store_does_not_say_where_its_clips_were(tmp_path: Path, numbered_tree: Path) -> None:
    pack(read_own(numbered_tree), tmp_path / "s.sqlite", SMALL)
    assert str(numbered_tree.parent).encode() not in (tmp_path / "s.sqlite").read_bytes()
    assert Store(tmp_path / "s.sqlite").catalogue().title == numbered_tree.name


@pytest.mark.parametrize("clip", [0, 3])
@pytest.mark.parametrize("kept", [24, 40])
def test_testing_frames_are_those_of_direct_decoding(
    tmp_path: Path, numbered_tree: Path, numbers_of: Numbers, clip: int, kept: int
) -> None:
    path = tmp_path / "s.sqlite"
    pack(read_own(numbered_tree), path, StoreSettings(kept, 48, 95))
    store = Store(path)
    stored = next(item for item in store.catalogue().clips if item.name == f"clap/{clip}.mp4")
    pixels = StoredFrames(store).testing(stored, frames=8, size=32)
    direct = load_clip(numbered_tree / "clap" / f"{clip}.mp4", frames=8, size=32).pixels
    # docs/method.md: middle of segment i of the duration, last timestamp ≤ t; 10 frames a second.
    count = 5 if clip == 3 else 24
    expected = [int(np.floor((i + 0.5) * count / 8 + 1e-9)) for i in range(8)]
    assert numbers_of(direct) == expected
    assert numbers_of(pixels) == expected
    assert np.abs(pixels.astype(int) - direct.astype(int)).max() <= 3
    store.close()


def test_random_moments_stay_in_their_segments(
    tmp_path: Path, numbered_tree: Path, numbers_of: Numbers
) -> None:
    path = tmp_path / "s.sqlite"
    pack(read_own(numbered_tree), path, SMALL)
    source = StoredFrames(Store(path))
    clip = next(item for item in Store(path).catalogue().clips if item.name == "clap/0.mp4")
    rng = np.random.default_rng(0)
    drawn = np.array(
        [numbers_of(source.training(clip, frames=8, short_side=48, rng=rng)) for _ in range(200)]
    )
    # 24 frames in 8 segments: segment i holds frames 3i, 3i + 1, 3i + 2, each kept.
    assert (drawn // 3 == np.arange(8)).all()
    shares = np.stack([(drawn % 3 == k).mean(axis=0) for k in range(3)])
    assert (np.abs(shares - 1 / 3) < 4 * np.sqrt(2 / 9 / 200)).all()


def test_catalogue_and_order_are_those_of_the_data(tmp_path: Path, numbered_tree: Path) -> None:
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"train": ["clap", "run"], "val": ["sit"], "test": ["PlayGolf"]}))
    data = read_own(numbered_tree, split)
    pack(data, tmp_path / "s.sqlite", SMALL)
    packed = Store(tmp_path / "s.sqlite").catalogue()
    assert packed.classes == data.classes
    assert [(clip.name, clip.label, clip.part) for clip in packed.clips] == [
        (clip.name, clip.label, clip.part) for clip in data.clips
    ]


def test_kill_and_resume(tmp_path: Path, write_numbered: Callable[..., Path]) -> None:
    for label in ("clap", "run", "sit"):
        for clip in range(12):
            write_numbered(tmp_path / "data" / label / f"{clip}.mp4", 20 + clip % 5)
    code = (
        "import sys\nfrom pathlib import Path\nfrom mafsar.data.folders import read_own\n"
        "from mafsar.data.pack import pack\nimport mafsar.data.pack as module\n"
        "module.COMMIT_SECONDS = 0.0\n"
        "from mafsar.data.store import StoreSettings\n"
        "settings = StoreSettings(24, 128, 95)\n"
        "pack(read_own(Path(sys.argv[1])), Path(sys.argv[2]), settings, workers=1)\n"
    )
    data, path = tmp_path / "data", tmp_path / "killed.sqlite"
    held = [0]
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", code, str(data), str(path)])
        before = path.stat().st_size if path.exists() else 0
        deadline = time.monotonic() + 60
        while (path.stat().st_size if path.exists() else 0) < before + 100_000:
            assert process.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        with pytest.raises(MismatchError, match="not finished; run the same mafsar data pack"):
            Store(path)
        held.append(len(rows(path)))
    assert held == sorted(set(held)), "each run adds to what the killed ones left"
    catalogue = read_own(data)
    settings = StoreSettings(24, 128, 95)
    result = pack(catalogue, path, settings)
    assert result.kept == held[-1] > 0
    assert result.packed == 36 - held[-1]
    pack(catalogue, tmp_path / "whole.sqlite", settings)
    assert rows(path) == rows(tmp_path / "whole.sqlite")
    assert not list(tmp_path.glob("*-journal"))
    assert pack(catalogue, path, settings).packed == 0


def test_settings_and_data_are_not_mixed(
    tmp_path: Path, numbered_tree: Path, write_numbered: Callable[..., Path]
) -> None:
    path = tmp_path / "s.sqlite"
    pack(read_own(numbered_tree), path, SMALL)
    before = path.read_bytes()
    with pytest.raises(MismatchError, match="with frames=24, short_side=48, quality=95, not"):
        pack(read_own(numbered_tree), path, StoreSettings(8, 48, 95))
    write_numbered(tmp_path / "other" / "clap" / "0.mp4")
    with pytest.raises(MismatchError, match="was packed from other classes"):
        pack(read_own(tmp_path / "other"), path, SMALL)
    for label in ("clap", "brush_hair", "PlayGolf", "Folding [something]", "run", "sit"):
        write_numbered(tmp_path / "other" / label / "0.mp4")
    with pytest.raises(MismatchError, match="holds 18 clips that are not in"):
        pack(read_own(tmp_path / "other"), path, SMALL)
    assert path.read_bytes() == before
    (tmp_path / "text.sqlite").write_text("not a store")
    with pytest.raises(InputError, match="is not a packed data set"):
        pack(read_own(numbered_tree), tmp_path / "text.sqlite", SMALL)


def test_broken_and_missing_clips_are_tried_again(
    tmp_path: Path, write_numbered: Callable[..., Path]
) -> None:
    data, lists, path = tmp_path / "data", tmp_path / "lists", tmp_path / "s.sqlite"
    lists.mkdir()
    for part in ("train", "val", "test"):
        (lists / f"{part}.txt").write_text(f"{part}0/{len(part)}1\n{part}0/{len(part)}2\n")
        write_numbered(data / f"{len(part)}1.mp4")
    (data / "52.mp4").write_bytes(b"broken")
    # "val0" and the others are the first classes of SSv2-Small; three and four letters a part.
    first = pack(read_standard("ssv2_small", data, lists), path, SMALL)
    assert [name for name, _ in first.unreadable] == ["52.mp4"]
    assert first.missing == ("32", "42")
    store = Store(path).catalogue()
    assert len(store.clips) == 3
    assert [clip.name for clip in store.missing] == ["52.mp4", "32", "42"]
    with pytest.raises(MissingError, match=r"has no frames of 52\.mp4"):
        Store(path).read(store.missing[0], [0])
    for number in (52, 32, 42):
        write_numbered(data / f"{number}.mp4")
    second = pack(read_standard("ssv2_small", data, lists), path, SMALL)
    assert (second.packed, second.kept, second.unreadable, second.missing) == (3, 3, (), ())
    assert len(Store(path).catalogue().clips) == 6


def test_two_packers_do_not_share_a_file(tmp_path: Path, numbered_tree: Path) -> None:
    path = tmp_path / "s.sqlite"
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(InputError, match="locked; is another mafsar data pack running"):
        pack(read_own(numbered_tree), path, SMALL)
    holder.close()


def test_files_that_are_not_stores(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no such file"):
        Store(tmp_path / "none.sqlite")
    connection = sqlite3.connect(tmp_path / "other.sqlite")
    connection.execute("CREATE TABLE t(x)")
    connection.close()
    with pytest.raises(InputError, match="a SQLite file, but not a packed"):
        Store(tmp_path / "other.sqlite")
    with pytest.raises(InputError, match="quality=99: must be from 1 to 95"):
        StoreSettings(quality=99)
