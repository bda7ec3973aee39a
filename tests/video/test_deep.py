"""Grey of more than 8 bits: a video's and an image's values are shown by their clip's own range."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from mafsar.video import clip_from_array, load_clip, load_raw_clip, video_info

RAMP = np.linspace(0, 1, 64, dtype=np.float64)[None].repeat(48, axis=0)


def write_grey(path: Path, layout: str, values: np.ndarray) -> Path:
    """A lossless video of one deep grey picture, ten times."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("ffv1", rate=Fraction(25))
        stream.height, stream.width = values.shape
        stream.pix_fmt = layout
        for number in range(10):
            frame = av.VideoFrame(values.shape[1], values.shape[0], layout)
            (plane,) = frame.planes
            rows = np.zeros((values.shape[0], plane.line_size // 2), np.uint16)
            rows[:, : values.shape[1]] = values
            plane.update(rows.tobytes())
            frame.pts = number
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("layout", "low", "high", "own"),
    [
        ("gray16le", 0, 65535, False), ("gray16le", 500, 9000, True), ("gray12le", 0, 4095, False),
        ("gray12le", 100, 900, True), ("gray10le", 0, 1023, False),
    ],
)  # fmt: skip
def test_deep_grey_video(tmp_path: Path, layout: str, low: int, high: int, own: bool) -> None:
    values = np.rint(low + (high - low) * RAMP)
    path = write_grey(tmp_path / "a.mkv", layout, values.astype(np.uint16))
    raw = load_raw_clip(path, frames=4)
    expected = 255 * (values - low) / (high - low)
    assert np.abs(raw.frames[0][..., 1] - expected).max() <= 1
    said = f"its deep grey values from {low} to {high} become 0 to 255"
    assert raw.repairs == ((said,) if own else ())
    assert load_clip(path, frames=4, size=32).repairs == raw.repairs
    assert video_info(path)["frames"] == 10


def test_values_without_a_measurement(tmp_path: Path) -> None:
    """65535 beside low values marks places that a depth camera did not see."""
    values = np.rint(3000 * RAMP).astype(np.uint16)
    values[:, -1] = 65535
    for number in range(4):
        Image.fromarray(values).save(tmp_path / f"{number}.png")
    raw = load_raw_clip(tmp_path, frames=4)
    measured = values[:, :-1].astype(float)
    expected = 255 * measured / measured.max()
    assert np.abs(raw.frames[0][:, :-1, 0] - expected).max() <= 1
    assert "become 0 to 255" in raw.repairs[0]


@pytest.mark.parametrize("kind", ["I;16", "I", "F"])
def test_deep_images_in_memory(kind: str) -> None:
    """A list of Pillow images is shown as a folder of the same files is."""
    values = 200 + 2000 * RAMP
    types = {"I;16": np.uint16, "I": np.int32, "F": np.float32}
    images = [Image.fromarray(np.rint(values).astype(types[kind])) for _ in range(4)]
    assert images[0].mode == kind
    clip = clip_from_array(images, frames=4, size=48)
    grey = clip.pixels[0][..., 0].astype(int)
    assert grey.min() < 40
    assert grey.max() > 215
    assert clip.repairs == ("its deep grey values from 200 to 2200 become 0 to 255",)
