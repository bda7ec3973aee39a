"""An index holds what `match` would see of each window, and is the same whoever makes it."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet

from mafsar.errors import InputError, MismatchError, MissingError
from mafsar.files import locked
from mafsar.runtime.archive import coarse
from mafsar.runtime.archive.index import Index, open_index
from mafsar.runtime.archive.manifest import Manifest, read_manifest
from mafsar.runtime.archive.parts import PARTS
from mafsar.runtime.archive.settings import IndexSettings
from mafsar.runtime.archive.store import Store
from mafsar.runtime.live.windows import name_windows
from mafsar.video import Geometry, load_clip, write_video
from tests.runtime.archive.conftest import FPS, moving

HALF_STEP = 2.0**-11  # of float16, relative


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_rows_are_what_the_encoder_sees_of_each_window(
    films: Path, tmp_path: Path, build: Callable[..., Any], encoder: Any
) -> None:
    report = build(tmp_path / "index", films)
    index = open_index(tmp_path / "index")
    assert [Path(each.name).stem for each in index.sources] == ["long", "middle", "short"]
    assert len(index) == report.windows == sum(each.record.windows for each in index.sources)
    whole = 0
    for row in range(len(index)):
        source = index.sources[index.file[row]]
        start, end = float(index.t_start[row]), float(index.t_end[row])
        length = index.settings.lengths[index.length[row]]
        if source.record.duration_seconds < length / 2:
            start, end, cut = (
                0.0,
                source.record.duration_seconds,
                load_clip(source.record.path, frames=4, size=32),
            )
        elif end > source.record.duration_seconds + 1e-9:
            continue  # it repeats the last frame
        else:
            assert end - start == pytest.approx(length)
            assert start % 0.5 == 0
            cut = load_clip(source.record.path, frames=4, size=32, start=start, end=end)
        expected = encoder.encode_query(cut.pixels[None])
        rows = np.array([row])
        bound = HALF_STEP * np.abs(expected.frames).max() + 1e-5
        assert np.abs(index.frames(rows) - expected.frames).max() <= bound
        assert np.abs(index.pooled(rows) - expected.pooled).max() <= bound
        whole += 1
    # 11 windows of 1 s and 9 of 2 s in 6 s, 5 and 3 in 3 s, and the short clip at both lengths.
    assert whole == 11 + 9 + 5 + 3 + 2


def test_the_index_is_the_same_bits_for_any_number_of_workers(
    films: Path, tmp_path: Path, build: Callable[..., Any]
) -> None:
    for workers in (1, 2, 4):
        build(tmp_path / str(workers), films, workers=workers)
    one = contents(tmp_path / "1")
    assert set(one) == {
        "index.json", "sources-00001.parquet", "windows-00000.parquet", "features-00000.arrow",
    }  # fmt: skip
    assert contents(tmp_path / "2") == one
    assert contents(tmp_path / "4") == one


def test_another_file_system_holds_the_same_bytes(
    films: Path, tmp_path: Path, build: Callable[..., Any]
) -> None:
    build(tmp_path / "here", films)
    address = (tmp_path / "there").as_uri()
    build(address, films)
    assert contents(tmp_path / "there") == contents(tmp_path / "here")
    assert len(open_index(address)) == len(open_index(tmp_path / "here"))


def test_bad_files_and_copies_are_rows(
    films: Path, tmp_path: Path, build: Callable[..., Any]
) -> None:
    shutil.copy(films / "middle.mp4", films / "copy.mp4")
    (films / "broken.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(100))
    heard: list[tuple[str, str | None]] = []
    report = build(
        tmp_path / "index", films, heard=lambda name, record: heard.append((name, record.error))
    )
    assert [Path(name).stem for name, _ in heard] == ["broken", "copy", "long", "middle", "short"]
    assert [Path(each.name).stem for each in report.failed] == ["broken"]
    table = parquet.read_table(tmp_path / "index" / "sources-00001.parquet").to_pylist()
    rows = {Path(row["source"]).stem: row for row in table}
    assert "broken.mp4" in rows["broken"]["error"]
    assert rows["broken"]["windows"] == 0
    assert rows["middle"]["same_as"] == str(films / "copy.mp4")
    assert {each.name for each in report.sources if each.same_as} == {str(films / "middle.mp4")}
    windows = parquet.read_table(tmp_path / "index" / "windows-00000.parquet").to_pylist()
    assert {Path(row["source"]).stem for row in windows} == {"copy", "long", "short"}
    said = json.loads(
        parquet.read_schema(tmp_path / "index/windows-00000.parquet").metadata[b"mafsar"]
    )
    assert said["weights_sha256"] == "1" * 64
    assert len(said["preprocess_sha256"]) == 64


def test_a_finished_index_takes_what_is_new_and_encodes_nothing_twice(
    films: Path, tmp_path: Path, build: Callable[..., Any], encoder: Any
) -> None:
    place = tmp_path / "index"
    build(place, films / "long.mp4")
    encoded = encoder.calls["query"]
    with pytest.raises(InputError, match="resume=True"):
        build(place, films)
    moved = films / "moved.mp4"
    (films / "long.mp4").rename(moved)

    def look(_name: str, _record: object) -> None:
        assert len(open_index(place)) > 0  # as it was, until the new rows are whole

    report = build(place, moved, films / "short.mp4", resume=True, heard=look)
    assert (report.new, report.known) == (1, 1)
    assert encoder.calls["query"] == encoded + 1
    index = open_index(place)
    first = index.sources[0].record.windows
    assert len(index) == first + 2
    assert {each.name for each in index.sources if each.same_as} == {str(moved)}
    again = build(place, moved, films / "short.mp4", resume=True)
    assert (again.new, again.known, again.windows) == (0, 2, report.windows)
    assert encoder.calls["query"] == encoded + 1
    fresh = build(place, films / "short.mp4", overwrite=True)
    assert fresh.windows == 2
    assert len(list(place.glob("*.arrow"))) == 1


def rows_of(index: Index) -> dict[str, list[tuple[float, float, bytes]]]:
    """Times and features of the windows of each file that has some."""
    found: dict[str, list[tuple[float, float, bytes]]] = {}
    frames = index.frames(np.arange(len(index)))
    for row, number in enumerate(index.file):
        what = float(index.t_start[row]), float(index.t_end[row]), frames[row].tobytes()
        found.setdefault(index.sources[number].name, []).append(what)
    return found


def test_a_file_that_comes_back_with_other_content_supersedes_the_old_one(
    films: Path, tmp_path: Path, build: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coarse, "FROM_WINDOWS", 30)
    place, first, last = tmp_path / "index", films / "a-copy.mp4", films / "long.mp4"
    shutil.copy(films / "middle.mp4", first)
    (films / "a-broken.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(100))
    build(place, films)
    build(place, films, resume=True)  # nothing is new
    before = open_index(place)
    assert before.basis is not None
    held = rows_of(before)
    # One can be read now; of two with one content, the first, whose name stood for both, has other
    # content; one has become shorter.
    for seed, (path, seconds) in enumerate(
        {films / "a-broken.mp4": 1.5, first: 2.0, last: 1.0}.items()
    ):
        write_video(path, moving(20 + seed, seconds), FPS)
    report = build(place, films, resume=True)
    assert (report.new, report.failed) == (3, ())
    after = open_index(place)
    build(tmp_path / "whole", films)
    assert rows_of(after) == rows_of(open_index(tmp_path / "whole"))
    assert len(after) == report.windows < 30
    assert all(each.coarse is not None and len(each.coarse) == len(each) for each in after.shards)
    names = [each.name for each in after.sources]
    assert names == [each.name for each in before.sources]
    table = parquet.read_table(place / read_manifest(Store(place)).shards[0].table).to_pylist()
    assert all(names[row["file"]] == row["source"] for row in table)
    # A search that had begun before goes on in the old files; the next call removes them.
    assert rows_of(before) == held
    build(place, films, resume=True)
    manifest = read_manifest(Store(place))
    shards = [(each.table, each.features, each.coarse) for each in manifest.shards]
    named = {"index.json", manifest.sources, manifest.basis, *(x for each in shards for x in each)}
    assert set(contents(place)) - named <= {f"sources-{len(shards) + 1:05d}.parquet"}
    assert rows_of(open_index(place)) == rows_of(after)


def test_a_copy_is_known_by_its_own_path(
    films: Path, tmp_path: Path, build: Callable[..., Any]
) -> None:
    shutil.copy(films / "middle.mp4", films / "copy.mp4")
    report = build(tmp_path / "index", films)
    assert [each.record.path for each in report.sources] == [each.name for each in report.sources]


@pytest.mark.parametrize("remote", [False, True])
def test_overwriting_an_index_spares_what_others_have_put_there(
    films: Path, tmp_path: Path, build: Callable[..., Any], remote: bool
) -> None:
    place = tmp_path / "index"
    address = place.as_uri() if remote else place
    build(address, films)
    for name in ("my-sales.parquet", "weights.npy", "parts/x.arrow", "windows-1.parquet"):
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_bytes(b"mine")
        before = contents(place) if "/" not in name else None
        with pytest.raises(InputError, match=f"holds '{name}', which no index has"):
            build(address, films / "short.mp4", overwrite=True)
        assert (place / name).read_bytes() == b"mine"
        assert before is None or contents(place) == before
        (place / name).unlink()
        if before is None:
            (place / "parts").rmdir()
    build(address, films / "short.mp4", overwrite=True)
    assert len(contents(place)) == 4


def test_a_reader_sees_the_old_or_the_new_index(
    films: Path, tmp_path: Path, build: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "index"
    for options in ({"resume": True}, {"overwrite": True}):
        build(place, films / "middle.mp4", overwrite=place.exists())
        begun: list[int] = []

        def read(store: Store, begun: list[int] = begun, options: Any = options) -> Manifest:
            manifest = read_manifest(store)
            if not begun:  # the index changes just after the reader has seen what it holds
                begun.append(1)
                build(place, films / "short.mp4", **options)
            return manifest

        monkeypatch.setattr("mafsar.runtime.archive.index.read_manifest", read)
        assert len(open_index(place)) in (2, 11, 13)
    (place / read_manifest(Store(place)).shards[0].table).unlink()
    with pytest.raises(InputError, match="damaged index"):
        open_index(place)


def test_an_interrupt_ends_the_files_in_flight_at_their_next_batch(
    films: Path, tmp_path: Path, build: Callable[..., Any], encoder: Any
) -> None:
    small = IndexSettings.of(encoder, name_windows([1.0, 2.0], 4, 0.05), Geometry())
    encoder.engine, encode = "onnx", encoder.encode_query
    interrupted = threading.Event()
    batches: list[int] = []

    def slow(frames: np.ndarray) -> Any:
        batches.append(len(frames))
        if len(frames) == 8:  # of the long one: it waits for the interrupt
            assert interrupted.wait(30)
            time.sleep(0.05)
        return encode(frames)

    encoder.encode_query = slow

    def heard(name: str, _record: object) -> None:
        interrupted.set()
        raise KeyboardInterrupt(name)

    with pytest.raises(KeyboardInterrupt, match="short"):
        build(
            tmp_path / "index", films / "short.mp4", films / "long.mp4", settings=small, heard=heard
        )
    assert batches.count(8) < 10  # of 22
    assert not list((tmp_path / "index" / PARTS).glob(".*"))


def test_it_is_said_that_another_process_holds_the_index(
    films: Path, tmp_path: Path, build: Callable[..., Any]
) -> None:
    place, held, free = tmp_path / "index", threading.Event(), threading.Event()

    def hold() -> None:
        with locked(place):
            held.set()
            free.wait(60)

    other = threading.Thread(target=hold)
    other.start()
    assert held.wait(60)
    assert build(place, films / "short.mp4", waiting=free.set).windows == 2
    assert free.is_set()
    other.join()


def test_other_settings_and_other_folders_are_refused(
    films: Path, tmp_path: Path, build: Callable[..., Any], settings: IndexSettings
) -> None:
    place = tmp_path / "index"
    build(place, films / "short.mp4")
    other = replace(settings, lengths=(3.0,), strides=(1.0,))
    with pytest.raises(MismatchError, match=r"made with lengths \[1\.0, 2\.0\], not \[3\.0\]"):
        build(place, films, resume=True, settings=other)
    with pytest.raises(InputError, match="not empty and not an index"):
        build(films, films / "short.mp4")
    with pytest.raises(InputError, match="made of files"):
        build(place, "rtsp://camera/1")
    with pytest.raises(MissingError, match="not an index"):
        open_index(tmp_path / "nowhere")
    text = (place / "index.json").read_text()
    (place / "index.json").write_text(text.replace('"windows": 2', '"windows": 3'))
    with pytest.raises(InputError, match="has 2 rows"):
        open_index(place)
    (place / "index.json").write_text(text[:-20])
    with pytest.raises(InputError, match="damaged index"):
        open_index(place)


def test_features_beyond_float16_are_refused(
    films: Path, tmp_path: Path, build: Callable[..., Any], encoder: Any
) -> None:
    encoder.projection = encoder.projection * 1e6
    report = build(tmp_path / "index", films / "short.mp4")
    assert "do not fit float16" in str(report.failed[0].record.error)


DRIVER = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
import importlib.util
spec = importlib.util.spec_from_file_location("fakes", {fakes!r})
fakes = importlib.util.module_from_spec(spec); spec.loader.exec_module(fakes)
from mafsar.runtime.archive.build import build_index
from mafsar.runtime.archive.settings import IndexSettings
from mafsar.runtime.archive.store import Store
from mafsar.runtime.live.windows import name_windows
from mafsar.video import Geometry
from mafsar.video.live.place import places_of
class Slow(fakes.FakeEncoder):
    def encode_query(self, frames):
        time.sleep({pause})
        return super().encode_query(frames)
encoder = Slow()
settings = IndexSettings.of(encoder, name_windows([1.0, 2.0], 4, 0.5), Geometry())
report = build_index(Store({place!r}), settings, encoder, places_of({films!r}), workers=2)
print(report.new, report.known)
"""


