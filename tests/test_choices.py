"""What users can choose: values that exist, and errors for the others."""

from __future__ import annotations

import numpy as np
import pytest

from mafsar import kernels
from mafsar.choices import (
    METRICS,
    EngineChoice,
    Scoring,
    check_device,
    check_far,
    check_number,
    check_threshold,
    is_finite,
)
from mafsar.documents import number
from mafsar.errors import InputError
from mafsar.video import clip_source
from mafsar.video.rates import check_clock


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "cuda:12"])
def test_devices(device: str) -> None:
    check_device(device)
    assert EngineChoice(device=device).device == device


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cuda:²", "cuda:-1", "cpu:0", ""])
def test_unknown_devices(device: str) -> None:
    with pytest.raises(InputError, match="device must be auto, cpu, cuda or cuda:N, got"):
        check_device(device)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"metric": "dtw"}, f"metric must be one of {', '.join(METRICS)}, got 'dtw'"),
        ({"alpha": 1.1}, "alpha must be between 0 and 1, got 1.1"),
        ({"alpha": float("nan")}, "alpha must be between 0 and 1, got nan"),
        ({"lam": 0.0}, "lam must be > 0 and finite, got 0"),
        ({"visual_scale": 0.0}, "visual_scale must be > 0 and finite, got 0"),
    ],
)
def test_scoring_refuses_values_out_of_range(values: dict[str, object], words: str) -> None:
    with pytest.raises(InputError) as error:
        Scoring(**values)  # type: ignore[arg-type]
    assert str(error.value) == words


def test_scoring_with_other_choices() -> None:
    scoring = Scoring("otam", lam=0.2, alpha=0.3, visual_scale=4.0, text_scale=9.0)
    assert scoring.with_choices() == scoring
    assert scoring.with_choices(metric="bimhm", alpha=0) == Scoring("bimhm", 0.2, 0.0, 4.0, 9.0)


@pytest.mark.parametrize("value", [10**400, -(10**400), 10**5000], ids=["large", "low", "huge"])
def test_integers_beyond_float64_are_out_of_range(value: int) -> None:
    """`math.isfinite` and `float` raise OverflowError for them; JSON and TOML may hold them."""
    assert not is_finite(value)
    with pytest.raises(InputError, match="lam must be finite"):
        kernels.otam(np.ones((2, 2), np.float32), value)
    with pytest.raises(InputError, match="alpha must be between 0 and 1"):
        check_number("alpha", value, 0.0, 1.0)
    with pytest.raises(InputError, match="threshold must be"):
        check_threshold(value)
    with pytest.raises(InputError, match="far must be"):
        check_far(value)
    with pytest.raises(InputError, match="x must be a number"):
        number()(value, "x")
    with pytest.raises(InputError, match="ignore_clock"):
        check_clock(value)
    for given in ({"fps": value}, {"times": [value]}):
        with pytest.raises(InputError, match=r"fps must be|times must be"):
            clip_source(np.zeros((1, 8, 8, 3), np.uint8), **given)


@pytest.mark.parametrize("value", [3e38, -3e38, np.inf, -np.inf, np.nan])
def test_kernels_refuse_what_gives_no_numbers(value: float) -> None:
    distances = np.full((8, 8), value, np.float32)
    features, ones = np.full((1, 8, 4), value, np.float32), np.ones((1, 8, 4), np.float32)
    calls = [lambda: kernels.otam(distances), lambda: kernels.bimhm(distances)]
    if not np.isfinite(value):
        calls += [
            lambda: kernels.otam_alignment(distances),
            lambda: kernels.frame_distances(features, ones),
        ]
        calls += [
            lambda: kernels.mean_match(features, ones),
            lambda: kernels.otam_match(features, ones),
        ]
    for call in calls:
        with pytest.raises(InputError, match="must be finite"):
            call()
