"""Written videos can be read back, and no partial file is left."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from mafsar.errors import InputError, VideoError
from mafsar.synthetic.clips.render import Take
from mafsar.video import load_raw_clip, video_info, write_video


@pytest.mark.parametrize("size", [(96, 96), (175, 97), (64, 33), (2, 2)])
@pytest.mark.parametrize("fps", [25, 29.97, Fraction(30000, 1001), 0.5])
def test_what_is_written_is_read_back(
    make: Any, tmp_path: Path, size: tuple[int, int], fps: Any
) -> None:
    width, height = size
    path = tmp_path / "new" / "clip.mp4"
    frames = (make.picture(number, width, height) for number in range(12))
    assert write_video(path, frames, fps) == path
    info = video_info(path)
    assert (info["width"], info["height"]) == (width + width % 2, height + height % 2)
    assert info["duration_seconds"] == pytest.approx(12 / float(fps), rel=1e-3)
    assert info["fps"] == pytest.approx(float(fps), rel=1e-3)
    assert info["frames"] == 12
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
    if width > 2:
        taken = load_raw_clip(path, frames=12).frames
        assert [make.number_of(frame[:height, :width]) for frame in taken] == list(range(12))


@pytest.mark.parametrize("name", ["10:30 Uhr.mp4", "50%d.mp4", "-x.mp4", "跳 ünï.mp4", "a#b?.mp4"])
def test_any_file_name(make: Any, tmp_path: Path, name: str) -> None:
    path = write_video(tmp_path / name, [make.picture(5)] * 3, 10)
    assert make.number_of(load_raw_clip(path, frames=1).frames[0]) == 5
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_a_name_without_a_folder(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_video("10:30.mp4", [make.picture(5)] * 3, 10)
    assert make.number_of(load_raw_clip("10:30.mp4", frames=1).frames[0]) == 5


def test_same_frames_give_the_same_bytes(tmp_path: Path) -> None:
    """With mbtree, x264 gave other bytes for these about once in thirty to a hundred times."""
    frames = [*Take("pick_up_object", seed=11, frames=12, size=32).stage.pictures()]
    files = {write_video(tmp_path / "clip.mp4", frames, 12).read_bytes() for _ in range(80)}
    assert len(files) == 1


def test_colours_survive(tmp_path: Path) -> None:
    for height in (64, 720):  # players assume BT.601 and BT.709
        colours = [(200, 40, 40), (40, 200, 40), (40, 40, 200), (128, 128, 128), (250, 250, 10)]
        path = write_video(
            tmp_path / f"{height}.mp4",
            [np.full((height, 64, 3), colour, np.uint8) for colour in colours],
            10,
        )
        found = load_raw_clip(path, frames=len(colours)).frames[:, height // 2, 32]
        np.testing.assert_allclose(found, colours, atol=6)


def test_without_libx264_it_is_mpeg4(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(av, "codecs_available", av.codecs_available - {"libx264"})
    path = write_video(tmp_path / "a.mp4", [make.picture(3)] * 3, 10)
    assert video_info(path)["codec"] == "mpeg4"
    assert make.number_of(load_raw_clip(path, frames=1).frames[0]) == 3


def test_an_existing_file_stays_until_the_new_one_is_complete(make: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"old")

    def breaks() -> Iterator[np.ndarray]:
        yield make.picture(1)
        assert path.read_bytes() == b"old"
        raise RuntimeError("camera gone")

    with pytest.raises(RuntimeError, match="camera gone"):
        write_video(path, breaks(), 10)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize(
    ("frames", "fps", "message"),
    [
        ([], 10, "no frame to write"),
        ([np.zeros((4, 4, 3), np.uint8)], 0, "fps must be > 0, got 0"),
        ([np.zeros((4, 4, 3), np.uint8)], float("nan"), "fps must be > 0"),
        ([np.zeros((4, 4, 3))], 10, r"frame 0 must be uint8 RGB of shape \(H, W, 3\), got float64"),
        ([np.zeros((4, 4), np.uint8)], 10, r"got uint8 \(4, 4\)"),
        ([np.zeros((s, 4, 3), np.uint8) for s in (4, 6)], 10, "frame 1 has shape"),
    ],
)
def test_what_cannot_be_written(tmp_path: Path, frames: Any, fps: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        write_video(tmp_path / "a.mp4", frames, fps)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_to(make: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    path = tmp_path / "file" / "a.mp4"
    with pytest.raises(VideoError, match="cannot be written") as caught:
        write_video(path, [make.picture(1)], 10)
    assert str(caught.value).startswith(f"{path}: ")
