"""The clock of live sources, darkness and standstill, and what words name which source."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mafsar.errors import InputError, MissingError
from mafsar.video.live.clock import LiveClock
from mafsar.video.live.place import is_address, places_of
from mafsar.video.live.signs import DARK_SECONDS, FROZEN_SECONDS, Signs


def test_a_steady_clock_is_kept() -> None:
    clock = LiveClock(paced=True)
    seen = [clock.tick(5.0 + k / 25, 100 + k / 25) for k in range(50)]
    np.testing.assert_allclose(seen, np.arange(50) / 25, atol=1e-9)
    assert clock.repairs == []


def test_a_clock_that_steps_back_is_continued() -> None:
    clock = LiveClock(paced=True)
    stamps = [0.0, 0.1, 0.2, 0.3, -7.0, -6.9, -6.8]
    seen = [clock.tick(stamp, k / 10) for k, stamp in enumerate(stamps)]
    np.testing.assert_allclose(seen, np.arange(7) / 10, atol=1e-9)
    assert len(clock.repairs) == 1
    assert "steps back" in clock.repairs[0]


@pytest.mark.parametrize(("passed", "kept"), [(60.0, True), (0.04, False)])
def test_a_far_jump_is_kept_only_if_the_time_has_passed(passed: float, kept: bool) -> None:
    clock = LiveClock(paced=True)
    for k in range(10):
        clock.tick(k / 25, k / 25)
    after = clock.tick(9 / 25 + 60.0, 9 / 25 + passed)
    assert after == pytest.approx(9 / 25 + (60.0 if kept else 1 / 25))


def test_frames_without_timestamps_are_timed_by_their_arrival() -> None:
    clock = LiveClock(paced=True)
    assert [clock.tick(None, 10.0 + k) for k in range(3)] == [0.0, 1.0, 2.0]


def test_after_a_gap_the_clock_goes_on_by_the_time_that_has_passed() -> None:
    clock = LiveClock(paced=True)
    for k in range(10):
        clock.tick(k / 25, k / 25)
    clock.restart()
    assert clock.tick(0.0, 9 / 25 + 12.0) == pytest.approx(9 / 25 + 12.0)


def test_a_dark_and_a_frozen_picture_are_told_from_a_still_scene_with_noise() -> None:
    rng = np.random.default_rng(0)
    scene = rng.integers(60, 200, (64, 64, 3))
    for kind, expected, after in (
        ("noise", None, None), ("black", "dark", DARK_SECONDS), ("same", "frozen", FROZEN_SECONDS),
    ):  # fmt: skip
        signs, first = Signs(), None
        for k in range(150):
            noise = rng.integers(-2, 3, scene.shape)
            shown = {"noise": scene + noise, "black": abs(noise), "same": scene}[kind]
            if signs.see(k / 10, shown.astype(np.uint8)) == expected and first is None:
                first = k / 10
        if after is None:
            assert signs.see(15.0, (scene + 1).astype(np.uint8)) is None
        else:
            assert first == pytest.approx(after, abs=0.11)


@pytest.mark.parametrize(
    ("word", "kind", "where", "name"),
    [
        ("0", "camera", "/dev/video0", "0"),
        ("v4l2:///dev/video3", "camera", "/dev/video3", "v4l2:///dev/video3"),
        ("csi://1", "csi", 1, "csi://1"),
        ("rtsp://user:secret@camera/1", "stream", "rtsp://user:secret@camera/1", "rtsp://camera/1"),
        ("door=rtsp://user:secret@camera/1", "stream", "rtsp://user:secret@camera/1", "door"),
        ("-", "stdin", "-", "stdin"),
    ],
)
def test_words_name_sources(word: str, kind: str, where: object, name: str) -> None:
    (place,) = places_of(word)
    assert (place.kind, place.where, place.name) == (kind, where, name)
    assert place.is_live == (kind != "stdin")


def test_a_file_named_like_a_camera_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_address("0")
    Path("0").write_bytes(b"")
    assert not is_address("0")


def test_what_is_missing_or_empty_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"nowhere\.mp4: no such file"):
        places_of(tmp_path / "nowhere.mp4")
    with pytest.raises(InputError, match="no video and no frame folder"):
        places_of(str(tmp_path))
    with pytest.raises(InputError, match="csi://N"):
        places_of("csi://left")
