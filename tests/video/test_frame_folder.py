"""Frame folders as data sets and cameras leave them, animated pictures, and deep pictures."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mafsar.errors import InputError, VideoError
from mafsar.video import (
    clip_exists,
    content_sha256,
    find_clips,
    load_clip,
    load_raw_clip,
)
from mafsar.video.find import search_clips, skipped_note
from mafsar.video.frame_folder import read_frame_folder


def save(path: Path, pixels: np.ndarray, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def numbers(make: Any, path: Path | str, **options: Any) -> list[int]:
    return [make.number_of(frame) for frame in load_raw_clip(path, frames=8, **options).frames]


MIDDLES = [2, 7, 12, 17, 22, 27, 32, 37]  # of 40 equal frames


def test_flow_beside_frames(make: Any, tmp_path: Path) -> None:
    for number in range(40):
        save(tmp_path / f"img_{number:05d}.jpg", make.picture(number))
        save(tmp_path / f"flow_x_{number:05d}.jpg", make.picture(63))
    clip = load_raw_clip(tmp_path, frames=8)
    assert [make.number_of(frame) for frame in clip.frames] == MIDDLES
    said = "40 pictures skipped (flow_x_00000.jpg, flow_x_00001.jpg, flow_x_00002.jpg, …)"
    assert clip.repairs == (f"{said}; its frames are img_{{:05d}}.jpg",)
    assert content_sha256(tmp_path) == content_sha256(tmp_path / "img_{:05d}.jpg")
    assert content_sha256(tmp_path) != content_sha256(tmp_path / "flow_x_{:05d}.jpg")


def test_the_clock_of_a_pattern_is_content(make: Any, tmp_path: Path) -> None:
    for number in (0, 1, 2, 9):
        save(tmp_path / f"img_{number:05d}.jpg", make.picture(number))
    hashes = [
        content_sha256(tmp_path / f"img_{{:05d}}.jpg{clock}")
        for clock in ("", "?fps=10", "?fps=50")
    ]
    assert len(set(hashes)) == 3
    assert content_sha256(tmp_path / "img_{:05d}.jpg?fps=10") == hashes[1]


def test_a_pattern_chooses(make: Any, tmp_path: Path) -> None:
    for number in range(40):
        save(tmp_path / f"cam0_{number:02d}.png", make.picture(number))
        save(tmp_path / f"cam1_{number:02d}.png", make.picture(60 - number))
    with pytest.raises(
        VideoError,
        match=r"holds several kinds of frames: cam0_\{:02d\}\.png \(40\), cam1_\{:02d\}\.png \(40\); "
        r"choose one by frames_pattern='cam0_\{:02d\}\.png'",
    ):
        read_frame_folder(tmp_path)
    assert numbers(make, tmp_path / "cam0_{:02d}.png") == MIDDLES
    assert numbers(make, tmp_path / "cam1_%02d.png") == [60 - number for number in MIDDLES]
    assert numbers(make, tmp_path / "cam0_{:02d}.png?start=32") == list(range(32, 40))
    timed = load_raw_clip(tmp_path / "cam0_{:02d}.png?fps=10", frames=4, start=1.0, end=3.0)
    assert [make.number_of(frame) for frame in timed.frames] == [12, 17, 22, 27]
    assert timed.fps == pytest.approx(10)
    assert clip_exists(tmp_path / "cam0_{:02d}.png")
    with pytest.raises(VideoError, match="no picture is named cam2"):
        load_raw_clip(tmp_path / "cam2_{}.png", frames=8)
    with pytest.raises(InputError, match="only start=N and fps=N"):
        load_raw_clip(tmp_path / "cam0_{}.png?rate=3", frames=8)


def test_seconds_in_names_are_the_clock(make: Any, tmp_path: Path) -> None:
    for number in range(40):
        save(tmp_path / f"{number * 0.04:.4g}.png", make.picture(number))
    clip = load_raw_clip(tmp_path, frames=8)
    assert [make.number_of(frame) for frame in clip.frames] == MIDDLES
    assert clip.fps == pytest.approx(25)
    assert clip.duration_seconds == pytest.approx(1.6)
    np.testing.assert_allclose(clip.times_seconds, np.array(MIDDLES) * 0.04)
    # A gap in the names is a gap in time.
    for number in range(10, 30):
        (tmp_path / f"{number * 0.04:.4g}.png").unlink()
    assert numbers(make, tmp_path) == [2, 7, 9, 9, 9, 9, 32, 37]
    assert numbers(make, tmp_path, start=0.0, end=0.32) == list(range(8))


@pytest.mark.parametrize("form", ["{}", "{:x}", "{:03x}", "img{:d}"])
def test_numbers_of_other_kinds(make: Any, tmp_path: Path, form: str) -> None:
    first = -20 if form == "{}" else 0
    for number in range(40):
        save(tmp_path / f"{form.format(number + first)}.png", make.picture(number))
    assert numbers(make, tmp_path) == MIDDLES


def animate(path: Path, make: Any, durations: list[int] | int, **options: Any) -> None:
    frames = [Image.fromarray(make.picture(number)) for number in range(40)]
    path.parent.mkdir(parents=True, exist_ok=True)
    frames[0].save(
        path, save_all=True, append_images=frames[1:], duration=durations, **options
    )  # fmt: skip


@pytest.mark.parametrize("name", ["a.webp", "a.png", "a.apng", "a.avif"])
def test_animated_pictures(make: Any, tmp_path: Path, name: str) -> None:
    options = {"lossless": True} if name == "a.webp" else {}
    try:
        animate(tmp_path / "x" / name, make, 40, **options)
    except (KeyError, OSError):
        pytest.skip("this Pillow does not write it")
    clip = load_raw_clip(tmp_path / "x" / name, frames=8)
    assert [make.number_of(frame) for frame in clip.frames] == MIDDLES
    assert clip.duration_seconds == pytest.approx(1.6, rel=0.02)
    assert clip.fps == pytest.approx(25, rel=0.02)
    assert find_clips(tmp_path) == [tmp_path / "x" / name]


@pytest.mark.parametrize("name", ["a.webp", "a.png"])
def test_frames_of_unequal_durations(make: Any, tmp_path: Path, name: str) -> None:
    animate(tmp_path / name, make, [1000] * 2 + [20] * 38)
    assert numbers(make, tmp_path / name)[:6] == [0, 0, 0, 1, 1, 1]


def test_pages_of_a_tiff(make: Any, tmp_path: Path) -> None:
    frames = [Image.fromarray(make.picture(number)) for number in range(40)]
    for name, options in (("a.tif", {}), ("b.tiff", {"compression": "tiff_deflate"})):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
        clip = load_raw_clip(tmp_path / name, frames=8)
        assert [make.number_of(frame) for frame in clip.frames] == MIDDLES
        assert clip.fps is None
    # A second page of another size is a preview.
    frames[5].save(tmp_path / "c.tif", save_all=True, append_images=[frames[6].resize((9, 9))])
    assert numbers(make, tmp_path / "c.tif") == [5] * 8


def test_a_still_of_these_kinds_is_one_frame(make: Any, tmp_path: Path) -> None:
    for name in ("a.webp", "a.png", "a.tif", "a.pgm", "a.jfif", "a.jp2", "a.bmp"):
        save(tmp_path / name, make.picture(9))
        assert numbers(make, tmp_path / name) == [9] * 8
    assert find_clips(tmp_path) == [tmp_path]


def test_transparent_animation_is_black(tmp_path: Path) -> None:
    grey = np.full((20, 30, 4), 200, np.uint8)
    grey[..., 3] = 255
    grey[:, :15, 3] = 0
    frames = [Image.fromarray(grey), Image.fromarray(grey[:, ::-1])]
    frames[0].save(
        tmp_path / "a.webp", save_all=True, append_images=frames[1:], lossless=True, duration=100
    )
    shown = load_raw_clip(tmp_path / "a.webp", frames=2).frames
    assert shown[0, 5, 5].max() == 0
    assert shown[0, 5, 25].min() == 200


@pytest.mark.parametrize("scale", [16, 200])
def test_deep_grey_by_the_clip_s_own_range(make: Any, tmp_path: Path, scale: int) -> None:
    for number in range(16):
        values = make.picture(number)[..., 0].astype(np.uint16) * scale // 4
        save(tmp_path / f"{number}.png", values)
    clip = load_raw_clip(tmp_path, frames=16)
    assert [make.number_of(frame) for frame in clip.frames] == list(range(16))
    assert (clip.frames.min(), clip.frames.max()) == (0, 255)
    low, high = 40 * scale // 4, 215 * scale // 4
    assert clip.repairs == (f"its deep grey values from {low} to {high} become 0 to 255",)
    # The range is the clip's, however many frames are taken.
    assert (load_raw_clip(tmp_path, frames=1).frames == clip.frames[8]).all()


def test_float_and_full_range_pictures(make: Any, tmp_path: Path) -> None:
    for number in range(8):
        grey = make.picture(number)[..., 0]
        values = (grey / 255).astype(np.float32)
        values[0, 0] = np.nan
        save(tmp_path / "float" / f"{number}.tif", values)
        full = grey.astype(np.uint16) * 257
        full[:2] = [[0], [65535]]
        save(tmp_path / "full" / f"{number}.png", full)
    assert numbers(make, tmp_path / "float") == list(range(8))
    clip = load_raw_clip(tmp_path / "full", frames=8)
    assert clip.repairs == ()
    assert (clip.frames[3, 3:] == make.picture(3)[3:]).all()


def test_unknown_endings_are_looked_at(make: Any, tmp_path: Path) -> None:
    video = make.write(tmp_path / "v.mp4").read_bytes()
    stream = make.write(tmp_path / "v.ts").read_bytes()
    (tmp_path / "v.mp4").unlink()
    (tmp_path / "v.ts").unlink()
    for name, content in (
        ("a.qt", video), ("b", video), ("c.xyz", stream), ("d.MOD", stream), ("e.m2t", stream),
        ("f.dat", b"no clip"), ("g.txt", video), ("h", b""), ("i.mp4.part", video),
    ):  # fmt: skip
        (tmp_path / name).write_bytes(content)
    found = search_clips(tmp_path)
    assert [path.name for path in found.clips] == ["a.qt", "b", "c.xyz", "d.MOD", "e.m2t"]
    for path in found.clips:
        assert len(numbers(make, path)) == 8
    note = skipped_note(tmp_path, found.skipped)
    what = "4 files or folders that are no clips"
    kinds = "1 .dat, 1 .txt, 1 no ending, 1 .part"
    assert note == f"{tmp_path}: skipped {what} ({kinds}: f.dat, g.txt, h, …)"
    for number in range(8):
        Image.fromarray(make.picture(number)).save(tmp_path / "x.jpg")
        (tmp_path / "frames").mkdir(exist_ok=True)
        (tmp_path / "x.jpg").rename(tmp_path / "frames" / f"frame{number}")
    assert numbers(make, tmp_path / "frames") == list(range(8))


def test_folders_of_flow_beside_frames(make: Any, tmp_path: Path) -> None:
    for folder in ("img", "flow_x", "flow_y"):
        for number in range(3):
            save(tmp_path / "clip" / folder / f"{number}.jpg", make.picture(number))
    assert find_clips(tmp_path) == [tmp_path / "clip" / "img"]
    passed = [path.name for path in search_clips(tmp_path).skipped]
    assert passed == ["flow_x", "flow_y"]


def peak_mib(code: str) -> float:
    """Peak memory of a process that runs the code, MiB."""
    # Not getrusage: what that counts of a child includes its parent's pages before exec.
    code += "\nprint(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stderr == ""
    return float(run.stdout) / 1024


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs Linux's /proc")
def test_large_pictures_need_the_memory_of_one(tmp_path: Path) -> None:
    flat = Image.new("RGB", (9000, 9000), (10, 200, 30))
    flat.save(tmp_path / "0.png", compress_level=1)
    for number in range(1, 8):
        (tmp_path / f"{number}.png").hardlink_to(tmp_path / "0.png")
    del flat
    Image.new("L", (13000, 13000), 77).save(tmp_path / "grey.png", compress_level=1)
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(8):
        (tmp_path / f"{number}.png").rename(folder / f"{number}.png")
    for source, colour in ((folder, (10, 200, 30)), (tmp_path / "grey.png", (77, 77, 77))):
        assert load_clip(source, frames=2, size=64).pixels[1, 9, 9].tolist() == list(colour)
        for call in ("load_clip({!r}, frames=8, size=224)",
                     "load_raw_clip({!r}, frames=8, short_side=256)"):  # fmt: skip
            code = "from mafsar.video import load_clip, load_raw_clip\n"
            assert peak_mib(code + call.format(str(source))) < 400


def test_pictures_beyond_the_limit_are_named(tmp_path: Path) -> None:
    Image.new("1", (20000, 10000)).save(tmp_path / "a.png")
    with pytest.raises(VideoError, match=r"a\.png: has .*more than the 178 million pixels"):
        load_clip(tmp_path / "a.png", frames=1, size=32)


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs Linux's /proc")
def test_large_video_frames_need_the_memory_of_one(make: Any, tmp_path: Path) -> None:
    def flat(number: int, width: int, height: int) -> np.ndarray:
        frame = np.full((height, width, 3), 100, np.uint8)
        frame[: height // 2] = 20 * number
        return frame

    path = make.write(
        tmp_path / "a.avi", range(9), codec="mjpeg", layout="yuvj420p", size=(8192, 8192),
        picture=flat, options={"qscale": "2"},
    )  # fmt: skip
    code = f"from mafsar.video import load_clip\nload_clip({str(path)!r}, frames=8, size=224)"
    assert peak_mib(code) < 400
    clip = load_clip(path, frames=3, size=64)
    np.testing.assert_allclose(clip.pixels[:, 10, 30, 0], [20, 80, 140], atol=4)
    np.testing.assert_allclose(clip.pixels[:, 50, 30, 1], 100, atol=4)
    np.testing.assert_allclose(clip.times_seconds, np.array([1, 4, 7]) / 25)
