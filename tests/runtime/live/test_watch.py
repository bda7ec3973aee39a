"""Watching: events of several kinds of sources, reloads, lost sources, and bounded memory."""

from __future__ import annotations

import itertools
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mafsar
from mafsar.errors import InputError, MafsarError, VideoError
from mafsar.runtime.live import intake
from mafsar.runtime.live.watch import Watch, WatchOptions
from mafsar.video.live import signs
from mafsar.video.live.place import places_of

FPS = 10
Scene = list[tuple[float, np.ndarray]]


def test_a_scene_gives_its_actions_in_order(bank: mafsar.Bank, encoder: Any, scene: Scene) -> None:
    states: list[mafsar.Status] = []
    watched = mafsar.watch(bank, scene, model=encoder, stride=0.25, status=states.append)
    events = list(watched)
    assert [(each.event, each.label) for each in events] == [
        (word, label) for label in "acb" for word in ("start", "end")
    ]
    for event, (begun, ended) in zip(events[1::2], ((0, 2), (2, 4), (4, 6)), strict=True):
        assert event.t_start == pytest.approx(begun, abs=0.8)
        assert event.t_end == pytest.approx(ended, abs=0.8)
    assert [each.id for each in events[::2]] == [each.id for each in events[1::2]]
    assert len({each.id for each in events}) == 3
    assert [each.state for each in states] == ["open", "ended"]
    assert watched.watched_seconds == pytest.approx(6.0, abs=1.6)
    document = events[0].to_json()
    assert document["schema"] == 1
    assert document["t_end"] is None
    assert document["track"] is None


def test_a_file_and_the_same_frames_in_memory_give_the_same(
    bank: mafsar.Bank, encoder: Any, scene: Scene, tmp_path: Path
) -> None:
    from PIL import Image

    folder = tmp_path / "frames"
    folder.mkdir()
    for k, (_, frame) in enumerate(scene):
        Image.fromarray(frame).save(folder / f"{k:03d}.png")
    times = [(k / 25, frame) for k, (_, frame) in enumerate(scene)]  # the clock of frame folders
    one, other = (
        [(e.event, e.label, e.t_start, e.t_end) for e in mafsar.watch(bank, each, model=encoder,
                                                                      window=[0.8])]
        for each in (folder, times)
    )  # fmt: skip
    assert one == other
    assert one


def test_several_sources_share_calls_of_the_encoder(
    bank: mafsar.Bank, encoder: Any, scene: Scene
) -> None:
    sizes: list[int] = []
    plain = encoder.encode_query

    def counted(frames: np.ndarray) -> Any:
        sizes.append(len(frames))
        return plain(frames)

    encoder.encode_query = counted
    watched = mafsar.watch(bank, *[list(scene) for _ in range(4)], model=encoder)
    assert len(list(watched)) == 4 * 6
    assert max(sizes) == 4
    assert sum(sizes) == watched.windows


def test_each_region_has_events_of_its_own(
    bank: mafsar.Bank, encoder: Any, clip_of: Callable[..., np.ndarray]
) -> None:
    left = np.concatenate([clip_of(0), clip_of(2)])
    right = np.concatenate([clip_of(1), clip_of(0)])
    both = np.concatenate([left, right], axis=2)
    frames = [(k / 10, frame) for k, frame in enumerate(both)]
    regions = {"left": (0.0, 0.0, 0.5, 1.0), "right": (0.5, 0.0, 0.5, 1.0)}
    events = list(mafsar.watch(bank, frames, model=encoder, roi=regions))
    found = {
        name: [each.label for each in events if (each.region, each.event) == (name, "start")]
        for name in regions
    }
    assert found == {"left": ["a", "c"], "right": ["b", "a"]}


def test_a_hundred_reloads_under_load_lose_nothing(
    bank: mafsar.Bank, encoder: Any, scene: Scene
) -> None:
    """Each window is followed by a reload; every third new bank is bad, and refused."""
    calls = itertools.count()

    def open_matcher() -> mafsar.Matcher:
        if next(calls) % 3 == 2:
            raise InputError("a.safetensors: damaged bank")
        return mafsar.Matcher(bank, encoder, evidence=True, topk=3)

    states: list[mafsar.Status] = []
    (place,) = places_of(scene * 1)
    options = WatchOptions(stride=0.03)
    watched = Watch(open_matcher, [place], options, status=states.append)
    watched.on_turn = watched.reload
    events = [(each.event, each.label) for each in watched]
    plain = Watch(open_matcher, places_of(list(scene)), options)
    assert events == [(each.event, each.label) for each in plain]
    said = [each.state for each in states if each.source is None]
    assert said.count("refused") >= 11
    assert watched.windows == plain.windows
    assert next(calls) >= 34


