"""What a match answers: dataclasses with the names of `mafsar match --json`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from mafsar.runtime.encoder import Float32, Frames

SCHEMA = 1


@dataclass(frozen=True)
class TopK:
    """One class of an answer.

    Attributes:
        label: The class.
        score: Fused probability among the given classes.
        distance: The metric's value, smaller is nearer.
        text_score: Probability by the class's text alone; None without text.
    """

    label: str
    score: float
    distance: float
    text_score: float | None


@dataclass(frozen=True)
class Seconds:
    """Where the time of one query went; `total` is the sum of the four."""

    decode: float
    preprocess: float
    encode: float
    match: float
    total: float


@dataclass(frozen=True)
class ClipTimes:
    """What was looked at in a clip, in seconds of the container's clock."""

    duration_seconds: float
    frames_seconds: tuple[float, ...]
    fps: float | None


@dataclass(frozen=True)
class Evidence:
    """What an answer rests on, for plots; not part of the JSON.

    Attributes:
        pixels: The query as the model saw it, (T, S, S, 3), uint8 RGB.
        clip: Index in the bank's clips of the nearest support clip of the answered class.
        distances: Frame distances of query and that clip, (Tq, Ts).
        alignment: Soft alignment, the derivative of OTAM by the distances, (Tq, Ts), ≥ 0.
    """

    pixels: Frames
    clip: int
    distances: Float32
    alignment: Float32

    def __repr__(self) -> str:
        return f"Evidence(pixels={self.pixels.shape}, clip={self.clip})"


@dataclass(frozen=True)
class Match:
    """The answer to one query; names as in `mafsar match --json`.

    Attributes:
        query: Its name: the path as given, or NAME of NAME=SOURCE.
        label: The class, or None where `none`.
        score: Fused probability of the best class; the scores of all classes sum to 1.
        p_none: Calibrated probability of none of the classes; None until calibrated.
        none: Whether the clip shows none of the classes.
        topk: The best classes, best first.
        seconds: Where the time went.
        clip: What was looked at.
        model: Name of the model.
        adapters: "trained" or "none".
        engine: "onnx", "trt" or "torch".
        precision: "fp32", "fp16" or "int8".
        device: "cpu" or "cuda:N".
        warning: What the user should know of this answer, or None.
        evidence: For plots, where asked for; not part of the JSON.
    """

    query: str
    label: str | None
    score: float
    p_none: float | None
    none: bool
    topk: tuple[TopK, ...]
    seconds: Seconds
    clip: ClipTimes
    model: str
    adapters: str
    engine: str
    precision: str
    device: str
    warning: str | None
    evidence: Evidence | None = field(default=None, repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        """The object of `mafsar match --json`."""
        values = asdict(replace(self, evidence=None))
        del values["evidence"]
        return {"schema": SCHEMA} | values


@dataclass(frozen=True)
class QueryError:
    """A query that could not be answered; the others are."""

    query: str
    error: str

    def to_json(self) -> dict[str, Any]:
        """The object of `mafsar match --json`."""
        return {"schema": SCHEMA, "query": self.query, "error": self.error}
