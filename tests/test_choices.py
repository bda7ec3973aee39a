"""What users can choose: values that exist, and errors for the others."""

from __future__ import annotations

import pytest

from mafsar.choices import METRICS, EngineChoice, Scoring, check_device
from mafsar.errors import InputError


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
