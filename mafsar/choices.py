"""What a user can choose, and how features become scores: the contracts that every room shares."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from mafsar.errors import InputError

Branch = Literal["query", "support"]
Metric = Literal["otam", "bimhm", "mean"]
TextUse = Literal["auto", "on", "off"]
Engine = Literal["onnx", "trt", "torch"]
Precision = Literal["fp32", "fp16", "int8"]
OnError = Literal["raise", "skip"]

METRICS: tuple[Metric, ...] = get_args(Metric)
ENGINES: tuple[Engine, ...] = get_args(Engine)
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

Progress = Callable[[int, int, str], None]
"""Called with (done, total, what is being done)."""

MakeBundle = Callable[[str], Path]
"""Makes the bundle of a model by name, where there is none yet, and returns its folder."""


@dataclass(frozen=True)
class Scoring:
    """How features become scores (METHOD section 3).

    Attributes:
        metric: Distance between two sequences of frames.
        lam: OTAM's soft-min temperature λ, > 0.
        alpha: Weight of the text term, 0–1; 0 uses no text.
        visual_scale: Factor on the negative distances before the softmax, > 0.
        text_scale: Factor on the text cosines before the softmax, ≥ 0.
    """

    metric: Metric = "otam"
    lam: float = 0.5
    alpha: float = 0.5
    visual_scale: float = 1.0
    text_scale: float = 100.0

    def __post_init__(self) -> None:
        check_metric(self.metric)
        if not 0.0 <= self.alpha <= 1.0:
            raise InputError(f"alpha must be between 0 and 1, got {self.alpha:g}")
        if not 0.0 < self.lam < math.inf:
            raise InputError(f"lam must be > 0 and finite, got {self.lam:g}")
        if not 0.0 < self.visual_scale < math.inf:
            raise InputError(f"visual_scale must be > 0 and finite, got {self.visual_scale:g}")
        if not 0.0 <= self.text_scale < math.inf:
            raise InputError(f"text_scale must be ≥ 0 and finite, got {self.text_scale:g}")

    def with_choices(self, *, metric: Metric | None = None, alpha: float | None = None) -> Scoring:
        """The same scoring with the metric and α that are not None."""
        return replace(
            self,
            metric=self.metric if metric is None else metric,
            alpha=self.alpha if alpha is None else float(alpha),
        )


@dataclass(frozen=True)
class EngineChoice:
    """What is asked of the program that runs a model.

    Attributes:
        engine: "auto", "onnx", "trt" or "torch".
        device: "auto", "cpu", "cuda" or "cuda:N".
        precision: "fp32", "fp16" or "int8".
        threads: Threads of the engine on a CPU; None = OMP_NUM_THREADS, else one a core.
        cache: Whether bundles in the cache may be used and made.
        make_bundle: Makes the bundle of a model that has none; None = none is made.

    Raises:
        InputError: A value that does not exist.
    """

    engine: Engine | Literal["auto"] = "auto"
    device: str = "auto"
    precision: Precision = "fp32"
    threads: int | None = None
    cache: bool = True
    make_bundle: MakeBundle | None = None

    def __post_init__(self) -> None:
        check_choice("engine", self.engine, ("auto", *ENGINES))
        check_choice("precision", self.precision, PRECISIONS)
        check_device(self.device)


def check_choice(name: str, value: object, allowed: tuple[str, ...]) -> None:
    """Refuses a value that is not among those allowed."""
    if value not in allowed:
        raise InputError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")


def check_metric(metric: object) -> None:
    """Refuses a metric that does not exist."""
    check_choice("metric", metric, METRICS)


def check_device(device: str) -> None:
    """Refuses anything but auto, cpu, cuda and cuda:N."""
    kind, _, index = device.partition(":")
    if device not in ("auto", "cpu") and not (kind == "cuda" and (not index or index.isdigit())):
        raise InputError(f"device must be auto, cpu, cuda or cuda:N, got {device!r}")
