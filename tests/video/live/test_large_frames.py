"""Large frames of a watched source are reduced as they become RGB."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from mafsar.synthetic import render_clip
from mafsar.video import Geometry, write_video
from mafsar.video.live.file_frames import open_file
from mafsar.video.live.frames import LARGE_PIXELS
from mafsar.video.preprocess import to_square

WIDTH, HEIGHT, SIZE = 2400, 1280, 64


def test_a_reduced_picture_gives_the_same_square(tmp_path: Path) -> None:
    """To about a grey level; its size stays that of the whole picture."""
    assert WIDTH * HEIGHT > LARGE_PIXELS
    frames = np.asarray(render_clip("wave_hand", seed=1, frames=2, size=320))
    large = [np.asarray(Image.fromarray(frame).resize((WIDTH, HEIGHT))) for frame in frames]
    path = write_video(tmp_path / "large.mp4", large, 12)
    squares = []
    for enough in (None, 2 * SIZE):
        with open_file(path, enough=lambda wanted=enough: wanted) as source:
            pictures = [frame.picture() for frame in source.frames]
        assert {(picture.width, picture.height) for picture in pictures} == {(WIDTH, HEIGHT)}
        assert {min(picture.pixels.shape[:2]) for picture in pictures} == {enough or HEIGHT}
        squares.append([to_square(picture, SIZE, Geometry()) for picture in pictures])
    difference = np.abs(np.subtract(*squares, dtype=np.float64))
    assert difference.mean() < 1.5
    assert difference.max() <= 12