def test_a_killed_build_goes_on_and_ends_as_if_nothing_had_happened(
    films: Path, tmp_path: Path, build: Callable[..., Any]
) -> None:
    for number in range(4):  # other content of the same length
        shutil.copy(films / "middle.mp4", films / f"more{number}.mp4")
        with (films / f"more{number}.mp4").open("ab") as file:
            file.write(b"\0\0\0\x09free" + bytes([number]))
    place = tmp_path / "index"
    fakes = str(Path(__file__).parents[1] / "conftest.py")

    def code(pause: float) -> str:
        return DRIVER.format(
            tests=str(Path(fakes).parent), fakes=fakes, place=str(place), films=str(films),
            pause=pause,
        )  # fmt: skip

    child = subprocess.Popen([sys.executable, "-c", code(0.3)])
    parts = place / PARTS
    until = time.monotonic() + 60
    while len(list(parts.glob("*.parquet"))) < 2 and time.monotonic() < until:
        time.sleep(0.02)
        assert child.poll() is None
    child.send_signal(signal.SIGKILL)
    child.wait()
    left = len([name for name in Store(place).names(PARTS) if name.endswith(".parquet")])
    assert left >= 2
    with pytest.raises(InputError, match="not finished"):
        open_index(place)
    done = subprocess.run(
        [sys.executable, "-c", code(0.0)], capture_output=True, text=True, check=True
    )
    new, known = map(int, done.stdout.split())
    assert (new + known, known >= left) == (7, True)
    build(tmp_path / "whole", films)
    assert contents(place) == contents(tmp_path / "whole")
