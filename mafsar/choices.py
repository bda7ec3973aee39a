"""What users can choose, and how features become scores: types that the whole package shares."""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from mafsar.errors import ArgumentTypeError, InputError, option, shown

Branch = Literal["query", "support"]
Metric = Literal["otam", "bimhm", "mean"]
TextUse = Literal["auto", "on", "off"]
Engine = Literal["onnx", "openvino", "trt", "torch"]
Precision = Literal["fp32", "fp16", "int8"]
OnError = Literal["raise", "skip"]
Views = Literal["raw"] | float
"""What features are matched by: "raw", or the weight w of the change view, 0–1."""
ViewsUse = Literal["auto", "raw"] | float
"""What users ask for; "auto" is the model's own choice."""

NONE_STATISTICS = (
    "one", "to_negatives", "to_class", "runner_up", "to_own", "to_others", "shots", "classes", "alone",
)  # fmt: skip
"""What p_none is computed from, see `mafsar.runtime.scoring.none`."""
FAR = 0.05
"""Share of unknown clips that `threshold="auto"` takes for a class, where nothing else is asked."""

METRICS: tuple[Metric, ...] = get_args(Metric)
TEXT_USES: tuple[TextUse, ...] = get_args(TextUse)
ENGINES: tuple[Engine, ...] = get_args(Engine)
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

Progress = Callable[[int, int, str], None]
"""Called with (done, total, what is being done), as `progress(3, 12, "encoding clips")`."""

MakeBundle = Callable[..., Path]
"""Takes a model's name, makes its bundle if there is none yet, and returns the bundle's folder.

Where fp16 graphs are needed it is called with "fp16" too, to add them.
"""


RAW_LAM, VIEWS_LAM = 0.5, 0.1
"""OTAM's λ where nothing was fitted: for raw features and for views (docs/method.md)."""

TRAINED_WEIGHT, FROZEN_WEIGHT = 0.5, 0.8
"""Weight of the change view where nothing was fitted: for a trained and for a frozen encoder."""


@dataclass(frozen=True)
class BranchPrior:
    """What the views of one branch know of the model's training clips.

    Attributes:
        mean: μ0, the mean of the frame features over the training clips, E numbers.
        floor: ε, the least norm by which a change is divided, > 0.
    """

    mean: tuple[float, ...]
    floor: float


@dataclass(frozen=True)
class ViewPrior:
    """What views know of the model's training clips, per branch; kept with the model."""

    query: BranchPrior
    support: BranchPrior

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> ViewPrior:
        """Reads the form of `dataclasses.asdict`; KeyError or TypeError where it is damaged."""
        query, support = (
            BranchPrior(
                tuple(float(value) for value in document[branch]["mean"]),
                float(document[branch]["floor"]),
            )
            for branch in ("query", "support")
        )
        return cls(query, support)


@dataclass(frozen=True)
class NonePrior:
    """What a model knows of the clips that show none of a bank's classes; kept in its manifest.

    A logistic regression on the statistics of `mafsar.runtime.scoring.none`, fitted to rendered
    validation classes (docs/method.md, "None of the classes").

    Attributes:
        weights: Weight of each statistic, in the order of `NONE_STATISTICS`.
        strength: How firmly the constant holds against a bank's own clips, > 0.
        views: What features are compared by: "raw", or the weight of the change view, 0–1.
        lam: OTAM's λ, > 0.
        noise: How many of the negatives, the last ones, are clips of noise.
    """

    weights: tuple[float, ...]
    strength: float
    views: Views
    lam: float
    noise: int = 0

    def __post_init__(self) -> None:
        if len(self.weights) != len(NONE_STATISTICS):
            raise InputError(
                f"weights must be {len(NONE_STATISTICS)} numbers, got {len(self.weights)}"
            )

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> NonePrior:
        """Reads `to_json`'s form; KeyError or TypeError where it is damaged."""
        views = document["views"]
        return cls(
            tuple(float(document["weights"][name]) for name in NONE_STATISTICS),
            float(document["strength"]),
            "raw" if views == "raw" else float(views),
            float(document["lam"]),
            int(document["noise"]),
        )

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "noise": self.noise,
            "weights": dict(zip(NONE_STATISTICS, self.weights, strict=True)),
            "strength": self.strength,
            "views": self.views,
            "lam": self.lam,
        }


