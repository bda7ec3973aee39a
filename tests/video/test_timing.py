"""Which frames of unusual files are taken: every frame shows its number, and the expected numbers
are computed from the written timestamps in exact fractions.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mafsar.errors import VideoError
from mafsar.video import (
    container,
    decode,
    decode_clock,
    decode_plan,
    load_clip,
    load_raw_clip,
    scan,
    timeline,
    video_info,
)

BASE = Fraction(1, 25)
STEADY = list(range(30))
# Fast, slow and frozen parts.
UNEVEN = [0, 1, 2, 3, 10, 11, 12, 20, 21, 22, 23, 24, 40, 41, 60, 61, 62, 63, 64, 65]
VP9 = {"crf": "15", "b:v": "0", "deadline": "realtime", "cpu-used": "8"}
H265 = {"x265-params": "log-level=none:keyint=10"}


def numbers(make: Any, path: Path, frames: int = 8, **options: Any) -> list[int]:
    return [make.number_of(frame) for frame in load_raw_clip(path, frames=frames, **options).frames]


@pytest.mark.parametrize("frames", [1, 4, 8, 16])
@pytest.mark.parametrize(
    ("name", "pts", "options"),
    [
        ("steady.mp4", STEADY, {}),
        ("uneven.mp4", UNEVEN, {}),
        ("uneven.mkv", UNEVEN, {}),
        ("uneven.webm", UNEVEN, {"codec": "libvpx-vp9", "options": VP9}),
        ("hidden-frames.webm", STEADY, {"codec": "libvpx", "options": {"auto-alt-ref": "1"}}),
        ("late.mp4", [pts + 100 for pts in UNEVEN], {}),
        ("late.mkv", [pts + 100 for pts in UNEVEN], {}),
        ("late.ts", [pts + 100 for pts in UNEVEN], {}),
        ("negative.nut", [pts - 20 for pts in UNEVEN], {}),
        (
            "negative.mp4",
            [pts - 20 for pts in UNEVEN],
            {"container_options": {"use_editlist": "0"}},
        ),
        ("upper.MOV", UNEVEN, {}),
        ("short-gops.mp4", UNEVEN, {"options": {"crf": "12", "g": "4", "bf": "2"}}),
        ("pieces.mp4", UNEVEN, {"container_options": {"movflags": "frag_keyframe+empty_moov"}}),
        # In MPEG-TS, because FFmpeg's MP4 writer refuses x265's header once in a hundred times.
        ("h265.ts", UNEVEN, {"codec": "libx265", "options": H265}),
        ("animation.gif", UNEVEN, {"codec": "gif", "layout": "rgb8"}),
        ("old.avi", STEADY, {"codec": "mpeg4", "options": {"q:v": "2"}}),
        ("reordered.avi", STEADY, {"options": {"crf": "12", "bf": "2"}}),
        ("old-reordered.avi", STEADY, {"codec": "mpeg4", "options": {"q:v": "2", "bf": "2"}}),
        ("disc.mpg", STEADY, {"codec": "mpeg2video", "options": {"q:v": "2", "bf": "2"}}),
    ],
)
def test_frames_by_time(
    make: Any, tmp_path_factory: Any, name: str, pts: list[int], options: Any, frames: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "timing" / name
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        make.write(path, pts, base=BASE, **options)
    last = 1  # every frame is written as one tick long
    assert numbers(make, path, frames) == make.expected(pts, last, frames)
    duration = float((max(pts) - min(pts) + last) * BASE)
    info = video_info(path)
    assert info["duration_seconds"] == pytest.approx(duration, abs=0.0015)
    assert info["frames"] == len(pts)


def test_times_are_those_of_the_frames_taken(make: Any, tmp_path: Path) -> None:
    pts = [stamp + 77 for stamp in UNEVEN]
    clip = load_clip(make.write(tmp_path / "a.mp4", pts, base=BASE), frames=8, size=32)
    taken = make.expected(pts, 1, 8)
    np.testing.assert_allclose(clip.times_seconds, [(UNEVEN[number] / 25) for number in taken])
    assert clip.duration_seconds == pytest.approx(66 / 25)
    assert clip.fps == pytest.approx(len(UNEVEN) * 25 / 66)
    assert clip.decode_seconds > 0
    assert clip.preprocess_seconds > 0
    assert clip.pixels.shape == (8, 32, 32, 3)
    assert clip.pixels.dtype == np.uint8
    assert repr(clip) == "Clip(uint8 (8, 32, 32, 3), 2.64 s, 7.58 fps)"


def test_an_edit_list_hides_what_is_before_it(make: Any, tmp_path: Path) -> None:
    """An MP4 whose first frames have negative times is shown from 0 on, as players do."""
    pts = [stamp - 20 for stamp in UNEVEN]
    path = make.write(tmp_path / "cut.mp4", pts, base=BASE)
    shown = {number: stamp for number, stamp in enumerate(pts) if stamp >= 0}
    expected = make.expected(list(shown.values()), 1, 8)
    assert numbers(make, path) == [list(shown)[index] for index in expected]
    assert video_info(path)["duration_seconds"] == pytest.approx(46 / 25)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("streamed.mkv", {"container_options": {"live": "1"}}),
        ("raw.h264", {"container_format": "h264", "options": {"crf": "12", "bf": "2"}}),
    ],
)
def test_files_without_a_duration(make: Any, tmp_path: Path, name: str, options: Any) -> None:
    path = make.write(tmp_path / name, STEADY, base=BASE, **options)
    with container.open_video(path) as (_, stream):
        assert stream.duration is None
    assert numbers(make, path) == make.expected(STEADY, 1, 8)
    assert load_clip(path, frames=8, size=32).duration_seconds == pytest.approx(30 / 25)


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("name", ["short.mp4", "short.gif"])
def test_clips_shorter_than_t_repeat_frames(
    make: Any, tmp_path: Path, name: str, count: int
) -> None:
    options = {"codec": "gif", "layout": "rgb8"} if name.endswith("gif") else {}
    path = make.write(tmp_path / name, list(range(count)), base=BASE, **options)
    assert numbers(make, path) == make.expected(list(range(count)), 1, 8)


@pytest.mark.parametrize(
    ("start", "end"), [(1.0, None), (None, 1.5), (0.4, 2.0), (2.5, 2.6), (0.0, 2.64)]
)
def test_start_and_end(make: Any, tmp_path: Path, start: float | None, end: float | None) -> None:
    path = make.write(tmp_path / "part.mp4", [pts + 50 for pts in UNEVEN], base=BASE)
    expected = make.expected(
        UNEVEN, 1, 8, *(None if at is None else Fraction(str(at)) for at in (start, end)), BASE
    )
    assert numbers(make, path, start=start, end=end) == expected
    clip = load_clip(path, frames=8, size=32, start=start, end=end)
    assert clip.duration_seconds == pytest.approx((end or 2.64) - (start or 0))


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        (5.0, None, r"start 5 s is after the clip's end \(1\.20 s\)"),
        (None, 9.0, r"end 9 s is after the clip's end \(1\.20 s\)"),
        (1.0, 0.5, r"end 0\.5 s must be after start 1 s"),
        (-1.0, None, r"start must be a number of seconds ≥ 0, got -1\.0"),
    ],
)
def test_parts_outside_the_clip_are_refused(
    make: Any, tmp_path: Path, start: float | None, end: float | None, message: str
) -> None:
    path = make.write(tmp_path / "a.mp4", STEADY, base=BASE)
    with pytest.raises(VideoError, match=message) as caught:
        load_clip(path, frames=8, size=32, start=start, end=end)
    assert str(caught.value).startswith(str(path))


def test_training_draws_a_random_moment_in_each_segment(make: Any, tmp_path: Path) -> None:
    path = make.write(tmp_path / "a.mp4", list(range(64)), base=BASE)
    drawn = np.array([numbers(make, path, rng=np.random.default_rng(seed)) for seed in range(6)])
    assert (drawn // 8 == np.arange(8)).all()
    assert len(np.unique(drawn % 8)) >= 6
    again = numbers(make, path, rng=np.random.default_rng(3))
    assert again == drawn[3].tolist()


@pytest.mark.parametrize("gop", [1, 3, 7, 12, 250])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_every_strategy_gives_the_same_bytes(
    make: Any, tmp_path: Path, name: str, gop: int
) -> None:
    options = {"crf": "28", "g": str(gop), "bf": "3", "preset": "medium"}
    path = make.write(tmp_path / name, list(range(60)), base=BASE, options=options)
    moments = np.array([0.02, 0.5, 0.55, 0.9, 1.3, 1.31, 1.9, 2.38])
    found = {}
    for way in ("through", "seek", "auto"):
        decoded = decode.decode_file(path, moments, strategy=way, threads=2)
        found[way] = [frame.to_ndarray(format="rgb24") for frame in decoded.frames]
    # The reference decodes everything and skips nothing.
    with container.open_video(path) as (file, stream):
        every = [frame.to_ndarray(format="rgb24") for frame in file.decode(stream)]
    for way, frames in found.items():
        for moment, frame in zip(moments, frames, strict=True):
            np.testing.assert_array_equal(frame, every[int(moment * 25 + 1e-6)], err_msg=way)


def test_plan_jumps_only_where_it_saves_enough() -> None:
    total, gop = 100, 20
    packets = timeline.Packets(
        pts=np.arange(total),
        dts=np.arange(total),
        key=np.arange(total) % gop == 0,
        shown=np.ones(total, bool),
    )

    def runs(wanted: list[int], strategy: decode_plan.Strategy = "auto") -> list[tuple[int, int]]:
        found = decode_plan.plan_runs(packets, np.array(wanted), strategy)
        return [(run.start, run.stop) for run in found]

    assert runs([5, 95]) == [(0, 6), (80, 96)]
    assert runs([5, 95], "through") == [(0, 96)]
    assert runs([45, 50], "seek") == [(40, 46), (40, 51)]
    assert runs([45, 50]) == [(40, 51)]
    near = gop - decode_plan.JUMP_PACKETS
    assert runs([near, 25]) == [(0, 26)]
    assert runs([near - 1, 25]) == [(0, near), (20, 26)]


def test_very_large_files_are_not_scanned(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With only the header's duration and seeks by time, the frames are the same."""
    pts = list(range(500))
    for name in ("long.mp4", "long.mkv"):
        options = {"crf": "20", "g": "25", "bf": "2"}
        path = make.write(tmp_path / name, pts, base=BASE, options=options)
        monkeypatch.setattr(scan, "SCAN_LIMIT_BYTES", 0)
        monkeypatch.setattr(decode_clock, "SEEK_GAP_SECONDS", 1.5)
        assert numbers(make, path) == [number % 512 for number in make.expected(pts, 1, 8)]
        assert numbers(make, path, start=15.0, end=16.0, frames=2) == [381, 393 + 0]


def test_frame_folders_are_spaced_equally(make: Any, tmp_path: Path) -> None:
    for number in range(12):
        Image.fromarray(make.picture(number)).save(tmp_path / f"img_{number + 1}.png")
    (tmp_path / ".DS_Store").write_bytes(b"x")
    clip = load_raw_clip(tmp_path, frames=4)
    assert [make.number_of(frame) for frame in clip.frames] == [1, 4, 7, 10]
    assert clip.fps is None
    assert clip.duration_seconds == pytest.approx(12 / 25)
    with pytest.raises(VideoError, match="start and end are for video files only"):
        load_clip(tmp_path, frames=4, size=32, start=0.1)


def test_a_single_picture_repeats(make: Any, tmp_path: Path) -> None:
    path = tmp_path / "one.PNG"
    Image.fromarray(make.picture(5)).save(path)
    clip = load_raw_clip(path, frames=3)
    assert [make.number_of(frame) for frame in clip.frames] == [5, 5, 5]
    assert clip.times_seconds.tolist() == [0, 0, 0]
