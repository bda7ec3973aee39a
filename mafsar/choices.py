"""What users can choose, and how features become scores: types that the whole package shares."""

from __future__ import annotations

import math
import re
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
TEXT_USES: tuple[TextUse, ...] = get_args(TextUse)
ENGINES: tuple[Engine, ...] = get_args(Engine)
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

Progress = Callable[[int, int, str], None]
"""Called with (done, total, what is being done), as `progress(3, 12, "encoding clips")`."""

MakeBundle = Callable[[str], Path]
"""Takes a model's name, makes its bundle if there is none yet, and returns the bundle's folder."""


@dataclass(frozen=True)
class Scoring:
    """How features become scores (docs/method.md).

    Attributes:
        metric: Distance between two sequences of frames.
        lam: OTAM's soft-min temperature λ, > 0.
        alpha: Weight of the text term, 0–1; 0 uses no text.
        visual_scale: Factor on the negative distances before the softmax, > 0.
        text_scale: Factor on the text cosines before the softmax, ≥ 0.

    Raises:
        InputError: An unknown metric, or a number out of range.
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
        """This scoring with another metric or α; None keeps the present one."""
        return replace(
            self,
            metric=self.metric if metric is None else metric,
            alpha=self.alpha if alpha is None else float(alpha),
        )


@dataclass(frozen=True)
class EngineChoice:
    """The engine, device and precision that a model should run on.

    Attributes:
        engine: "auto", "onnx", "trt" or "torch".
        device: "auto", "cpu", "cuda" or "cuda:N".
        precision: "fp32", "fp16" or "int8".
        threads: CPU threads of the engine; None = OMP_NUM_THREADS, else one per core.
        cache: Whether bundles in the cache may be used and created.
        make_bundle: Makes the bundle of a model that has none; None = do not make one.

    Raises:
        InputError: An unknown engine, device or precision.
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
    """Raises InputError if a value is not one of those allowed; `name` is the argument's."""
    if value not in allowed:
        raise InputError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")


def check_metric(metric: object) -> None:
    """Raises InputError if there is no such metric."""
    check_choice("metric", metric, METRICS)


def check_device(device: str) -> None:
    """Raises InputError unless the device is auto, cpu, cuda or cuda:N."""
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]+)?", device):
        raise InputError(f"device must be auto, cpu, cuda or cuda:N, got {device!r}")