@dataclass(frozen=True)
class Scoring:
    """How features become scores (docs/method.md).

    Attributes:
        metric: Distance between two sequences of frames.
        lam: OTAM's soft-min temperature λ, > 0.
        alpha: Weight of the text term, 0–1; 0 uses no text.
        visual_scale: Factor on the negative distances before the softmax, > 0.
        text_scale: Factor on the text cosines before the softmax, ≥ 0.
        views: "raw" matches the features as they are; a number from 0 to 1 matches two views of
            them and is the weight of the change view (docs/method.md).
        view_prior: What views know of the training clips; None = nothing.

    Raises:
        InputError: An unknown metric, or a number out of range.
    """

    metric: Metric = "otam"
    lam: float = RAW_LAM
    alpha: float = 0.5
    visual_scale: float = 1.0
    text_scale: float = 100.0
    views: Views = "raw"
    view_prior: ViewPrior | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        check_metric(self.metric)
        if not 0.0 <= self.alpha <= 1.0:
            raise InputError(f"alpha must be between 0 and 1, got {self.alpha:g}")
        check_views(self.views, ("raw",))
        if not 0.0 < self.lam < math.inf:
            raise InputError(f"lam must be > 0 and finite, got {self.lam:g}")
        if not 0.0 < self.visual_scale < math.inf:
            raise InputError(f"visual_scale must be > 0 and finite, got {self.visual_scale:g}")
        if not 0.0 <= self.text_scale < math.inf:
            raise InputError(f"text_scale must be ≥ 0 and finite, got {self.text_scale:g}")

    def with_choices(
        self,
        *,
        metric: Metric | None = None,
        alpha: float | None = None,
        views: ViewsUse = "auto",
    ) -> Scoring:
        """This scoring with another metric, α or views; None and "auto" keep the present ones.

        Views other than the present kind bring their own λ, and w > 0 the metric OTAM in place of
        `mean`, whose time means hold no change. The metric `mean` alone has w = 0.

        Raises:
            InputError: w > 0 is asked for together with the metric `mean`.
        """
        check_views(views)
        lam, chosen = self.lam, self.views
        if views != "auto":
            chosen = views
            if (chosen == "raw") != (self.views == "raw"):
                lam = RAW_LAM if chosen == "raw" else VIEWS_LAM
        changing = chosen not in ("raw", 0)
        if metric == "mean" and changing:
            if views != "auto":
                raise InputError(
                    option(views=views),
                    ": the time means that ",
                    option(metric="mean"),
                    " compares hold no change; use another metric, or ",
                    option(views=0),
                )
            chosen = 0.0
        if metric is None:
            metric = "otam" if self.metric == "mean" and changing else self.metric
        return replace(
            self,
            metric=metric,
            alpha=self.alpha if alpha is None else float(alpha),
            lam=lam,
            views=chosen if chosen == "raw" else float(chosen),
        )

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values; raw views are left out, as versions without views wrote it."""
        document = asdict(self)
        if self.views == "raw":
            del document["views"]
        if self.view_prior is None:
            del document["view_prior"]
        else:
            for branch in document["view_prior"].values():
                branch["mean"] = list(branch["mean"])
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Scoring:
        """Reads `to_json`'s form; KeyError or TypeError where it is damaged."""
        values = dict(document)
        if values.get("view_prior") is not None:
            values["view_prior"] = ViewPrior.from_json(values["view_prior"])
        return cls(**values)


@dataclass(frozen=True)
class EngineChoice:
    """The engine, device and precision that a model should run on.

    Attributes:
        engine: "auto", "onnx", "openvino", "trt" or "torch".
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


def is_finite(value: Any) -> bool:
    """Whether a value is a finite number that float64 holds; not so of an integer of 400 digits."""
    try:
        return math.isfinite(value)
    except (OverflowError, TypeError, ValueError):
        return False


def check_count(name: str, value: Any, least: int = 1) -> None:
    """Raises an error unless a value is a whole number of at least `least`.

    Raises:
        ArgumentTypeError: It is not a whole number.
        InputError: It is less.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise ArgumentTypeError(f"{name} must be a whole number, got {shown(value)[:60]}")
    if value < least:
        raise InputError(f"{name} must be ≥ {least}, got {value}")


def check_number(name: str, value: Any, least: float, most: float) -> None:
    """Raises an error unless a value is a number from `least` to `most`.

    Raises:
        ArgumentTypeError: It is not a number.
        InputError: It is out of this range, or NaN.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise ArgumentTypeError(f"{name} must be a number, got {shown(value)[:60]}")
    if not least <= value <= most:  # type: ignore[operator]
        raise InputError(f"{name} must be between {least:g} and {most:g}, got {shown(value)[:60]}")


def check_choice(name: str, value: object, allowed: tuple[str, ...]) -> None:
    """Raises InputError if a value is not one of those allowed; `name` is the argument's."""
    if value not in allowed:
        raise InputError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")


def check_metric(metric: object) -> None:
    """Raises InputError if there is no such metric."""
    check_choice("metric", metric, METRICS)


def check_views(views: object, words: tuple[str, ...] = ("auto", "raw")) -> None:
    """Raises InputError unless views is one of the words or a number from 0 to 1."""
    if views in words:
        return
    if isinstance(views, bool) or not isinstance(views, (int, float)) or not 0.0 <= views <= 1.0:
        allowed = ", ".join(words)
        raise InputError(f"views must be {allowed} or a number from 0 to 1, got {views!r}")


def check_far(far: object) -> None:
    """Raises InputError unless a false-accept rate is a number between 0 and 1."""
    if isinstance(far, bool) or not isinstance(far, (int, float)) or not 0.0 < far < 1.0:
        raise InputError(f"far must be a number between 0 and 1, got {shown(far)[:60]}")


def check_threshold(threshold: object) -> None:
    """Raises InputError unless a threshold is "auto", "off" or a number from 0 to 1."""
    if threshold in ("auto", "off"):
        return
    number = isinstance(threshold, (int, float)) and not isinstance(threshold, bool)
    if not number or not 0.0 <= threshold <= 1.0:  # type: ignore[operator]
        raise InputError(
            f"threshold must be auto, off or a number from 0 to 1, got {shown(threshold)[:60]}"
        )


def check_device(device: str) -> None:
    """Raises InputError unless the device is auto, cpu, cuda or cuda:N."""
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]+)?", device):
        raise InputError(f"device must be auto, cpu, cuda or cuda:N, got {device!r}")
