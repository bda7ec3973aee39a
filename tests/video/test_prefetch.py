"""Clips are yielded in order and decoded ahead within bounds; a failure does not stop the others."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mafsar.errors import InputError, VideoError
from mafsar.video import Clip, ClipRequest, Geometry, load_clip, load_clips, prefetch


@pytest.fixture(scope="module")
def paths(make: Any, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Six videos; every frame of number n spells n."""
    folder = tmp_path_factory.mktemp("clips")
    return [
        make.write(
            folder / f"{number}.mp4",
            [0, 1, 2],
            picture=lambda _, w, h, number=number: make.picture(number, w, h),
        )
        for number in range(6)
    ]


def requests(paths: list[Path]) -> list[ClipRequest]:
    return [ClipRequest(path, frames=2, size=48) for path in paths]


def decoders() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name.startswith("mafsar-decode")]


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_in_order_and_equal_to_one_by_one(make: Any, paths: list[Path], workers: int) -> None:
    clips = list(load_clips(requests(paths), workers=workers))
    assert all(isinstance(clip, Clip) for clip in clips)
    for number, (clip, path) in enumerate(zip(clips, paths, strict=True)):
        assert isinstance(clip, Clip)
        assert make.number_of(clip.pixels[0]) == number
        np.testing.assert_array_equal(clip.pixels, load_clip(path, frames=2, size=48).pixels)
    assert decoders() == []


def test_failed_clips_yield_their_error_in_their_place(paths: list[Path], tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    missing = tmp_path / "missing.mp4"
    mixed = requests([paths[0], text, paths[1], missing, paths[2]])
    mixed.append(ClipRequest(paths[3], 2, 48, Geometry(roi=(90, 90, 20, 20))))
    mixed.append(ClipRequest(paths[4], 2, 48, start=50.0))
    found = list(load_clips(mixed))
    assert [isinstance(clip, Clip) for clip in found] == [
        True,
        False,
        True,
        False,
        True,
        False,
        False,
    ]
    for index, path in ((1, text), (3, missing), (5, paths[3]), (6, paths[4])):
        error = found[index]
        assert isinstance(error, VideoError)
        assert str(error).startswith(f"{path}: ")


def test_reads_requests_only_as_far_as_it_is_ahead(paths: list[Path]) -> None:
    read = 0

    def endless() -> Iterator[ClipRequest]:
        nonlocal read
        while True:
            read += 1
            yield ClipRequest(paths[0], frames=2, size=16)

    clips = load_clips(endless(), workers=2, ahead=1)
    for taken in range(1, 6):
        next(clips)
        assert read <= taken + 3
    clips.close()
    assert decoders() == []


def test_decodes_while_the_consumer_works(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Path] = []
    true_load = prefetch.load_clip

    def noted(path: Path, **options: Any) -> Clip:
        begun.append(path)
        return true_load(path, **options)

    monkeypatch.setattr(prefetch, "load_clip", noted)
    clips = load_clips(requests(paths), workers=2, ahead=2)
    next(clips)
    deadline = time.monotonic() + 10
    while len(begun) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert set(begun) == set(paths[:4])
    assert len(list(clips)) == 5


def test_an_exception_in_the_consumer_stops_the_threads(paths: list[Path]) -> None:
    def consume() -> None:
        for _ in load_clips(requests(paths)):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        consume()
    deadline = time.monotonic() + 10
    while decoders() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert decoders() == []


def test_other_exceptions_are_raised(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Clip:
        raise ZeroDivisionError

    monkeypatch.setattr(prefetch, "load_clip", broken)
    with pytest.raises(ZeroDivisionError):
        list(load_clips(requests(paths)))


def test_nothing_to_load_and_wrong_numbers() -> None:
    assert list(load_clips([])) == []
    with pytest.raises(InputError, match="workers=0: must be at least 1"):
        load_clips([], workers=0)
    with pytest.raises(InputError, match="ahead must be at least 0"):
        load_clips([], ahead=-1)
