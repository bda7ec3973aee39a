"""Files whose clock or structure is not right: the frames that are there are taken, and what was
repaired is said. Every frame shows its number; the expected numbers come from how the file was made.
"""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from mafsar.errors import InputError, VideoError
from mafsar.video import ClipRequest, clip, load_clip, load_clips, load_raw_clip, video_info
from mafsar.video.timeline import FAR_STEPS

BASE = Fraction(1, 25)
REORDERED = {"crf": "12", "bf": "2", "g": "12", "preset": "fast", "b-adapt": "0"}
MPEG2 = {"codec": "mpeg2video", "options": {"q:v": "2", "bf": "2"}}


def numbers(make: Any, path: Path, frames: int = 8, **options: Any) -> list[int]:
    return [make.number_of(frame) for frame in load_raw_clip(path, frames=frames, **options).frames]


def middles(count: int, frames: int = 8, first: int = 0) -> list[int]:
    """The frames shown at the middles of T equal segments of equally spaced frames."""
    return [first + (2 * i + 1) * count // (2 * frames) for i in range(frames)]


def repairs(path: Path, frames: int = 8) -> str:
    """What is said of a file: the same for a model's clip and for a raw one."""
    said = load_raw_clip(path, frames=frames).repairs
    assert load_clip(path, frames=frames, size=32).repairs == said
    assert set(video_info(path)["repairs"]) <= set(said)
    return "; ".join(said)


def later(make: Any, first: int) -> Any:
    """Draws frame k with the number ``first`` + k."""
    return lambda number, width, height: make.picture(number + first, width, height)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.flv", "a.ts", "a.nut"])
def test_times_in_the_order_of_decoding(make: Any, tmp_path: Path, name: str) -> None:
    """Without presentation times the decoder's order is the order shown."""

    def decoding_time_only(packet: Any, number: int) -> None:
        packet.pts = packet.dts = number

    path = make.write(
        tmp_path / name, list(range(80)), base=BASE, options=REORDERED, change=decoding_time_only
    )
    assert numbers(make, path) == middles(80)
    assert "in the order of decoding" in repairs(path)
    assert video_info(path)["duration_seconds"] == pytest.approx(80 / 25, abs=0.09)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.ts", {"options": REORDERED}),
        ("a.ts", {"options": {"crf": "12", "g": "1"}}),
        ("a.mpg", MPEG2),
    ],
)
def test_a_clock_that_steps_back(make: Any, tmp_path: Path, name: str, options: Any) -> None:
    """Joined recordings and restarted cameras: both parts in the order of the file."""
    parts = [
        make.write(tmp_path / f"{first}{name}", list(range(80)), base=BASE, **options,
                   picture=later(make, first))
        for first in (0, 80)
    ]  # fmt: skip
    path = tmp_path / name
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    taken = numbers(make, path)
    assert all(abs(a - b) <= 1 for a, b in zip(taken, middles(160), strict=True)), taken
    assert "the clock steps back once after 3.1" in repairs(path)
    info = video_info(path)
    assert info["duration_seconds"] == pytest.approx(160 / 25, abs=0.09)
    assert info["frames"] == 160


