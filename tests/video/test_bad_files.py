"""Files that cannot be read: one line that starts with the path, and no output of FFmpeg."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from mafsar.errors import MafsarError, MissingError, VideoError
from mafsar.video import Geometry, load_clip, load_raw_clip, video_info
from mafsar.video.truncation import truncation


@pytest.fixture(autouse=True)
def _silence(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """Checks that nothing is written to the terminal, also by C libraries."""
    yield
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == ""


def refused(path: Path, kind: type[MafsarError] = VideoError, **options: Any) -> str:
    with pytest.raises(kind) as caught:
        load_clip(path, frames=8, size=32, **options)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert "; " in message, "the message says what to do"
    return message


def noise(number: int, width: int, height: int) -> np.ndarray:
    """A picture that does not compress, so that every part of the file matters."""
    return np.random.default_rng(number).integers(0, 255, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def whole(make: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The bytes of complete files of each kind."""
    folder = tmp_path_factory.mktemp("whole")
    kinds: dict[str, dict[str, Any]] = {
        "front.mp4": {"container_options": {"movflags": "faststart"}},
        "back.mp4": {},
        "a.mov": {},
        "a.mkv": {},
        "a.webm": {"codec": "libvpx", "options": {"deadline": "realtime"}},
        "a.avi": {"codec": "mpeg4"},
        "a.gif": {"codec": "gif", "layout": "rgb8"},
    }
    return {
        name: make.write(folder / name, picture=noise, **options).read_bytes()
        for name, options in kinds.items()
    }


@pytest.mark.parametrize("kept", [0.3, 0.7, 0.98])
@pytest.mark.parametrize(
    "name", ["front.mp4", "back.mp4", "a.mov", "a.mkv", "a.webm", "a.avi", "a.gif"]
)
def test_a_truncated_file(tmp_path: Path, whole: dict[str, bytes], name: str, kept: float) -> None:
    path = tmp_path / name
    path.write_bytes(whole[name])
    assert truncation(path) is None
    assert load_clip(path, frames=8, size=32).pixels.shape == (8, 32, 32, 3)
    path.write_bytes(whole[name][: int(len(whole[name]) * kept)])
    assert "is truncated" in refused(path)


def test_data_after_a_complete_file_is_not_truncation(
    tmp_path: Path, whole: dict[str, bytes]
) -> None:
    for name, data in whole.items():
        path = tmp_path / name
        path.write_bytes(data + bytes(37))
        assert load_clip(path, frames=4, size=16).pixels.shape == (4, 16, 16, 3)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("text.mp4", b"hello, this is not a video\n" * 40, "is not a video that FFmpeg can read"),
        ("zeros.mp4", bytes(5000), "is not a video that FFmpeg can read"),
        ("empty.mp4", b"", "is empty (0 bytes)"),
        ("short.mp4", b"\x00\x00", "is not a video that FFmpeg can read"),
        ("text.gif", b"GIF89a", "is truncated"),
        ("text.txt", b"hello", "is not a video that FFmpeg can read"),
        ("text.jpg", b"hello", "is not a picture that can be read"),
        ("empty.png", b"", "is not a picture that can be read"),
    ],
)
def test_files_that_are_not_videos(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert message in refused(path)


def test_random_bytes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("a.mp4", "a.mkv", "a.avi", "a.webm", "a.ts"):
        path = tmp_path / name
        path.write_bytes(rng.integers(0, 256, 20_000, dtype=np.uint8).tobytes())
        refused(path)


def test_sound_without_pictures(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate, frame.pts = 44100, 0
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    assert "has no video stream, only audio" in refused(path)


def test_a_stream_without_a_frame(tmp_path: Path) -> None:
    path = tmp_path / "none.mkv"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 64
        output.start_encoding()
    assert "has no frames" in refused(path) or "is not a video" in refused(path)


def test_folders(tmp_path: Path) -> None:
    empty, notes = tmp_path / "empty", tmp_path / "notes"
    for folder in (empty, notes):
        folder.mkdir()
    (notes / "a.txt").write_text("x")
    assert "is an empty folder" in refused(empty)
    assert "contains no pictures" in refused(notes)
    with pytest.raises(VideoError, match="is a folder"):
        video_info(empty)


def test_a_broken_picture_in_a_folder_is_named(tmp_path: Path) -> None:
    for number in range(4):
        Image.fromarray(noise(number, 64, 64)).save(tmp_path / f"{number}.jpg")
    broken = tmp_path / "2.jpg"
    broken.write_bytes(broken.read_bytes()[:700])
    with pytest.raises(VideoError, match=r"2\.jpg: is not a picture that can be read") as caught:
        load_clip(tmp_path, frames=4, size=32)
    assert str(caught.value).startswith(str(broken))


def test_missing_paths(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    for path in (tmp_path / "no.mp4", tmp_path / "no" / "a.mp4", tmp_path / "file" / "a.mp4"):
        assert "no such file" in refused(path, MissingError)
    assert "no such file" in refused(tmp_path / "no.jpg", MissingError)


@pytest.mark.parametrize("name", ["a.mp4", "a.jpg"])
def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The system's refusal is simulated, because root can read everything."""
    path = tmp_path / name
    path.write_bytes(b"x" * 100)

    def refuse(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr("builtins.open", refuse)
    message = refused(path)
    monkeypatch.undo()
    assert "cannot be read (Permission denied); make it readable" in message


def test_a_region_outside_the_picture_names_clip_and_size(make: Any, tmp_path: Path) -> None:
    path = make.write(tmp_path / "a.mp4", size=(96, 64))
    message = refused(path, geometry=Geometry(roi=(80, 0, 40, 20)))
    assert "outside the picture of 96x64 pixels" in message


def damage(data: bytes, begin: float, end: float) -> bytes:
    """Overwrites a part of the coded pictures."""
    start = data.index(b"mdat") + 4
    length = len(data) - start
    first, last = start + int(length * begin), start + int(length * end)
    rubbish = np.random.default_rng(5).integers(0, 256, last - first, dtype=np.uint8).tobytes()
    return data[:first] + rubbish + data[last:]


def test_damage_in_the_middle_does_not_stop_decoding(make: Any, tmp_path: Path) -> None:
    path = make.write(
        tmp_path / "a.mp4", list(range(64)), size=(192, 192),
        options={"crf": "5", "g": "8"}, container_options={"movflags": "faststart"},
    )  # fmt: skip
    path.write_bytes(damage(path.read_bytes(), 0.45, 0.5))
    frames = load_raw_clip(path, frames=8).frames
    assert frames.shape == (8, 192, 192, 3)
    found = [make.number_of(frame) for frame in frames]
    right = [a == b for a, b in zip(found, make.expected(list(range(64)), 1, 8), strict=True)]
    assert sum(right) >= 6


def test_too_much_damage_is_an_error(make: Any, tmp_path: Path) -> None:
    path = make.write(
        tmp_path / "a.mp4", picture=noise, container_options={"movflags": "faststart"}
    )
    path.write_bytes(damage(path.read_bytes(), 0.0, 1.0))
    assert "no frame can be decoded" in refused(path)


def test_a_file_on_the_web_is_to_be_downloaded() -> None:
    with pytest.raises(MissingError, match=r"^https://example.org/a.mp4: is on the web; download"):
        load_clip("https://example.org/a.mp4", frames=8, size=32)
