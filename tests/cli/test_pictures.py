"""The pictures: alignment lines, confusion matrix, overlay; fonts for labels of any script."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mafsar.runtime.report.alignment import Strip, draw_match
from mafsar.runtime.report.confusion import draw_confusion, write_confusion_csv
from mafsar.video import Geometry, load_raw_clip, write_video
from mafsar.video.fonts import shortened, text_width
from mafsar.video.overlay import Caption, caption_strip, draw_caption, seen_box, write_overlay
from mafsar.video.picture import Picture
from mafsar.video.preprocess import to_square


def strip(name: str, grey: int, frames: int = 8) -> Strip:
    pixels = np.full((frames, 32, 32, 3), grey, np.uint8)
    return Strip(name, pixels, [0.1 * k for k in range(frames)])


def drawn(alignment: np.ndarray) -> np.ndarray:
    image = draw_match(
        strip("query", 60),
        strip("support", 60),
        alignment,
        label="wave",
        best="wave",
        score=0.5,
    )
    return np.asarray(image.convert("RGB")).astype(int)


def line_columns(pixels: np.ndarray, rows: slice) -> np.ndarray:
    """Columns in which a strong blue line runs within `rows`."""
    blue = (pixels[rows, :, 2] - pixels[rows, :, 0] > 100).any(axis=0)
    return np.flatnonzero(blue)


def frame_rows(pixels: np.ndarray) -> np.ndarray:
    """Rows that cross the first frame of either strip (grey 60)."""
    return np.flatnonzero((pixels[:, 60] == 60).all(axis=1))


def test_lines_join_the_paired_frames() -> None:
    pixels = drawn(np.eye(8))
    rows = frame_rows(pixels)
    gap = np.flatnonzero(np.diff(rows) > 1)
    assert len(gap) == 1  # two strips
    middle = (rows[gap[0]] + rows[gap[0] + 1]) // 2 + 10
    tiles = np.flatnonzero((pixels[rows[0] + 20] == 60).all(axis=1))
    starts = tiles[np.flatnonzero(np.diff(tiles, prepend=-10) > 1)]
    ends = tiles[np.flatnonzero(np.diff(tiles, append=10**6) > 1)]
    centres = (starts + ends) / 2
    assert len(centres) == 8
    columns = line_columns(pixels, slice(middle, middle + 1))
    groups = np.split(columns, np.flatnonzero(np.diff(columns) > 1) + 1)
    assert [round(float(group.mean())) for group in groups] == pytest.approx(centres, abs=1.5)


def test_weak_pairs_are_faint() -> None:
    weak = np.full((8, 8), 0.01)
    np.fill_diagonal(weak, 1.0)
    assert (drawn(weak) == drawn(np.eye(8))).all()
    half = np.eye(8)
    half[0, 1] = 0.5
    assert (drawn(half) != drawn(np.eye(8))).any()


def test_strips_of_different_lengths_and_awkward_names() -> None:
    image = draw_match(
        strip("a very/long/path/" * 20, 60, 3),
        strip("\udcff\udcfe.mp4", 60, 8),
        np.ones((3, 8)),
        label=None,
        best="поднять 手を振る",
        score=float(np.float32(1.0000001)),
        runner_up=("b" * 200, 0.0),
    )
    assert image.size[0] > 1000


def test_shortened_keeps_both_ends_and_fits() -> None:
    text = "support/a_very_long_folder_name/clip_number_17.mp4"
    for width in (60, 120, 200, 300):
        short = shortened(text, 15, width)
        assert text_width(short, 15) <= width
        assert "…" in short
    assert shortened(text, 15, 300).endswith("17.mp4")
    assert shortened("short", 15, 300) == "short"


def test_letters_outside_latin_are_looked_up() -> None:
    assert text_width("ж", 20) > 0
    assert text_width("", 20) == 0


def test_confusion_matrix_shades_by_share(tmp_path: Path) -> None:
    counts = np.array([[90, 10], [0, 50]], np.int64)
    image = np.asarray(draw_confusion(["a", "b"], counts, title="t")).astype(int)
    right, bottom = image.shape[1] - 28, image.shape[0] - 28
    cell = 72

    def shade(row: int, column: int) -> int:
        y, x = bottom - (2 - row) * cell + 5, right - (2 - column) * cell + 5
        return int(image[y, x, 2] - image[y, x, 0])

    widths = [shade(1, 1), shade(0, 0), shade(0, 1), shade(1, 0)]
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < 10
    write_confusion_csv(tmp_path / "c.csv", ["a", "b"], counts)
    assert (tmp_path / "c.csv").read_text() == "true \\ answer,a,b\na,90,10\nb,0,50\n"


@pytest.mark.parametrize("fit", ["crop", "pad"])
@pytest.mark.parametrize("roi", [None, (0.25, 0.0, 0.5, 1.0), (10, 20, 60, 30)])
def test_the_undarkened_part_is_what_the_model_sees(fit: str, roi: tuple | None) -> None:
    """Every pixel outside the box can change without changing the model's picture."""
    geometry = Geometry(fit=fit, roi=roi)  # type: ignore[arg-type]
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 255, (90, 120, 3)).astype(np.uint8)
    left, top, right, bottom = seen_box(frame, geometry)
    other = rng.integers(0, 255, frame.shape).astype(np.uint8)
    other[top:bottom, left:right] = frame[top:bottom, left:right]
    seen = to_square(Picture.of(frame), 24, geometry)
    changed = to_square(Picture.of(other), 24, geometry)
    # Bicubic resizing reaches over the crop's edge by a pixel or two, never into the middle.
    inner = (slice(2, -2), slice(2, -2))
    assert (seen[inner] == changed[inner]).all()
    shown = draw_caption(frame, Caption("x", 0.5), (left, top, right, bottom))
    kept = (shown[:90] == frame).all(axis=-1)
    assert kept[top:bottom, left:right].all()
    assert kept.mean() <= (right - left) * (bottom - top) / (90 * 120) + 0.05
    assert shown.shape[0] > 90
    assert shown.shape[0] % 2 == 0


def test_overlay_keeps_length_and_order(tmp_path: Path) -> None:
    ramp = [np.full((48, 64, 3), 4 * k, np.uint8) for k in range(60)]
    source = write_video(tmp_path / "ramp.mp4", ramp, 15)
    out = write_overlay(source, tmp_path / "out.mp4", Caption("x", 1.0), Geometry(fit="pad"))
    shown = load_raw_clip(out, frames=60)
    assert shown.duration_seconds == pytest.approx(4.0, abs=0.1)
    assert shown.frames[:, 5, 32].mean(axis=-1) == pytest.approx(4.0 * np.arange(60), abs=6)


def test_overlay_of_a_frame_folder(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for k in range(10):
        Image.new("RGB", (41, 31), (20 * k, 20 * k, 20 * k)).save(folder / f"{k}.png")
    out = write_overlay(folder, tmp_path / "out.mp4", Caption(None, 0.3), Geometry(rotate=90))
    shown = load_raw_clip(out, frames=10)
    caption = caption_strip(31, 41, Caption(None, 0.3), legend=True)
    assert shown.frames.shape[1:3] == (42 + caption.height, 32)  # turned, and made even
    assert (np.diff(shown.frames[:, 4, 16].mean(axis=-1)) > 0).all()
