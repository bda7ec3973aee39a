"""The limits of an export, each tested on both sides."""

from __future__ import annotations

import dataclasses

import pytest

from mafsar.errors import MismatchError
from mafsar.export.thresholds import LARGEST_DROP
from mafsar.export.verify.compare import OutputParity, Report

GOOD = Report(
    verified="yes", against="torch fp32", data="rendered", clips=24,
    outputs={"query/features": OutputParity(0.9999, 0.9995, 0.01)},
    distance_error=0.005, episodes=2000, queries=10000, accuracy_reference=91.5, accuracy=91.5,
    answers_changed=0.1, min_cosine=0.999, seconds_per_clip=0.1, seconds_per_clip_reference=0.1,
)  # fmt: skip


@pytest.mark.parametrize(
    ("passes", "fails", "says"),
    [
        (
            {"outputs": {"query/pooled": OutputParity(0.9991, 0.9990, 0.1)}},
            {"outputs": {"query/pooled": OutputParity(0.9999, 0.9989, 0.1)}},
            r"output query/pooled has cosine 0\.998900 to torch fp32, at least 0\.999 wanted",
        ),
        (
            {},
            {"outputs": {"query/features": OutputParity(float("nan"), 1.0, 0.1)}},
            "has cosine nan",
        ),
        (
            {},
            {"outputs": GOOD.outputs | {"x/pooled": OutputParity(1.0, float("nan"), 0.1)}},
            "output x/pooled has cosine nan",
        ),
        (
            {"distance_error": 0.0099},
            {"distance_error": 0.0101},
            r"frame distances are off by up to 0\.01, 0\.01 allowed",
        ),
        ({}, {"distance_error": float("nan")}, "frame distances are off"),
        (
            {"accuracy": 91.5 - LARGEST_DROP},
            {"accuracy": 91.5 - LARGEST_DROP - 0.01},
            r"accuracy drops from 91\.50 % to 90\.99 % over 2000 episodes, 0\.5 points allowed",
        ),
        ({"accuracy": 99.0}, {"accuracy": 20.0}, "accuracy drops"),
        (
            {"largest_half": ("mul", 65504.0)},
            {"largest_half": ("mul", 70000.0)},
            r"mul overflows half precision \(7e\+04",
        ),
    ],
)
def test_each_limit(passes: dict, fails: dict, says: str) -> None:
    dataclasses.replace(GOOD, **passes).check("onnx-fp16")
    with pytest.raises(MismatchError, match=says) as error:
        dataclasses.replace(GOOD, **fails).check("onnx-fp16")
    assert "nothing was kept" in str(error.value)
