"""Truncation is said where pictures are missing, and only there; each file is cut at a known place."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mafsar.errors import VideoError
from mafsar.video import load_raw_clip, video_info

BASE = Fraction(1, 25)
MIDDLES = [5, 15, 25, 35, 45, 55, 65, 75]
FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
TS = 188  # bytes of a packet


def numbers(make: Any, path: Path) -> list[int]:
    return [make.number_of(frame) for frame in load_raw_clip(path, frames=8).frames]


def noisy(make: Any) -> Any:
    """Numbered pictures that need many packets each."""
    generator = np.random.default_rng(0)
    noise = [generator.integers(-30, 30, (240, 320, 3)) for _ in range(7)]

    def picture(number: int, width: int, height: int) -> np.ndarray:
        plain = make.picture(number, width, height).astype(int)
        return np.clip(plain + noise[number % 7], 0, 255).astype(np.uint8)

    return picture


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("libx264", {"crf": "23", "preset": "ultrafast"}),
        ("libx264", {"crf": "23", "bf": "2", "preset": "fast"}),
        ("mpeg2video", {"q:v": "4", "bf": "2"}),
    ],
)
@pytest.mark.parametrize("ending", ["ts", "m2ts"])
def test_a_transport_stream_cut_between_two_packets(
    make: Any, tmp_path: Path, codec: str, options: dict[str, str], ending: str
) -> None:
    path = make.write(
        tmp_path / f"a.{ending}", list(range(30)), base=BASE, codec=codec, options=options,
        size=(320, 240), picture=noisy(make),
    )  # fmt: skip
    data, size = path.read_bytes(), TS + 4 * (ending == "m2ts")
    assert load_raw_clip(path, frames=8).repairs == ()
    noticed = cuts = 0
    for share in np.linspace(0.4, 0.95, 8):
        cut = int(len(data) * share) // size * size
        following = data[cut : cut + size][size - TS :]
        if following[1] & 0x40:
            continue  # a frame begins here: what is there is whole
        cuts += 1
        path.write_bytes(data[:cut])
        noticed += "the file is cut short (it ends inside a frame)" in "; ".join(
            load_raw_clip(path, frames=8).repairs
        )
    assert cuts > 4
    assert noticed >= cuts - 1  # a slice may end where the cut is


def test_matroska_without_its_index(make: Any, tmp_path: Path) -> None:
    """What stands behind the pictures may be missing; a part of a picture may not."""
    path = make.write(tmp_path / "a.mkv", list(range(80)), base=BASE)
    data = path.read_bytes()
    index = data.rindex(b"\x1c\x53\xbb\x6b")
    for kept in (index, index + 9, len(data) - 1):
        path.write_bytes(data[:kept])
        assert numbers(make, path) == MIDDLES
        assert load_raw_clip(path, frames=8).repairs == ()
    path.write_bytes(data[: index - 40])
    with pytest.raises(VideoError, match="is truncated"):
        load_raw_clip(path, frames=8)


def test_avi_without_its_index(make: Any, tmp_path: Path) -> None:
    path = make.write(
        tmp_path / "a.avi", list(range(80)), base=BASE, codec="mpeg4", options={"q:v": "2"}
    )
    data = path.read_bytes()
    index = data.rindex(b"idx1")
    for kept in (index, index + 20, len(data) - 1):
        path.write_bytes(data[:kept])
        assert numbers(make, path) == MIDDLES
    path.write_bytes(data[: index - 2000])
    with pytest.raises(VideoError, match="is truncated"):
        load_raw_clip(path, frames=8)


def test_gif_without_its_trailer(make: Any, tmp_path: Path) -> None:
    path = make.write(
        tmp_path / "a.gif", list(range(80)), base=BASE, codec="gif", layout="rgb8", options={}
    )
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    assert numbers(make, path) == MIDDLES
    path.write_bytes(data[:-20])
    with pytest.raises(VideoError, match="is truncated"):
        load_raw_clip(path, frames=8)


def test_a_last_fragment_that_claims_to_be_longer(make: Any, tmp_path: Path) -> None:
    path = make.write(
        tmp_path / "a.mp4", list(range(80)), base=BASE, container_options=FRAGMENTED,
        options={"crf": "12", "g": "20", "bf": "0"},
    )  # fmt: skip
    data = path.read_bytes()
    begin, end = data.rindex(b"mdat") - 4, data.rindex(b"mfra") - 4
    longer = (int.from_bytes(data[begin : begin + 4], "big") + 300).to_bytes(4, "big")
    path.write_bytes(data[:begin] + longer + data[begin + 4 : end])
    assert numbers(make, path) == MIDDLES
    path.write_bytes(data[: end - 200])
    with pytest.raises(VideoError, match="is truncated"):
        load_raw_clip(path, frames=8)


def test_fewer_frames_than_the_header_states(make: Any, tmp_path: Path) -> None:
    """Damage inside a Matroska file ends FFmpeg's reading without a message."""
    path = make.write(
        tmp_path / "a.mkv", list(range(80)), base=BASE, options={"crf": "12", "g": "10"},
        container_options={"cluster_time_limit": "400"},
    )  # fmt: skip
    data = bytearray(path.read_bytes())
    begin, end = len(data) // 3, data.rindex(b"\x1c\x53\xbb\x6b")
    data[begin:end] = b"\xec" + b"\x00" * (end - begin - 1)
    path.write_bytes(data)
    said = "; ".join(video_info(path)["repairs"])
    assert "its header states 3.20 s, but its frames end after" in said


def test_other_data_behind_a_gif_is_not_read(make: Any, tmp_path: Path) -> None:
    """FFmpeg would take all of it for one picture: here 3 GB, of which the disk has nothing."""
    path = make.write(
        tmp_path / "a.gif", list(range(80)), base=BASE, codec="gif", layout="rgb8", options={}
    )
    with path.open("r+b") as file:
        file.truncate(3 << 30)
    assert numbers(make, path) == MIDDLES
    assert video_info(path)["frames"] == 80


def test_a_gap_of_avi_is_cut(make: Any, tmp_path: Path) -> None:
    """AVI fills it with empty chunks."""
    pts = [*range(40), *(number + 500 for number in range(40, 80))]
    path = make.write(tmp_path / "a.avi", pts, base=BASE, options={"crf": "12", "bf": "2"})
    assert all(abs(a - b) <= 1 for a, b in zip(numbers(make, path), MIDDLES, strict=True))
    assert "the clock jumps once" in "; ".join(load_raw_clip(path, frames=8).repairs)


def test_a_default_stream_that_does_not_move(make: Any, tmp_path: Path) -> None:
    """MP4 marks its first stream as the default one; a still beside a video is not the clip."""
    import av

    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as output:
        streams = []
        for side in (192, 96):
            stream = output.add_stream("libx264", rate=25, options={"crf": "12"})
            stream.width = stream.height = side
            stream.pix_fmt = "yuv420p"
            streams.append(stream)
        for number in range(80):
            for stream in streams[number > 0 :]:
                frame = av.VideoFrame.from_ndarray(
                    make.picture(number, stream.width, stream.height), "rgb24"
                )
                frame.pts, frame.time_base = number, BASE
                output.mux(stream.encode(frame))
        for stream in streams:
            output.mux(stream.encode(None))
    assert numbers(make, path) == MIDDLES
    assert "stream 1 (96x96) is read" in "; ".join(load_raw_clip(path, frames=8).repairs)
