"""Recording clips from a source, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mafsar
from mafsar.errors import InputError, VideoError
from mafsar.runtime.live import record as recording
from mafsar.runtime.live.record import moving_part, record
from mafsar.video import load_raw_clip, video_info, write_video
from mafsar.video.live.place import places_of

FPS = 20


def place_of(frames: np.ndarray):
    (place,) = places_of([(k / FPS, frame) for k, frame in enumerate(frames)])
    return place


def ball(moving: np.ndarray, seed: int = 0) -> np.ndarray:
    """A noisy room with a bright square, which moves in the frames where `moving` is true."""
    rng = np.random.default_rng(seed)
    room = rng.integers(60, 120, (96, 128, 3))
    frames = []
    x = 10
    for moves in moving:
        x += 4 * int(moves)
        frame = room + rng.integers(-1, 2, room.shape)
        frame[30:60, x % 90 : x % 90 + 30] = 250
        frames.append(frame.astype(np.uint8))
    return np.stack(frames)


def test_clips_are_numbered_and_as_long_as_asked(tmp_path: Path) -> None:
    folder = tmp_path / "support" / "wave"
    lines: list[str] = []
    source = place_of(ball(np.ones(200, bool)))
    first = list(record(source, folder, seconds=1.0, count=2, delay=1.0, say=lines.append))
    assert [each.path.name for each in first] == ["001.mp4", "002.mp4"]
    assert all(each.moving for each in first)
    for each in first:
        assert video_info(each.path)["duration_seconds"] == pytest.approx(1.0, abs=0.05)
    more = record(place_of(ball(np.ones(50, bool))), folder, seconds=1.0, count=1, delay=0.0)
    assert [each.path.name for each in more] == ["003.mp4"]
    assert [line for line in lines if "1 of 2" in line] == ["clip 1 of 2 in 1", "clip 1 of 2: now"]


def test_a_minute_of_a_live_source_becomes_background(
    live_camera: Callable[..., AbstractContextManager[str]],
    clip_of: Callable[..., np.ndarray],
    encoder: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recording, "BACKGROUND_CLIPS", 3)
    monkeypatch.setattr(recording, "BACKGROUND_SECONDS", 0.5)
    idle = np.concatenate([clip_of(7, 40), clip_of(8, 40)])
    lines: list[str] = []
    with live_camera(lambda _: iter(idle)) as url:
        (place,) = places_of(f"hall={url}")
        clips = recording.record_background(place, tmp_path / "none", say=lines.append)
    assert lines == ["hall: recording 1.5 s of background; do none of the actions"]
    bank = mafsar.enroll({"a": [clip_of(0)], "b": [clip_of(1)]}, encoder, none=clips, fps=10,
                         text="off", cache=False)  # fmt: skip
    assert [clip.label for clip in bank.clips] == ["a", "b", "_none", "_none", "_none"]


def test_a_clip_shows_the_seconds_after_the_countdown(tmp_path: Path) -> None:
    frames = np.stack([np.full((64, 64, 3), 20 + 2 * k, np.uint8) for k in range(100)])
    (clip,) = record(place_of(frames), tmp_path / "a", seconds=1.0, count=1, delay=2.0)
    shown = load_raw_clip(clip.path, frames=25).frames.mean(axis=(1, 2, 3))
    assert shown[0] == pytest.approx(20 + 2 * 41, abs=3)
    assert shown[-1] == pytest.approx(20 + 2 * 60, abs=3)


def test_trim_keeps_the_moving_part(tmp_path: Path) -> None:
    moving = np.zeros(60, bool)
    moving[20:40] = True
    source = place_of(ball(np.concatenate([moving, moving])))
    (clip,) = record(source, tmp_path / "a", seconds=2.9, count=1, delay=0.0, trim=True)
    assert clip.moving
    assert clip.seconds == pytest.approx(1.0 + 2 * 0.2, abs=0.25)


def test_where_nothing_moves_is_said_and_nothing_is_cut(tmp_path: Path) -> None:
    source = place_of(ball(np.zeros(60, bool)))
    (clip,) = record(source, tmp_path / "a", seconds=1.0, count=1, delay=0.0, trim=True)
    assert not clip.moving
    assert clip.seconds == pytest.approx(1.0, abs=0.05)


def test_the_moving_part_is_found_to_a_tenth_of_a_second() -> None:
    small = [np.zeros((8, 8))] * 20 + [np.full((8, 8), 9.0 * k) for k in range(10)] + [
        np.full((8, 8), 81.0)
    ] * 20  # fmt: skip
    begin, end = moving_part(small, 20.0)
    assert begin == pytest.approx(20 - 4, abs=2)
    assert end == pytest.approx(30 + 4, abs=2)


def test_dark_and_frozen_cameras_are_refused_and_leave_no_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    dark = rng.integers(0, 8, (60, 64, 64, 3)).astype(np.uint8)
    frozen = np.repeat(rng.integers(50, 200, (1, 64, 64, 3)).astype(np.uint8), 60, axis=0)
    for frames, said in ((dark, "frames: is dark"), (frozen, "frames: is frozen")):
        with pytest.raises(VideoError, match=said):
            list(record(place_of(frames), tmp_path / "a", seconds=1.0, count=1, delay=0.5))
    assert list(tmp_path.rglob("*.mp4")) == []


def test_wrong_arguments_and_short_sources_are_refused(tmp_path: Path) -> None:
    source = place_of(ball(np.ones(30, bool)))
    for wrong in ({"seconds": 0.0}, {"count": 0}, {"delay": -1.0}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            list(record(source, tmp_path / "a", **wrong))  # type: ignore[arg-type]
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        list(record(source, tmp_path / "file"))
    with pytest.raises(VideoError, match="ended while it was recorded"):
        list(record(source, tmp_path / "a", seconds=3.0, count=1, delay=0.0))


def test_a_camera_on_the_network_and_a_file_are_recorded(
    tmp_path: Path, live_camera: Callable[..., AbstractContextManager[str]]
) -> None:
    frames = ball(np.ones(120, bool))
    with live_camera(lambda _: frames, fps=20) as url:
        (place,) = places_of(url)
        (clip,) = record(place, tmp_path / "a", seconds=1.0, count=1, delay=0.5)
    assert video_info(clip.path)["width"] == 128
    film = write_video(tmp_path / "film.mp4", frames, FPS)
    (place,) = places_of(film)
    clips = list(record(place, tmp_path / "b", seconds=1.0, count=2, delay=0.0))
    assert len(clips) == 2