def test_a_hundred_swaps_of_the_folder_under_load(
    bank: mafsar.Bank,
    encoder: Any,
    scene: Scene,
    clip_of: Callable[..., np.ndarray],
    tmp_path: Path,
) -> None:
    """Before each turn a link is moved to the other of two folders, as in docs/deploy.md."""
    more = mafsar.enroll({"d": [clip_of(9)]}, encoder, add_to=bank, fps=FPS, text="off",
                         cache=False)  # fmt: skip
    for name, each in (("old", bank), ("new", more)):
        (tmp_path / name).mkdir()
        each.save(tmp_path / name / "bank.safetensors")
    current, following = tmp_path / "current", tmp_path / "next"
    current.symlink_to("old")

    def open_matcher() -> mafsar.Matcher:
        read = mafsar.read_bank(current / "bank.safetensors")
        return mafsar.Matcher(read, encoder, evidence=True, topk=4)

    swaps = itertools.count(1)

    def swap() -> None:
        following.symlink_to(("old", "new")[next(swaps) % 2])
        following.replace(current)
        watched.reload()

    states: list[mafsar.Status] = []
    frames = [(k / FPS, scene[k % len(scene)][1]) for k in range(5 * len(scene))]
    options = WatchOptions(stride=0.05)
    watched = Watch(open_matcher, places_of(list(frames)), options, status=states.append)
    watched.on_turn = swap
    events = [(each.event, each.label) for each in watched]
    plain = Watch(open_matcher, places_of(list(frames)), options)
    assert events == [(each.event, each.label) for each in plain]
    said = [each for each in states if each.source is None]
    assert len(said) >= 100
    assert {each.state for each in said} == {"reloaded"}
    counts = {str(each.message).split(" classes")[0] for each in said}
    assert counts == {"Bank(3", "Bank(4"}
    assert watched.windows == plain.windows


def test_a_bank_with_other_classes_takes_over(
    bank: mafsar.Bank, encoder: Any, scene: Scene, clip_of: Callable[..., np.ndarray]
) -> None:
    other = mafsar.enroll({"x": [clip_of(0)], "y": [clip_of(1, 30)]}, encoder, fps=10, text="off",
                          cache=False)  # fmt: skip
    banks = iter([bank, other])
    watched = Watch(
        lambda: mafsar.Matcher(next(banks), encoder, evidence=True, topk=9), places_of(scene)
    )
    watched.reload()
    assert {event.label for event in watched} <= {"x", "y"}
    assert watched.matcher.bank is other


