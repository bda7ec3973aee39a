"""Clips in memory: arrays, lists of frames and lists of Pillow images, with their clocks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mafsar.errors import InputError, VideoError
from mafsar.video import (
    Clip,
    ClipRequest,
    Geometry,
    MemoryClip,
    clip_from_array,
    clip_source,
    content_sha256,
    is_clip_source,
    load_clips,
    load_memory_clip,
    load_raw_clip,
)

UNEVEN = [0, 1, 2, 3, 10, 11, 12, 20, 21, 22, 23, 24, 40, 41, 60, 61, 62, 63, 64, 65]
FRAME = np.zeros((4, 6, 3), np.uint8)


@pytest.fixture
def array(make: Any) -> np.ndarray:
    """Twenty numbered frames, (20, 96, 96, 3)."""
    return np.stack([make.picture(number) for number in range(20)])


def test_frames_are_taken_by_rate_and_by_times(make: Any, array: np.ndarray) -> None:
    def taken(**clock: Any) -> list[int]:
        clip = clip_from_array(array, frames=8, size=96, **clock)
        return [make.number_of(frame) for frame in clip.pixels]

    assert taken(fps=10) == taken() == make.expected(list(range(20)), 1, 8)
    # The median gap of these times is one tick, which is how long the last frame is taken to be.
    assert taken(times=np.array(UNEVEN) / 25 + 3.0) == make.expected(UNEVEN, 1, 8)
    assert clip_from_array(array, fps=10, frames=2, size=8).fps == 10
    assert clip_from_array(array, frames=2, size=8).fps is None


def test_lists_of_frames_and_images_are_the_same_clip_as_an_array(array: np.ndarray) -> None:
    forms = [
        array,
        list(array),
        tuple(array),
        [Image.fromarray(frame) for frame in array],
        [Image.fromarray(frame) if index % 2 else frame for index, frame in enumerate(array)],
    ]
    expected = clip_from_array(array, fps=12, frames=8, size=48)
    for form in forms:
        clip = clip_from_array(form, fps=12, frames=8, size=48)
        np.testing.assert_array_equal(clip.pixels, expected.pixels)
        assert clip.times_seconds.tolist() == expected.times_seconds.tolist()
        assert (clip.duration_seconds, clip.fps) == (expected.duration_seconds, expected.fps)


def test_images_of_every_mode_are_handled_as_files_of_that_kind(tmp_path: Path) -> None:
    veiled = np.zeros((20, 30, 4), np.uint8)
    veiled[...] = (200, 100, 50, 128)
    veiled[:, :15, 3] = 0
    turned = Image.fromarray(np.repeat(np.arange(30, dtype=np.uint8)[None], 20, 0))
    turned.getexif()[0x0112] = 6  # turn 90° clockwise to show
    images = {
        "RGBA": Image.fromarray(veiled),
        "L": Image.fromarray(np.full((20, 30), 77, np.uint8)),
        "1": Image.fromarray(np.eye(20, 30, dtype=np.uint8) * 255).convert("1"),
        "LA": Image.fromarray(veiled).convert("LA"),
        "P": Image.fromarray(veiled[..., :3]).quantize(4),
        "I;16": Image.fromarray(np.full((20, 30), 0x8000, np.uint16)),
        "CMYK": Image.new("CMYK", (30, 20), (10, 20, 30, 40)),
        "turned": turned,
    }
    for mode, image in images.items():
        path = tmp_path / ("still.tif" if mode == "CMYK" else "still.png")
        image.save(path, exif=image.getexif())
        clip = clip_source([image])
        assert isinstance(clip, MemoryClip)
        np.testing.assert_array_equal(
            clip.frames[0], load_raw_clip(path, frames=1).frames[0], err_msg=mode
        )
    assert clip_source([turned]).frames[0].shape == (30, 20, 3)  # type: ignore[union-attr]


def test_equal_content_has_one_hash(array: np.ndarray, tmp_path: Path) -> None:
    def digest(source: Any, **clock: Any) -> str:
        clip = clip_source(source, **clock)
        assert isinstance(clip, MemoryClip)
        return clip.content_sha256

    one = digest(array, fps=10)
    assert len(one) == 64
    assert one == digest(list(array), fps=10, name="other")
    assert one == digest([Image.fromarray(frame) for frame in array], fps=10)
    assert one == digest(array[:, ::-1][:, ::-1], fps=10)
    # Times from another start, with other rounding.
    assert one == digest(array, times=1000.1 + np.arange(20) * 0.1)
    changed = array.copy()
    changed[7, 3, 3, 1] ^= 1
    others = [
        digest(changed, fps=10),
        digest(array, fps=11),
        digest(array[:19], fps=10),
        digest(array[::-1], fps=10),
        digest(array.reshape(20, 48, 192, 3), fps=10),
    ]
    assert len({one, *others}) == 6
    (tmp_path / "raw.mp4").write_bytes(array.tobytes())
    assert content_sha256(tmp_path / "raw.mp4") != one


def test_one_function_takes_every_source(array: np.ndarray) -> None:
    assert clip_source("a.mp4") == clip_source(Path("a.mp4")) == Path("a.mp4")
    clip = clip_source(array, fps=5, name="wave 2")
    assert isinstance(clip, MemoryClip)
    assert clip_source(clip) is clip
    assert repr(clip) == "MemoryClip(20 frames of 96x96, 5.00 fps)"
    assert repr(clip_source(array)) == "MemoryClip(20 frames of 96x96, no clock)"


def test_one_clip_is_told_from_a_list_of_clips(array: np.ndarray) -> None:
    for one in ("a.mp4", Path("a"), array, list(array), [Image.fromarray(array[0])], array[0]):
        assert is_clip_source(one)
    for many in ([], ["a.mp4"], [array, array], [clip_source(array)], [list(array)], None, 5):
        assert not is_clip_source(many)


def test_clips_in_memory_and_in_files_load_together_in_order(
    make: Any, array: np.ndarray, tmp_path: Path
) -> None:
    path = make.write(tmp_path / "a.mp4", list(range(20)))
    memory = clip_source(array, fps=25, name="wave 2")
    outside = Geometry(roi=(90, 0, 20, 10))
    found = list(
        load_clips(
            [
                ClipRequest(memory, frames=4, size=48),
                ClipRequest(path, frames=4, size=48),
                ClipRequest(memory, frames=4, size=48, geometry=outside),
                ClipRequest(memory, frames=4, size=48, start=0.1),
                ClipRequest(clip_source(array[:1]), frames=4, size=48),
            ]
        )
    )
    expected = make.expected(list(range(20)), 1, 4)
    for clip in found[:2]:
        assert isinstance(clip, Clip)
        assert [make.number_of(frame) for frame in clip.pixels] == expected
    for error, message in ((found[2], "outside the picture of 96x96"), (found[3], "start and end")):
        assert isinstance(error, VideoError)
        assert str(error).startswith("wave 2: ")
        assert message in str(error)
    assert isinstance(found[4], Clip)
    assert [make.number_of(frame) for frame in found[4].pixels] == [0] * 4


def test_repeated_frames_are_converted_once(array: np.ndarray) -> None:
    clip = clip_source(array[:2])
    assert isinstance(clip, MemoryClip)
    loaded = load_memory_clip(clip, frames=8, size=16)
    assert loaded.times_seconds.tolist() == [0.0] * 4 + [0.04] * 4
    with pytest.raises(InputError, match="frames must be at least 1, got 0"):
        load_memory_clip(clip, frames=0, size=16)


CLIP = "must be a uint8 RGB array of shape (T, H, W, 3)"


@pytest.mark.parametrize(
    ("source", "clock", "message"),
    [
        (np.zeros((2, 4, 4, 3)), {}, f"array: {CLIP}, got float64 (2, 4, 4, 3)"),
        (np.zeros((4, 4, 3), np.uint8), {}, "got uint8 (4, 4, 3)"),
        (np.zeros((2, 4, 4, 4), np.uint8), {}, "got uint8 (2, 4, 4, 4)"),
        (np.zeros((0, 4, 4, 3), np.uint8), {}, "got uint8 (0, 4, 4, 3)"),
        (5, {}, "a clip is a path, a uint8 RGB array of shape (T, H, W, 3), a list of frames"),
        ([], {}, "array: the list of frames is empty"),
        (
            [1, 2],
            {},
            "frame 0 must be a uint8 RGB array of shape (H, W, 3) or a PIL image, got int",
        ),
        ([FRAME, None], {}, "frame 1 must be a uint8 RGB"),
        (
            [FRAME, FRAME / 255],
            {},
            "frame 1 must be a uint8 RGB array of shape (H, W, 3), got float64",
        ),
        (
            [FRAME, FRAME[..., 0]],
            {},
            "frame 1 must be a uint8 RGB array of shape (H, W, 3), got uint8 (4, 6)",
        ),
        (
            [FRAME, FRAME, FRAME[:, :5]],
            {},
            "array: frame 2 is 5x4 pixels and frame 0 is 6x4; all frames must have one size",
        ),
        (
            [Image.new("RGB", (6, 4)), Image.new("L", (4, 6))],
            {},
            "frame 1 is 4x6 pixels and frame 0 is 6x4",
        ),
        ([Image.new("RGB", (0, 4))], {}, "frame 0 is empty (0x4 pixels)"),
        ([FRAME] * 2, {"fps": 0}, "array: fps must be finite and > 0, got 0"),
        ([FRAME] * 2, {"fps": -25.0}, "fps must be finite and > 0, got -25"),
        ([FRAME] * 2, {"fps": float("nan")}, "fps must be finite and > 0, got nan"),
        ([FRAME] * 2, {"fps": float("inf")}, "fps must be finite and > 0, got inf"),
        ([FRAME] * 2, {"fps": "fast"}, "fps must be a number, got str"),
        ([FRAME] * 2, {"fps": 5, "times": [0, 1]}, "give fps or times, not both"),
        ([FRAME] * 2, {"times": [1, 0]}, "times must rise from frame to frame, got 1 for frame 0"),
        ([FRAME] * 2, {"times": [1, 1]}, "and 1 for frame 1"),
        ([FRAME] * 2, {"times": [1]}, "times must be 2 numbers, one for each frame, got 1"),
        ([FRAME] * 2, {"times": 1.0}, "times must be 2 numbers, one for each frame, got shape ()"),
        ([FRAME] * 2, {"times": [0, None]}, "times must be finite, got nan for frame 1"),
        ([FRAME] * 2, {"times": ["a", "b"]}, "times must be numbers of seconds"),
        ("a.mp4", {"fps": 5}, "fps and times are for arrays and lists of frames"),
    ],
)
def test_what_is_not_a_clip_is_refused_in_one_line(source: Any, clock: Any, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        clip_source(source, **clock)
    assert "\n" not in str(caught.value)


def test_a_truncated_or_closed_image_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    with Image.open(path) as cut, pytest.raises(InputError, match="frame 1 cannot be read"):
        clip_source([Image.new("RGB", (64, 64)), cut])
    closed = Image.open(path)
    closed.close()
    with pytest.raises(InputError, match="frame 0 cannot be read"):
        clip_source([closed])


def test_paths_are_not_arrays() -> None:
    with pytest.raises(InputError, match=r"a\.mp4: is a path; use load_clip"):
        clip_from_array("a.mp4", frames=2, size=8)
