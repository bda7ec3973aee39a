"""Pipes, devices, circles of links, folders without end, and names that the system does not take."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import mafsar
from mafsar.cli.match_outputs import file_stems
from mafsar.cli.queries import Source, expand
from mafsar.data.folders import read_own
from mafsar.errors import MissingError, VideoError
from mafsar.runtime.match.queries import is_one_clip
from mafsar.video import content_sha256, find_clips, load_clip
from mafsar.video.frame_folder import is_frame_folder
from mafsar.video.source import natural_key


@pytest.fixture(autouse=True)
def _in_time() -> Iterator[None]:
    """What waits for a pipe or walks without end never ends: any limit tells, also on a busy machine."""

    def late(*_: object) -> None:
        pytest.fail("waited for over a minute")  # no OSError, which readers catch

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    before = Path.cwd()
    with socket.socket(socket.AF_UNIX) as end:
        os.chdir(path.parent)  # a socket's path has a hundred bytes at most
        try:
            end.bind(path.name)
        finally:
            os.chdir(before)


def _zero(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _null_behind_links(path: Path) -> None:
    path.with_name("first").symlink_to("/dev/null")
    path.symlink_to("first")


@pytest.mark.parametrize(
    ("make", "said"),
    [(_pipe, "pipe"), (_socket, "socket"), (_zero, "device"), (_null_behind_links, "device")],
)
@pytest.mark.parametrize("name", ["clip.mp4", "clip.png"])
def test_only_regular_files_are_opened(
    tmp_path: Path, make: Callable[[Path], None], said: str, name: str
) -> None:
    path = tmp_path / name
    make(path)
    for read in (content_sha256, lambda path: load_clip(path, frames=4, size=32)):
        with pytest.raises(VideoError, match=rf"^{path}: is a {said}"):
            read(path)


def test_a_pipe_among_frames(tmp_path: Path) -> None:
    _pipe(tmp_path / "0.png")
    for read in (content_sha256, lambda path: load_clip(path, frames=4, size=32)):
        with pytest.raises(VideoError, match="is a pipe"):
            read(tmp_path)


def test_a_support_with_a_pipe_is_named_and_can_go_on_without(
    make_clip: Callable[..., Path], tmp_path: Path
) -> None:
    for number, label in enumerate(("nod", "wave")):
        make_clip(tmp_path / label / "0", number)
    _zero(tmp_path / "nod" / "1.mp4")
    with pytest.raises(VideoError, match=r"nod/1.mp4: is a device"):
        mafsar.enroll(tmp_path)
    bank = mafsar.enroll(tmp_path, on_error="skip", images=False)
    assert len(bank) == 2
    assert "is a device" in "".join(bank.notes)


def test_links_in_circles_are_walked_once(make_clip: Callable[..., Path], tmp_path: Path) -> None:
    make_clip(tmp_path / "a" / "clip", 1)
    (tmp_path / "a" / "l1").symlink_to(".")
    (tmp_path / "a" / "l2").symlink_to(".")
    (tmp_path / "up").symlink_to(tmp_path)
    assert find_clips(tmp_path) == [tmp_path / "a" / "clip"]


def test_doubling_links_are_walked_once(tmp_path: Path) -> None:
    """Each folder leads twice to the next: 2⁴⁰ paths to one clip."""
    for number in range(40):
        (tmp_path / f"{number}").mkdir()
        for link in "ab":
            (tmp_path / f"{number}" / link).symlink_to(tmp_path / f"{number + 1}")
    (tmp_path / "40").mkdir()
    (tmp_path / "40" / "clip.mp4").touch()
    assert len(find_clips(tmp_path)) == 1


@pytest.fixture
def deep_folder(tmp_path: Path) -> Iterator[Path]:
    """1,500 folders in each other, and a clip; taken apart again, which pytest itself cannot."""
    here = os.open(tmp_path, os.O_RDONLY)
    try:
        for _ in range(1500):
            os.mkdir("d", dir_fd=here)
            below = os.open("d", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
        os.close(os.open("clip.mp4", os.O_CREAT | os.O_WRONLY, dir_fd=here))
        yield tmp_path
    finally:
        os.unlink("clip.mp4", dir_fd=here)
        os.close(here)
        outer, inner = tmp_path / "d", tmp_path / "d" / "d"
        while inner.exists():
            inner.rename(tmp_path / "below")
            outer.rmdir()
            (tmp_path / "below").rename(outer)
        outer.rmdir()


def test_deep_folders_are_walked(deep_folder: Path) -> None:
    (found,) = find_clips(deep_folder)
    assert len(found.relative_to(deep_folder).parts) == 1501


BAD_NAMES = ["a\0b.mp4", "x" * 300 + ".mp4", "missing[1].mp4", "miss*.mp4", "9" * 5000, "🙈" * 99]


@pytest.mark.parametrize("name", BAD_NAMES, ids=lambda name: repr(name[:8]))
def test_a_bad_name_is_a_missing_clip(name: str) -> None:
    (source,) = expand([name])
    assert source.path == Path(name)
    assert is_one_clip(name)
    assert not is_frame_folder(name)
    assert len(file_stems([source])[0].encode()) <= 200
    with pytest.raises((MissingError, VideoError)):
        content_sha256(source.path)
    with pytest.raises((MissingError, VideoError)):
        load_clip(source.path, frames=4, size=32)


def test_a_bad_name_is_a_row_of_a_table(make_clip: Callable[..., Path], tmp_path: Path) -> None:
    make_clip(tmp_path / "good", 1)
    table = tmp_path / "clips.csv"
    rows = [f"{name},nod" for name in BAD_NAMES if "\0" not in name]
    table.write_text("\n".join(["path,label", "good,nod", *rows]))
    catalogue = read_own(table)
    assert [clip.name for clip in catalogue.clips] == ["good"]
    assert len(catalogue.missing) == len(rows)


def test_long_numbers_sort_by_value() -> None:
    names = ["a" + "9" * 5000, "a" + "0" * 6000 + "8", "a١٠", "a9", "a10", "a7"]
    assert sorted(names, key=natural_key)[:2] == ["a7", "a" + "0" * 6000 + "8"]
    assert max(names, key=natural_key) == "a" + "9" * 5000
    assert natural_key("a١٠")[:2] == natural_key("a10")[:2]


def test_many_equal_names_take_no_time() -> None:
    asked = [Source("same", Path(f"{number}.mp4")) for number in range(5000)]
    stems = file_stems(asked)
    assert len(set(stems)) == 5000
    assert stems[:2] + stems[-1:] == ["same", "same-2", "same-5000"]


def test_stems_of_names_that_look_numbered() -> None:
    asked = [Source(name, Path("x")) for name in ("a-2", "a", "a", "a-2")]
    assert file_stems(asked) == ["a-2", "a", "a-3", "a-2-2"]
