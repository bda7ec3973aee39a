"""Any file that PyAV can write: container, codec, key frame distance, B frames, rate, rotation, gaps
and offset are drawn; the frames taken are those that the written times say.
"""

from __future__ import annotations

import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mafsar.video import load_raw_clip, video_info

hypothesis = pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

H264 = {"crf": "14", "preset": "ultrafast"}
# Container → the codecs that it is written with here; whether it stores a time for each frame.
CONTAINERS: dict[str, tuple[tuple[str, ...], bool]] = {
    "mp4": (("libx264", "libx265", "mpeg4", "mpeg2video", "mjpeg", "libvpx-vp9"), True),
    "fragmented.mp4": (("libx264", "mpeg4"), True),
    "mov": (("libx264", "libx265", "mjpeg", "prores_ks", "qtrle"), True),
    "mkv": (("libx264", "libx265", "libvpx", "mpeg4", "mpeg2video", "mjpeg", "ffv1"), True),
    "webm": (("libvpx", "libvpx-vp9"), True),
    "ts": (("libx264", "libx265", "mpeg4", "mpeg2video"), True),
    "m2ts": (("libx264",), True),
    "asf": (("wmv2", "mpeg4"), False),
    "3gp": (("libx264", "mpeg4", "h263"), True),
    "f4v": (("libx264",), True),
    "ismv": (("libx264",), True),
    "nut": (("libx264", "mpeg4", "ffv1"), True),
    "flv": (("libx264", "flv1"), True),
    "ogv": (("libvpx",), False),
    "ivf": (("libvpx", "libvpx-vp9"), True),
    "mpg": (("mpeg2video", "mpeg1video"), False),
    "vob": (("mpeg2video",), False),
    "mxf": (("mpeg2video",), False),
    "wtv": (("mpeg2video",), False),
    "avi": (("libx264", "mpeg4", "mjpeg", "ffv1"), False),
    "y4m": (("wrapped_avframe",), False),
    "gif": (("gif",), False),
    "apng": (("apng",), True),
    "h264": (("libx264",), False),
    "hevc": (("libx265",), False),
    "m4v": (("mpeg4",), False),
    "m2v": (("mpeg2video",), False),
}
RATES: dict[str, tuple[int | Fraction, ...]] = {
    "mpeg2video": (24, 25, 30), "mpeg1video": (24, 25, 30), "gif": (10, 20, 25, 50),
    "": (10, 24, 25, 30, Fraction(30000, 1001), 50),
}  # fmt: skip
QUALITY: dict[str, dict[str, str]] = {
    "libx264": H264, "libx265": {"crf": "14", "preset": "ultrafast", "x265-params": "log-level=none"},
    "libvpx": {"crf": "6", "b:v": "1M", "deadline": "realtime", "auto-alt-ref": "0"},
    "libvpx-vp9": {"crf": "12", "b:v": "0", "deadline": "realtime", "cpu-used": "8"},
    **{
        codec: {"q:v": "2"}
        for codec in ("mpeg4", "mjpeg", "wmv2", "mpeg2video", "mpeg1video", "h263", "flv1")
    },
}  # fmt: skip
LAYOUTS = {
    "mjpeg": "yuvj420p", "prores_ks": "yuv422p10le", "qtrle": "rgb24", "apng": "rgb24", "gif": "rgb8",
}  # fmt: skip
REORDERING = ("libx264", "libx265", "mpeg4", "mpeg2video")
TURNING = ("mp4", "mov", "mkv", "3gp", "f4v")
# These count in milliseconds or centiseconds, which rounds moments at the borders of frames.
COARSE = ("mkv", "webm", "flv", "asf", "wtv", "gif", "apng", "ismv")


@st.composite
def files(draw: Any) -> dict[str, Any]:
    """How a file is written."""
    container = draw(st.sampled_from(sorted(CONTAINERS)))
    codecs, timed = CONTAINERS[container]
    codec = draw(st.sampled_from(codecs))
    count = draw(st.integers(8, 40))  # FFmpeg does not recognize shorter transport streams
    # Every frame is shown for one step or, where the container keeps times, for up to six.
    steps = draw(st.lists(st.integers(1, 6 if timed else 1), min_size=count, max_size=count))
    pts = [0, *np.cumsum(steps[:-1]).tolist()]
    from_zero = ("flv", "apng", "fragmented.mp4", "ismv")
    offset = draw(st.integers(0, 200)) if timed and container not in from_zero else 0
    return {
        "container": container,
        "codec": codec,
        "rate": Fraction(draw(st.sampled_from(RATES.get(codec, RATES[""])))),
        "pts": [int(stamp) + offset for stamp in pts],
        "gop": draw(st.sampled_from([1, 2, 5, 12, 250])),
        "b_frames": draw(st.integers(0, 3)) if codec in REORDERING else 0,
        "rotation": draw(st.sampled_from([0, 0, 90, 180, 270])) if container in TURNING else 0,
        "frames": draw(st.integers(1, 12)),
    }


@settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(files())
def test_the_frames_taken_are_those_of_the_written_times(make: Any, file: dict[str, Any]) -> None:
    base = 1 / file["rate"]
    codec = file["codec"]
    options = QUALITY.get(codec, {}) | {"g": str(file["gop"])}
    if codec == "libx265":
        options["x265-params"] += f":keyint={file['gop']}:bframes={file['b_frames']}"
    elif file["b_frames"]:
        options["bf"] = str(file["b_frames"])
    fragmented = {"movflags": "frag_keyframe+empty_moov"}

    def turned(stream: Any) -> None:
        if file["rotation"]:
            stream.set_display_rotation(file["rotation"])

    with tempfile.TemporaryDirectory() as folder:
        path = make.write(
            Path(folder) / f"a.{file['container']}", file["pts"], base=base, codec=codec,
            layout=LAYOUTS.get(codec, "yuv420p"), options=options, adjust=turned,
            size=(128, 96) if codec == "h263" else (96, 96),
            container_options=fragmented if file["container"] == "fragmented.mp4" else {},
        )  # fmt: skip
        raw = load_raw_clip(path, frames=file["frames"])
        info = video_info(path)
    pictures = [np.rot90(frame, -file["rotation"] // 90) for frame in raw.frames]
    taken = [make.number_of(picture) for picture in pictures]
    # How long the last frame is shown is not stored everywhere: a median step is right too, and
    # so is the last one, which the animated PNGs of FFmpeg repeat.
    steps = np.diff(file["pts"])
    stop = [1, int(np.median(steps)), int(steps[-1])]
    right = [make.expected(file["pts"], last, file["frames"]) for last in stop]
    exact = taken in right
    # Containers that count in milliseconds round the moments at the borders of frames.
    near = any(
        all(abs(a - b) <= 1 for a, b in zip(taken, expected, strict=True)) for expected in right
    )
    assert exact or (near and file["container"] in COARSE), (taken, right)
    assert info["frames"] == len(file["pts"])
    assert not info["repairs"]
