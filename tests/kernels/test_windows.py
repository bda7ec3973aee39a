"""Windows of an archive against prototypes, on every instruction set, against loops in float64."""

from __future__ import annotations

import numpy as np
import pytest

from mafsar import ArgumentTypeError, InputError
from mafsar.kernels import set_num_threads
from mafsar.kernels.windows import WindowViews, can_match_windows, match_windows

EPS = float(np.finfo(np.float32).eps)
pytestmark = pytest.mark.skipif(
    not can_match_windows("otam", 8), reason="the native module is not installed"
)


def made(count: int, classes: int, frames: int, columns: int, width: int, seed: int = 0):
    """Windows that share a large direction, as those of a frozen encoder, and raw prototypes."""
    rng = np.random.default_rng(seed)
    common = 3 * rng.standard_normal(width)
    windows = (common + rng.standard_normal((count, frames, width))).astype(np.float16)
    windows[0] = windows[0, :1]  # nothing changes
    windows[-1, 0] *= np.float16(2**-12)  # mostly below the normal numbers of float16
    clips = (common + rng.standard_normal((classes, columns, width))).astype(np.float32)
    return windows, clips, (common + 0.1).astype(np.float32)


def in_float64(
    truth,
    restated_views,
    windows,
    prototypes,
    metric: str,
    lam: float,
    mean=None,
    floor=0.0,
    weight=0.0,
):
    """Distances in loops; the windows are looked at as `mean`, `floor` and `weight` say."""
    out = []
    for window in windows.astype(np.float64).tolist():
        asked = (
            window if mean is None else restated_views.views(window, mean.tolist(), floor, weight)
        )
        out.append([truth.distance(metric, asked, clip, lam) for clip in prototypes.tolist()])
    return np.array(out)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("metric", ["otam", "bimhm"])
@pytest.mark.parametrize(
    ("count", "classes", "frames", "columns", "width"),
    [(1, 1, 1, 1, 5), (3, 2, 8, 8, 20), (35, 3, 4, 4, 16), (5, 7, 3, 5, 33), (2, 30, 8, 8, 9)],
)
def test_distances_are_those_of_float64(
    truth,
    restated_views,
    metric: str,
    count: int,
    classes: int,
    frames: int,
    columns: int,
    width: int,
) -> None:
    windows, clips, mean = made(count, classes, frames, columns, width)
    bound = 64 * EPS * (frames + columns)
    found = match_windows(metric, windows, clips, 0.1)
    assert (
        np.abs(found - in_float64(truth, restated_views, windows, clips, metric, 0.1)).max()
        <= bound
    )
    shown = np.array(
        [restated_views.views(clip, mean.tolist(), 1e-3, 0.4) for clip in clips.tolist()],
        np.float32,
    )
    found = match_windows(metric, windows, shown, 0.1, WindowViews(mean, 0.05, 0.4))
    expected = in_float64(truth, restated_views, windows, shown, metric, 0.1, mean, 0.05, 0.4)
    assert np.abs(found - expected).max() <= bound


@pytest.mark.usefixtures("isa")
def test_zeros_have_distance_one(truth) -> None:
    windows = np.zeros((2, 4, 12), np.float16)
    prototypes = np.ones((1, 4, 12), np.float32)
    expected = truth.distance("otam", np.zeros((4, 12)), np.ones((4, 12)), 0.5)
    assert match_windows("otam", windows, prototypes, 0.5) == pytest.approx(expected, abs=1e-5)


@pytest.mark.usefixtures("isa")
def test_every_float16_is_read_as_numpy_reads_it() -> None:
    """By Bi-MHM of one frame and one number about 0 and 1: the sign, and the cosine to (1, x)."""
    bits = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    bits = bits[np.isfinite(bits) & (np.abs(bits.astype(np.float64)) < 1e3)]
    windows = np.stack([bits, np.full_like(bits, 2**-8)], axis=-1)[:, None]
    prototypes = np.array([[[0.0, 1.0]]], np.float32)
    x, y = (windows[:, 0, k].astype(np.float64) for k in (0, 1))
    expected = 2 * (1 - y / np.hypot(x, y))
    found = match_windows("bimhm", windows, prototypes, 1.0)[:, 0]
    assert np.abs(found - expected).max() <= 16 * EPS


@pytest.mark.usefixtures("isa", "two_threads")
def test_any_number_of_threads_and_windows_gives_the_same_bits() -> None:
    windows, clips, mean = made(150, 5, 8, 8, 24)
    shown = np.concatenate([clips, clips], axis=-1)
    views = WindowViews(mean, 0.05, 0.4)
    found = match_windows("otam", windows, shown, 0.1, views)
    set_num_threads(1)
    assert (match_windows("otam", windows, shown, 0.1, views) == found).all()
    for first, last in ((0, 1), (1, 90), (90, 150)):
        some = match_windows("otam", windows[first:last], shown, 0.1, views)
        assert (some == found[first:last]).all()


def test_what_does_not_fit_is_refused() -> None:
    windows, clips, mean = made(2, 2, 4, 4, 6)
    with pytest.raises(ArgumentTypeError, match="float32"):
        match_windows("otam", windows.astype(np.float32), clips, 0.1)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="do not fit"):
        match_windows("otam", windows, clips, 0.1, WindowViews(mean, 0.1, 0.5))
    with pytest.raises(InputError, match="finite"):
        match_windows("otam", np.full_like(windows, np.inf), clips, 0.1)
    assert not can_match_windows("mean", 8)
    assert not can_match_windows("otam", 65)