JUMPS = {
    "middle": list(range(40)) + [number + 90_000 for number in range(40, 80)],
    "last": [*range(79), 15_000],
    "first": [0, *(number + 15_000 for number in range(1, 80))],
    "twice": [number + (number // 30) * 9_000 for number in range(80)],
}


@pytest.mark.parametrize("kind", JUMPS)
@pytest.mark.parametrize("name", ["a.ts", "a.mkv", "a.mp4"])
def test_one_gap_far_above_the_median_step(make: Any, tmp_path: Path, name: str, kind: str) -> None:
    path = make.write(tmp_path / name, JUMPS[kind], base=BASE)
    assert numbers(make, path) == middles(80)
    assert "the clock jumps" in repairs(path)
    info = video_info(path)
    assert info["duration_seconds"] == pytest.approx(80 / 25, abs=0.002)
    assert info["fps"] == pytest.approx(25, abs=0.02)


def test_a_long_still_is_no_jump(make: Any, tmp_path: Path) -> None:
    """Screen recordings hold a frame as long as nothing moves."""
    pts = [*range(60), *(number + FAR_STEPS + 8 for number in range(60, 80))]
    path = make.write(tmp_path / "a.mp4", pts, base=BASE)
    assert numbers(make, path) == make.expected(pts, 1, 8)
    assert repairs(path) == ""


@pytest.mark.parametrize("different", [1, 3])
def test_fewer_times_than_moments(make: Any, tmp_path: Path, different: int) -> None:
    def few_times(packet: Any, number: int) -> None:
        packet.pts = packet.dts = number * different // 80

    path = make.write(
        tmp_path / "a.mkv", list(range(80)), base=BASE, change=few_times,
        options={"crf": "12", "preset": "ultrafast", "tune": "zerolatency"},
    )  # fmt: skip
    assert numbers(make, path) == middles(80)
    assert f"have only {different} different time" in repairs(path)


@pytest.mark.parametrize("reordered", [True, False])
def test_a_file_that_starts_before_a_key_frame(make: Any, tmp_path: Path, reordered: bool) -> None:
    """Only frames that can be shown count."""
    options = {"crf": "12", "g": "30", "sc_threshold": "0", "bf": "2" if reordered else "0"}
    whole = make.write(tmp_path / "whole.ts", list(range(90)), base=BASE, options=options)
    path = tmp_path / "part.ts"
    with av.open(str(whole)) as source, av.open(str(path), "w") as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(video=0)):
            if packet.size and number >= 10:
                packet.stream = stream
                output.mux(packet)
    assert numbers(make, path) == middles(60, first=30)
    assert "of 80 frames only 60 can be shown" in repairs(path)
    info = video_info(path)
    assert info["frames"] == 60
    assert info["duration_seconds"] == pytest.approx(60 / 25, abs=0.002)


@pytest.mark.parametrize("default", [None, 0, 1])
def test_several_video_streams(make: Any, tmp_path: Path, default: int | None) -> None:
    """The default one, else the largest that moves."""
    path = tmp_path / "two.mkv"
    sizes = ((48, 48), (96, 96))
    with av.open(str(path), "w", options={"default_mode": "passthrough"}) as output:
        streams = []
        for number, size in enumerate(sizes):
            stream = output.add_stream("libx264", rate=25, options={"crf": "12"})
            stream.width, stream.height = size
            stream.pix_fmt = "yuv420p"
            if number == default:
                stream.disposition = av.stream.Disposition.default
            streams.append(stream)
        for number in range(40):
            for stream, first in zip(streams, (100, 0), strict=True):
                picture = make.picture(number + first, stream.width, stream.height)
                frame = av.VideoFrame.from_ndarray(picture, "rgb24")
                frame.pts, frame.time_base = number, BASE
                output.mux(stream.encode(frame))
        for stream in streams:
            output.mux(stream.encode(None))
    chosen = 1 if default is None else default
    assert numbers(make, path) == middles(40, first=(100, 0)[chosen])
    side = sizes[chosen][0]
    assert f"has 2 video streams; stream {chosen} ({side}x{side}) is read" in repairs(path)
    assert video_info(path)["width"] == side


@pytest.mark.parametrize(("codec", "own"), [("libvpx-vp9", "vp9"), ("libvpx", "vp8")])
def test_transparency_is_black(make: Any, tmp_path: Path, codec: str, own: str) -> None:
    def green_around(_: int, width: int, height: int) -> np.ndarray:
        picture = np.zeros((height, width, 4), np.uint8)
        picture[..., 1] = 200
        picture[: height // 2, :, :3] = (220, 40, 40)
        picture[: height // 2, :, 3] = 255
        return picture

    path = make.write(
        tmp_path / "a.webm", list(range(10)), base=BASE, codec=codec, layout="yuva420p",
        frame_layout="rgba", picture=green_around, options={"auto-alt-ref": "0", "crf": "10"},
    )  # fmt: skip
    frames = load_raw_clip(path, frames=3).frames
    assert (frames[:, 60:] < 12).all()
    assert np.abs(frames[:, 10:36].astype(int) - (220, 40, 40)).max() < 20
    assert video_info(path)["codec"] == own


def test_transparency_that_cannot_be_read_is_said(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mafsar.video.decoder._WITH_ALPHA", {"vp9": "libnone", "vp8": "libnone"})
    path = make.write(
        tmp_path / "a.webm", list(range(10)), base=BASE, codec="libvpx-vp9", layout="yuva420p",
        frame_layout="rgba", picture=lambda _, w, h: np.full((h, w, 4), 90, np.uint8),
        options={"crf": "10"},
    )  # fmt: skip
    assert "its transparency cannot be read" in repairs(path)


def test_a_stream_that_changes_its_size(make: Any, tmp_path: Path) -> None:
    """Each frame by its own size; raw frames have the largest, a saved video one size."""
    from mafsar.video.geometry import Geometry
    from mafsar.video.overlay import Caption, write_overlay

    parts = [
        make.write(tmp_path / f"{first}.ts", [first + k for k in range(40)], base=BASE, size=size,
                   picture=later(make, first))
        for first, size in ((0, (96, 96)), (40, (192, 192)))
    ]  # fmt: skip
    path = tmp_path / "a.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    raw = load_raw_clip(path, frames=8)
    assert raw.frames.shape[1:3] == (192, 192)
    taken = numbers(make, path)
    assert all(abs(a - b) <= 1 for a, b in zip(taken, middles(80), strict=True)), taken
    assert load_clip(path, frames=8, size=32).pixels.shape == (8, 32, 32, 3)
    out = write_overlay(path, tmp_path / "out.mp4", Caption("wave", 0.5), Geometry())
    assert video_info(out)["frames"] == pytest.approx(80, abs=1)


def test_an_aspect_that_changes(make: Any, tmp_path: Path) -> None:
    """A frame keeps its own shape: the wide one is not pressed into the first one's."""

    def wide(stream: Any) -> None:
        stream.codec_context.sample_aspect_ratio = Fraction(2, 1)

    parts = [
        make.write(tmp_path / "0.ts", list(range(40)), base=BASE),
        make.write(tmp_path / "1.ts", [40 + k for k in range(40)], base=BASE, adjust=wide),
    ]
    path = tmp_path / "a.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    frames = load_raw_clip(path, frames=8, threads=1).frames
    assert frames.shape[1:] == (96, 192, 3)
    assert (frames[0][:, :40] < 12).all()  # black bars beside the square one
    assert (frames[-1][:, :40] > 20).all()


def jpeg_with_exif(pixels: np.ndarray, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95, exif=exif)
    return buffer.getvalue()


@pytest.mark.parametrize("orientation", [1, 3, 5, 6])
@pytest.mark.parametrize("name", ["a.avi", "a.mkv"])
def test_exif_in_motion_jpeg(make: Any, tmp_path: Path, name: str, orientation: int) -> None:
    path = tmp_path / name
    with av.open(str(path), "w") as output:
        stream = output.add_stream("mjpeg", rate=25)
        stream.width = stream.height = 96
        stream.pix_fmt = "yuvj420p"
        stream.codec_context.time_base = BASE
        output.start_encoding()
        for number in range(40):
            packet = av.Packet(jpeg_with_exif(make.picture(number), orientation))
            packet.stream, packet.time_base = stream, BASE
            packet.pts = packet.dts = number
            packet.is_keyframe = True
            output.mux(packet)
    found = load_raw_clip(path, frames=8).frames
    turns = {
        1: lambda p: p, 3: lambda p: p[::-1, ::-1], 5: lambda p: p.swapaxes(0, 1),
        6: lambda p: np.rot90(p, -1),
    }  # fmt: skip
    for picture, number in zip(found, middles(40), strict=True):
        right = turns[orientation](make.picture(number))
        assert np.abs(picture.astype(int) - right).mean() < 6, number


def test_an_unforeseen_exception_is_the_error_of_its_clip(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [make.write(tmp_path / f"{name}.mp4", base=BASE) for name in "abc"]
    true_open = clip.open_video

    def broken(path: Path) -> Any:
        if path == paths[1]:
            raise ZeroDivisionError("no such\nthing")
        return true_open(path)

    monkeypatch.setattr(clip, "open_video", broken)
    found = list(load_clips([ClipRequest(path, 8, 32) for path in paths]))
    assert isinstance(found[1], VideoError)
    assert str(found[1]).startswith(
        f"{paths[1]}: cannot be read (ZeroDivisionError: no such thing)"
    )
    assert not any(isinstance(found[number], VideoError) for number in (0, 2))


def with_long_mdat(data: bytes, more: int) -> bytes:
    at = data.index(b"mdat") - 4
    length = int.from_bytes(data[at : at + 4], "big")
    return data[:at] + (length + more).to_bytes(4, "big") + data[at + 4 :]


def test_a_file_whose_frames_are_all_there_is_not_truncated(make: Any, tmp_path: Path) -> None:
    whole = make.write(
        tmp_path / "whole.mp4", base=BASE, container_options={"movflags": "faststart"}
    )
    path = tmp_path / "a.mp4"
    path.write_bytes(with_long_mdat(whole.read_bytes(), 500))
    assert numbers(make, path) == numbers(make, whole)
    assert repairs(path) == ""
    path.write_bytes(with_long_mdat(whole.read_bytes(), 500)[:-40])
    with pytest.raises(VideoError, match="is truncated"):
        load_clip(path, frames=8, size=32)


def test_a_still_avif(make: Any, tmp_path: Path) -> None:
    path = tmp_path / "still.avif"
    if "libaom-av1" not in av.codecs_available and "libsvtav1" not in av.codecs_available:
        pytest.skip("this FFmpeg has no AV1 encoder")
    codec = "libaom-av1" if "libaom-av1" in av.codecs_available else "libsvtav1"
    options = {"crf": "10", "still-picture": "1"} if codec == "libaom-av1" else {"crf": "10"}
    make.write(path, [0], base=BASE, codec=codec, options=options, picture=later(make, 5))
    assert numbers(make, path) == [5] * 8


STREAMED = {
    "a.flv": {"codec": "flv1", "options": {"q:v": "3"}},
    "h264.flv": {"options": REORDERED},
    "a.ts": {},
    "a.m2ts": {},
    "a.mpg": MPEG2,
    "old.mpg": {"codec": "mpeg1video", "options": {"q:v": "2"}},
    "a.wmv": {"codec": "wmv2", "options": {"q:v": "3"}},
    "a.y4m": {"codec": "wrapped_avframe"},
}


@pytest.mark.parametrize("name", STREAMED)
def test_streamed_files_that_are_cut_short(make: Any, tmp_path: Path, name: str) -> None:
    path = make.write(tmp_path / name, list(range(80)), base=BASE, **STREAMED[name])
    assert repairs(path) == ""
    data = path.read_bytes()
    noticed = 0
    cuts = [0.31, 0.47, 0.62, 0.73, 0.88, 0.97]
    for kept in cuts:
        path.write_bytes(data[: int(len(data) * kept)])
        noticed += "the file is cut short" in "; ".join(load_raw_clip(path, frames=8).repairs)
    # A transport stream that happens to be cut between two packets looks complete.
    assert noticed >= len(cuts) - 1


@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9", "libx264"])
def test_frames_that_cannot_be_decoded_are_counted(make: Any, tmp_path: Path, codec: str) -> None:
    """Damage at the end: the moments are spread over the frames that can be shown."""
    path = make.write(
        tmp_path / "a.mkv", list(range(80)), base=BASE, codec=codec, options={"g": "1", "crf": "12"}
    )
    data = path.read_bytes()
    with av.open(str(path)) as source:
        coded = [bytes(packet) for packet in source.demux(video=0) if packet.size]
    for frame in coded[60:]:
        data = data.replace(frame, b"\xff" * len(frame))
    path.write_bytes(data)
    assert "of 80 frames only 60 can be shown" in repairs(path)
    assert numbers(make, path) == middles(60)


def ebml(name: bytes, content: bytes) -> bytes:
    return name + (len(content) | 1 << 56).to_bytes(8, "big") + content


def elements(data: bytes) -> list[tuple[bytes, bytes]]:
    """The EBML elements of a string: their ids and contents."""
    found, at = [], 0
    while at < len(data):
        begin = at + 9 - data[at].bit_length()
        width = 9 - data[begin].bit_length()
        length = int.from_bytes(data[begin : begin + width], "big") & ((1 << 7 * width) - 1)
        if length == (1 << 7 * width) - 1:
            length = len(data)
        found.append((data[at:begin], data[begin + width :][:length]))
        at = begin + width + length
    return found


def changed(data: bytes, path: list[bytes], more: bytes) -> bytes:
    """Appends to the content of the elements on a path."""
    if not path:
        return data + more
    return b"".join(
        ebml(name, changed(content, path[1:], more) if name == path[0] else content)
        for name, content in elements(data)
    )


def test_pixel_crop_of_matroska(make: Any, tmp_path: Path) -> None:
    """The sides that PixelCrop names are cut off."""

    def framed(number: int, width: int, height: int) -> np.ndarray:
        picture = np.full((height, width, 3), 255, np.uint8)
        picture[16:80, 16:112] = make.picture(number, 96, 64)
        return picture

    source = make.write(
        tmp_path / "whole.mkv", list(range(40)), base=BASE, size=(128, 96), picture=framed,
        container_options={"live": "1"},
    )  # fmt: skip
    path = tmp_path / "a.mkv"
    sides = b"".join(
        ebml(bytes.fromhex(side), b"\x10") for side in ("54cc", "54bb", "54dd", "54aa")
    )
    video = [bytes.fromhex(name) for name in ("18538067", "1654ae6b", "ae", "e0")]
    path.write_bytes(changed(source.read_bytes(), video, sides))
    raw = load_raw_clip(path, frames=8)
    assert raw.frames.shape == (8, 64, 96, 3)
    assert [make.number_of(frame) for frame in raw.frames] == middles(40)
    info = video_info(path)
    assert (info["width"], info["height"]) == (96, 64)


def test_ycgco(make: Any, tmp_path: Path) -> None:
    """Matrix 8: R = Y - Cg + Co, G = Y + Cg, B = Y - Cg - Co."""
    colours = np.array([(200, 140, 110), (40, 90, 230), (255, 255, 255)], float)
    red, green, blue = colours.T
    luma = (red + 2 * green + blue) / 4
    planes = np.stack([luma, (2 * green - red - blue) / 4 + 128, (red - blue) / 2 + 128])
    codes = np.clip(np.rint(planes), 0, 255).astype(np.uint8)

    def stripes(_: int, __: int, height: int) -> np.ndarray:
        return np.repeat(np.repeat(codes[:, None], 32, axis=2), height, axis=1)

    def tagged(stream: Any) -> None:
        stream.codec_context.colorspace = 8
        stream.codec_context.color_range = 2

    path = make.write(
        tmp_path / "y.mkv", list(range(5)), base=BASE, layout="yuv444p", frame_layout="yuv444p",
        picture=stripes, options={"crf": "4"}, adjust=tagged,
    )  # fmt: skip
    frame = load_raw_clip(path, frames=1).frames[0]
    np.testing.assert_allclose(frame[48, 16::32], colours, atol=4)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_a_clock_that_is_ignored(make: Any, tmp_path: Path, name: str) -> None:
    """All frames, equally spaced, in the decoder's order."""
    pts = [number * number for number in range(60)]
    path = make.write(tmp_path / name, pts, base=BASE, options=REORDERED)
    raw = load_raw_clip(path, frames=8, ignore_clock=10)
    assert [make.number_of(frame) for frame in raw.frames] == middles(60)
    assert (raw.duration_seconds, raw.fps) == (6, 10)
    assert raw.repairs == ("its timestamps are ignored, as asked: 10 fps",)
    assert video_info(path, 10)["fps"] == 10
    with pytest.raises(InputError, match="ignore_clock=-1: must be frames per second, > 0"):
        load_clip(path, frames=8, size=32, ignore_clock=-1)
