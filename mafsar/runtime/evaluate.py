"""Accuracy over frozen few-shot episodes: every clip is encoded once a branch, then only matched."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mafsar.data.episodes import Episodes, draw_episodes, episodes_to_json, read_episodes
from mafsar.data.splits import Part, Split, choose_classes, read_split
from mafsar.errors import InputError
from mafsar.runtime.cache import FeatureCache
from mafsar.runtime.encoders import Encoder, Float32, Metric
from mafsar.runtime.encoding import encode_clips, encode_texts
from mafsar.runtime.files import write_text
from mafsar.runtime.scores import Scores, Scoring, match_features
from mafsar.runtime.support import SupportSet, read_support
from mafsar.runtime.text_choice import known_classes
from mafsar.video import Geometry

SCHEMA = 1
_BATCH_BYTES = 64 << 20  # what one batch of episodes may gather
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class EvalResult:
    """What `mafsar eval --json` prints, and the confusion matrix.

    Attributes:
        accuracy: Queries answered rightly, %.
        ci95: Half width of its 95 % confidence interval over the episodes, points.
        accuracy_visual: The same by the visual term alone, %.
        accuracy_text: The same by the text term alone, %; None with text off.
        per_class: Accuracy of each class's queries, %; None for a class never drawn.
        way: Classes of an episode.
        shot: Support clips of a class.
        query: Query clips of a class.
        episodes: How many.
        seed: What they were drawn by.
        metric: The visual metric.
        text: Whether class names took part.
        clips_encoded: Clips that this call encoded; those in the cache are not among them.
        seconds: Wall time of all of it.
        model: Name of the model.
        adapters: "trained" or "none".
        engine: "onnx", "trt" or "torch".
        why_text: Why text was used or not, one sentence; not part of the JSON.
        labels: The classes' labels; not part of the JSON.
        confusion: Answers, (C, C), rows = true class, columns = answer; not part of the JSON.
        seconds_match: Wall time of the matching alone; not part of the JSON.
    """

    accuracy: float
    ci95: float
    accuracy_visual: float
    accuracy_text: float | None
    per_class: dict[str, float | None]
    way: int
    shot: int
    query: int
    episodes: int
    seed: int
    metric: Metric
    text: bool
    clips_encoded: int
    seconds: float
    model: str
    adapters: str
    engine: str
    why_text: str = field(default="", repr=False)
    labels: tuple[str, ...] = field(default=(), repr=False)
    confusion: NDArray[np.int64] = field(
        default_factory=lambda: np.zeros((0, 0), np.int64), repr=False
    )
    seconds_match: float = field(default=0.0, repr=False)

    def to_json(self) -> dict[str, Any]:
        """The object of `mafsar eval --json`."""
        names = [
            "accuracy", "ci95", "accuracy_visual", "accuracy_text", "per_class", "way", "shot",
            "query", "episodes", "seed", "metric", "text", "clips_encoded", "seconds", "model",
            "adapters", "engine",
        ]  # fmt: skip
        return {"schema": SCHEMA} | {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Tally:
    """Counts over episodes.

    Attributes:
        right: Share of right answers of each episode, (n,), by the fused scores.
        right_visual: The same by the visual term.
        right_text: The same by the text term, or None.
        confusion: Answers, (C, C), rows = true class.
    """

    right: NDArray[np.float64]
    right_visual: NDArray[np.float64]
    right_text: NDArray[np.float64] | None
    confusion: NDArray[np.int64]
