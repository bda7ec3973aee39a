"""Real clips: frames against a plain decoder loop, pictures against open_clip's own transform, and
every clip of the collection at least once.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from mafsar.video import (
    ClipRequest,
    Geometry,
    decode,
    find_clips,
    is_frame_folder,
    load_clip,
    load_clips,
    load_raw_clip,
    video_info,
)
from mafsar.video.clip import Clip

FRAMES = 8
# Sizes from 176x144 to 1920x1080, one or several key frames, MKV, wide pixels, with or without B frames.
SOME = [
    "formats/bikes.mp4",
    "formats/carphone_pristine.mp4",
    "formats/decord_flipping_a_pancake.mkv",
    "formats/mmaction2_demo_armwrestling.mp4",
    "formats/mmaction2_part_0.mp4",
    "street60/fight/fi021.mp4",
    "street60/fight/fi026.mp4",
    "street60/fight/fi086.mp4",
    "street60/nofight/nofi011.mp4",
    "street60/nofight/nofi041.mp4",
    "scenes6/cups/part0.mp4",
]


def plain_loop(path: Path) -> tuple[list[np.ndarray], list[float], Fraction]:
    """Decodes everything, frame by frame, and takes the middle of T segments by timestamps.

    Returns the RGB frames, their seconds from the first one, and the pixel's aspect.
    """
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        base = stream.time_base
        stamps = sorted((p.pts, p.duration) for p in file.demux(stream) if p.pts is not None)
        aspect = stream.sample_aspect_ratio or Fraction(1)
    first = stamps[0][0]
    duration = stamps[-1][0] + stamps[-1][1] - first
    moments = [first + Fraction(duration) * (2 * i + 1) / (2 * FRAMES) for i in range(FRAMES)]
    taken: list[np.ndarray] = []
    times: list[float] = []
    with av.open(str(path)) as file:
        before = None
        for frame in [*file.decode(video=0), None]:
            while len(taken) < FRAMES and (frame is None or frame.pts > moments[len(taken)]):
                assert before is not None
                matrix = 1 if before.height >= 720 else 5
                matrix = {1: 1, 5: 5, 6: 5}.get(before.colorspace, matrix)
                taken.append(
                    before.to_ndarray(
                        format="rgb24",
                        src_colorspace=matrix,
                        dst_colorspace=matrix,
                        src_color_range=2 if before.color_range == 2 else 1,
                        dst_color_range=2,
                    )
                )
                times.append(float((before.pts - first) * base))
            before = frame
    return taken, times, aspect


@pytest.mark.parametrize("name", SOME)
def test_frames_are_those_of_a_plain_loop_to_the_byte(real_clips: Path, name: str) -> None:
    path = real_clips / name
    frames, times, aspect = plain_loop(path)
    raw = load_raw_clip(path, frames=FRAMES)
    np.testing.assert_allclose(raw.times_seconds, times, atol=1e-9)
    height, width = frames[0].shape[:2]
    assert raw.frames.shape == (FRAMES, height, round(width * aspect), 3)
    if aspect == 1:
        np.testing.assert_array_equal(raw.frames, np.stack(frames))
    else:
        size = (round(width * aspect), height)
        for shown, frame in zip(raw.frames, frames, strict=True):
            square = Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC)
            assert np.abs(shown.astype(int) - np.asarray(square)).mean() < 0.1


@pytest.mark.parametrize("name", SOME)
def test_same_bytes_by_seeking_and_by_decoding_through(real_clips: Path, name: str) -> None:
    clips = [
        load_clip(real_clips / name, frames=FRAMES, size=64, strategy=way)
        for way in ("auto", "seek", "through")
    ]
    np.testing.assert_array_equal(clips[0].pixels, clips[1].pixels)
    np.testing.assert_array_equal(clips[0].pixels, clips[2].pixels)


def test_pictures_are_open_clips_own(real_clips: Path) -> None:
    """Mean difference ≤ 1/255 for each clip."""
    torch = pytest.importorskip("torch")
    open_clip = pytest.importorskip("open_clip")
    transform: Any = open_clip.image_transform(224, is_train=False, mean=(0, 0, 0), std=(1, 1, 1))
    torch.set_num_threads(1)
    folders = sorted((real_clips / "actions2").glob("*/*"))[:2]
    for path in [*(real_clips / name for name in SOME), *folders]:
        # open_clip would be given displayed pictures, in square pixels.
        raw = load_raw_clip(path, frames=2)
        truth = np.stack(
            [transform(Image.fromarray(frame)).permute(1, 2, 0).numpy() for frame in raw.frames]
        )
        found = load_clip(path, frames=2, size=224).pixels / 255.0
        assert float(np.abs(found - truth).mean()) <= 1 / 255, path


def test_every_clip_decodes(real_clips: Path) -> None:
    paths = [
        path
        for part in ("scenes6", "actions2", "formats")
        for path in find_clips(real_clips / part)
    ]
    paths += find_clips(real_clips / "street60")[::5]
    assert len(paths) == 30 + 4 + 7 + 12
    requests = [ClipRequest(path, FRAMES, 112) for path in paths]
    for path, clip in zip(paths, load_clips(requests), strict=True):
        assert isinstance(clip, Clip), clip
        assert clip.pixels.shape == (FRAMES, 112, 112, 3)
        assert clip.pixels.std() > 5, path
        assert (np.diff(clip.times_seconds) >= 0).all()
        assert 0 <= clip.times_seconds[0] <= clip.times_seconds[-1] < clip.duration_seconds
        assert (clip.fps is None) == is_frame_folder(path)


def test_headers_agree(real_clips: Path) -> None:
    info = video_info(real_clips / "street60/fight/fi096.mp4")
    assert info["duration_seconds"] == pytest.approx(2.002)
    assert (info["width"], info["height"], info["frames"]) == (1920, 1080, 60)
    assert info["codec"] == "h264"
    # The header states a width of 340 with pixels of 64:51.
    wide = video_info(real_clips / "formats/mmaction2_demo_armwrestling.mp4")
    assert (wide["width"], wide["height"]) == (427, 256)


def test_frame_folders_are_taken_in_order(real_clips: Path) -> None:
    folder = real_clips / "actions2/jumping/0001"
    names = sorted(folder.glob("*.jpg"))
    raw = load_raw_clip(folder, frames=4)
    chosen = [names[len(names) * (2 * i + 1) // 8] for i in range(4)]
    for frame, name in zip(raw.frames, chosen, strict=True):
        np.testing.assert_array_equal(frame, np.asarray(Image.open(name).convert("RGB")))


def test_geometry_on_a_real_clip(real_clips: Path) -> None:
    path = real_clips / "street60/fight/fi021.mp4"
    whole = load_raw_clip(path, frames=2).frames
    part = load_raw_clip(path, frames=2, geometry=Geometry(roi=(100, 50, 224, 224)))
    np.testing.assert_array_equal(part.frames, whole[:, 50:274, 100:324])
    same = load_clip(path, frames=2, size=224, geometry=Geometry(roi=(100, 50, 224, 224)))
    np.testing.assert_array_equal(same.pixels, part.frames)
    small = load_raw_clip(path, frames=2, short_side=100).frames
    assert small.shape == (2, 100, 173, 3)  # 626x360


def test_few_frames_are_decoded_where_few_are_wanted(
    real_clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a clip with six key frames, 8 frames do not need all 250."""
    decoded = 0
    true_decode = decode.decode_packet

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal decoded
        frames = true_decode(*arguments, **options)
        decoded += len(frames)
        return frames

    monkeypatch.setattr(decode, "decode_packet", counted)
    load_clip(real_clips / "formats/bikes.mp4", frames=FRAMES, size=32)
    assert decoded < 130