def test_stop_ends_what_goes_on(bank: mafsar.Bank, encoder: Any, scene: Scene) -> None:
    def endless() -> Any:
        for k in itertools.count():
            yield k / 10, scene[k % len(scene)][1]

    watched = mafsar.watch(bank, endless(), model=encoder)
    events = []
    for event in watched:
        events.append(event)
        if len(events) == 5:
            watched.stop()
    assert len(events) < 20
    assert [each.event for each in events] == ["start", "end"] * (len(events) // 2)


def test_a_bad_frame_ends_its_source_and_says_which(bank: mafsar.Bank, encoder: Any) -> None:
    frames = [(0.0, np.zeros((8, 8, 3), np.uint8)), (0.1, np.zeros((8, 8), np.uint8))]
    with pytest.raises(InputError, match=r"frames: frame 1 is uint8 \(8, 8\)"):
        list(mafsar.watch(bank, frames, model=encoder))

    def failing() -> Any:
        yield 0.0, np.zeros((8, 8, 3), np.uint8)
        raise KeyError("camera")

    with pytest.raises(VideoError, match="KeyError"):
        list(mafsar.watch(bank, failing(), model=encoder))


def test_one_bad_file_of_several_is_an_error_at_the_end(
    bank: mafsar.Bank, encoder: Any, scene: Scene, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"not a video" * 100)
    watched = mafsar.watch(bank, bad, scene, model=encoder)
    assert len(list(watched)) == 6
    ((name, error),) = watched.errors
    assert name == str(bad)
    assert isinstance(error, MafsarError)


def test_a_live_source_that_is_too_fast_drops_windows_and_counts_them(
    bank: mafsar.Bank,
    encoder: Any,
    live_camera: Callable[..., AbstractContextManager[str]],
    clip_of: Callable[..., np.ndarray],
) -> None:
    plain = encoder.encode_query

    def slow(frames: np.ndarray) -> Any:
        time.sleep(0.2 * len(frames))
        return plain(frames)

    states: list[mafsar.Status] = []
    with live_camera(lambda _: itertools.cycle(np.concatenate([clip_of(0), clip_of(1)]))) as url:
        watched = mafsar.watch(
            bank, url, model=encoder, window=[0.5], stride=0.05, status=states.append,
            heartbeat=0.5,
        )  # fmt: skip
        encoder.encode_query = slow
        threading.Timer(4.0, watched.stop).start()
        list(watched)
    assert states[0].state == "open"
    assert states[-1].dropped > 5
    assert states[-1].delay_seconds is not None
    assert states[-1].delay_seconds < 1.5


def test_a_lost_source_comes_back(
    bank: mafsar.Bank,
    encoder: Any,
    live_camera: Callable[..., AbstractContextManager[str]],
    clip_of: Callable[..., np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(intake, "FIRST_WAIT", 0.2)
    states: list[str] = []

    def status(each: mafsar.Status) -> None:
        states.append(each.state)
        if states.count("back") == 2:
            watched.stop()

    with live_camera(lambda visit: clip_of(visit % 3)) as url:
        watched = mafsar.watch(bank, f"door={url}", model=encoder, window=[0.5], status=status)
        list(watched)
    assert states[:5] == ["open", "lost", "back", "lost", "back"]
    assert watched.places[0].name == "door"


def test_a_camera_that_comes_back_in_the_dark_is_said_to_be_dark(
    bank: mafsar.Bank,
    encoder: Any,
    live_camera: Callable[..., AbstractContextManager[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Dark, lost, back and still dark; then back and frozen."""
    monkeypatch.setattr(intake, "FIRST_WAIT", 0.2)
    monkeypatch.setattr(signs, "DARK_SECONDS", 0.3)
    monkeypatch.setattr(signs, "FROZEN_SECONDS", 0.6)
    states: list[str] = []

    def status(each: mafsar.Status) -> None:
        states.append(each.state)
        if states.count("frozen") == 1:
            watched.stop()

    def pictures(visit: int) -> np.ndarray:
        level = 0 if visit < 3 else 100
        return np.full((20, 32, 32, 3), level, np.uint8)

    with live_camera(pictures) as url:
        watched = mafsar.watch(bank, url, model=encoder, window=[0.5], stride=0.1, status=status)
        threading.Timer(20.0, watched.stop).start()
        list(watched)
    assert states == ["open", "dark", "lost", "back", "dark", "lost", "back", "frozen"]


def test_two_sources_have_two_names(bank: mafsar.Bank, encoder: Any, scene: Scene) -> None:
    """Events, states and metrics are told apart by the name alone."""
    states: list[mafsar.Status] = []
    watched = mafsar.watch(bank, scene, list(scene), model=encoder, status=states.append)
    assert {each.source for each in watched} == {"frames", "frames-2"}
    assert [place.name for place in watched.places] == ["frames", "frames-2"]
    with pytest.raises(InputError, match="SOURCE door: named twice"):
        mafsar.watch(bank, "door=rtsp://a/1", "door=rtsp://a/2", model=encoder)
    with pytest.raises(InputError, match="SOURCE 0: named twice"):
        mafsar.watch(bank, 0, "0", model=encoder)


def test_a_csi_camera_is_read_from_its_child(
    bank: mafsar.Bank, encoder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program in place of gst-launch-1.0 gets a list of arguments and gives a stream of pictures."""
    fake = tmp_path / "gst-launch-1.0"
    fake.write_text(
        f"""#!{sys.executable}
import os, sys
open({str(tmp_path / "words")!r}, "w").write(repr(sys.argv[1:]))
os.write(1, b"YUV4MPEG2 W64 H64 F10:1 Ip A1:1 C420jpeg\\n")
for k in range(40):
    os.write(1, b"FRAME\\n" + bytes([40 + 4 * k]) * 4096 + bytes([128]) * 2048)
"""
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    states: list[mafsar.Status] = []

    def status(each: mafsar.Status) -> None:
        states.append(each)
        if each.state == "lost":
            watched.stop()

    watched = mafsar.watch(bank, "csi://2", model=encoder, window=[0.5], status=status)
    list(watched)
    assert [each.state for each in states] == ["open", "lost"]
    assert states[0].source == "csi://2"
    words = (tmp_path / "words").read_text()
    assert "'sensor-id=2'" in words
    assert watched.windows > 0


def test_a_camera_that_is_not_there_is_an_error(bank: mafsar.Bank, encoder: Any) -> None:
    with pytest.raises(VideoError, match=r"no such camera \(/dev/video98\)"):
        list(mafsar.watch(bank, 98, model=encoder))


def test_a_dark_camera_is_said_and_named_nothing(
    bank: mafsar.Bank, encoder: Any, clip_of: Callable[..., np.ndarray]
) -> None:
    frames = np.concatenate([clip_of(0), np.zeros((60, 32, 32, 3), np.uint8), clip_of(1)])
    states: list[mafsar.Status] = []
    watched = mafsar.watch(
        bank, [(k / 10, f) for k, f in enumerate(frames)], model=encoder, status=states.append
    )
    events = list(watched)
    assert [each.state for each in states] == ["open", "dark", "back", "ended"]
    assert not any(e.t_start > 4.5 and e.t_start < 7 for e in events if e.event == "start")


def test_options_out_of_range_are_refused(bank: mafsar.Bank, encoder: Any, scene: Scene) -> None:
    for wrong in ({"gap": -1.0}, {"stride": 0.0}, {"max_fps": 0.0}, {"heartbeat": 0.0}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            mafsar.watch(bank, scene, model=encoder, **wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no source"):
        mafsar.watch(bank, model=encoder)


def test_max_fps_passes_frames_over(bank: mafsar.Bank, encoder: Any, scene: Scene) -> None:
    seen: list[float] = []
    watched = Watch(
        lambda: mafsar.Matcher(bank, encoder, evidence=True, topk=3),
        places_of(scene),
        WatchOptions(max_fps=5),
        viewer=lambda _source, seconds, _picture: seen.append(seconds),
    )
    list(watched)
    np.testing.assert_allclose(np.diff(seen), 0.2, atol=1e-6)
