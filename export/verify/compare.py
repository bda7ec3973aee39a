"""Whether two engines give the same features and answers: measured, never assumed (no torch)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from mafsar import kernels
from mafsar.data.episodes import draw_episodes
from mafsar.errors import MismatchError
from mafsar.export.verify.clips import ClipSet
from mafsar.model.names import graph_file
from mafsar.runtime.encoder import Float32, ModelSpec
from mafsar.runtime.engines.onnx_encoder import available_threads
from mafsar.runtime.engines.parity import Parity, compare
from mafsar.runtime.engines.probe import LIMITS
from mafsar.runtime.scoring.scores import (
    Scoring,
    fuse,
    text_probabilities,
    visual_distances,
    visual_probabilities,
)

LARGEST_HALF = float(np.finfo(np.float16).max)
LARGEST_DROP = 0.5  # points of accuracy
EPISODES = 2000
_BATCH = 5  # not the batch of the trace, and it leaves a rest
_LEAST_SPREAD = 1e-3  # of a row's length: nearer to the mean, rounding decides its direction

__all__ = [
    "LIMITS",
    "OnnxRunner",
    "Parity",
    "Report",
    "compare",
    "encode_set",
    "judge",
    "run_graph",
]

# (branch, inputs by name) → outputs by name.
Runner = Callable[[str, Mapping[str, NDArray[Any]]], Mapping[str, NDArray[Any]]]
Outputs = dict[str, Float32]


@dataclass(frozen=True)
class OutputParity:
    """One output of an artefact against the reference.

    Attributes:
        cosine: Smallest cosine between rows.
        centred_cosine: The same after subtracting the set's mean from both.
        max_error: Largest absolute difference.
    """

    cosine: float
    centred_cosine: float
    max_error: float


@dataclass(frozen=True)
class Report:
    """An artefact against its reference on one set of clips.

    Attributes:
        verified: "yes".
        against: What the reference ran on.
        data: "rendered", or the user's path.
        clips: How many.
        outputs: By `branch/output`.
        distance_error: Largest error of a cosine distance between two frames.
        episodes: Frozen 5-way 1-shot episodes (fewer ways where there are fewer classes).
        queries: Answers compared.
        accuracy_reference: Right answers of the reference, %.
        accuracy: Right answers of the artefact, %.
        answers_changed: Queries that got another answer, %.
        min_cosine: The limit that held.
        seconds_per_clip: Of the artefact here, both branches together.
        seconds_per_clip_reference: Of the reference here.
        largest_half: The half value that grows largest and its magnitude, of an FP16 graph.
    """

    verified: str
    against: str
    data: str
    clips: int
    outputs: dict[str, OutputParity]
    distance_error: float
    episodes: int
    queries: int
    accuracy_reference: float
    accuracy: float
    answers_changed: float
    min_cosine: float
    seconds_per_clip: float
    seconds_per_clip_reference: float
    largest_half: tuple[str, float] | None = None

    @property
    def worst(self) -> tuple[str, float]:
        """The output with the smallest cosine, centred or not, and that cosine."""
        worst = {k: float(np.min((v.cosine, v.centred_cosine))) for k, v in self.outputs.items()}
        # What is no number is the worst; Python's `min` would pass it over.
        name = min(worst, key=lambda k: -np.inf if np.isnan(worst[k]) else worst[k])
        return name, worst[name]

    @property
    def max_error(self) -> float:
        """Largest absolute difference of any output."""
        return max(output.max_error for output in self.outputs.values())

    def to_json(self) -> dict[str, Any]:
        """The entry of `bundle.json`, rounded."""
        return {name: _rounded(value) for name, value in asdict(self).items()}

    def check(self, artefact: str) -> None:
        """Fails where the artefact is too far from its reference.

        Raises:
            MismatchError: A cosine under the limit, distances further off than ten times what the
                limit leaves, or an accuracy that drops by more than half a point.
        """
        where = f"{artefact}: on {self.clips} clips ({self.data})"
        if self.largest_half is not None and self.largest_half[1] > LARGEST_HALF:
            raise MismatchError(
                f"{where} {self.largest_half[0]} overflows half precision "
                f"({self.largest_half[1]:.3g}, at most {LARGEST_HALF:.0f}); nothing was kept, use "
                "--precision fp32"
            )
        name, cosine = self.worst
        if not cosine >= self.min_cosine:
            raise MismatchError(
                f"{where} output {name} has cosine {cosine:.6f} to {self.against}, at least "
                f"{self.min_cosine:g} wanted; nothing was kept, use another precision or lower "
                "--min-cosine"
            )
        allowed = 10 * (1 - self.min_cosine)
        if not self.distance_error <= allowed:
            raise MismatchError(
                f"{where} frame distances are off by up to {self.distance_error:.2g}, {allowed:.2g} "
                "allowed; nothing was kept, use another precision or lower --min-cosine"
            )
        if self.accuracy < self.accuracy_reference - LARGEST_DROP:
            raise MismatchError(
                f"{where} accuracy drops from {self.accuracy_reference:.2f} % to "
                f"{self.accuracy:.2f} % over {self.episodes} episodes, {LARGEST_DROP} points "
                "allowed; nothing was kept, use another precision"
            )


class OnnxRunner:
    """A bundle's graphs of one precision on ONNX Runtime's CPU provider."""

    def __init__(self, folder: Path, precision: str) -> None:
        self._folder, self._precision = folder, precision
        self._sessions: dict[str, onnxruntime.InferenceSession] = {}

    def __call__(self, branch: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Runs a branch."""
        if branch not in self._sessions:
            path = self._folder / graph_file(branch, self._precision)
            self._sessions[branch] = open_session(path)
        session = self._sessions[branch]
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))


def open_session(path: Path) -> onnxruntime.InferenceSession:
    """A graph on ONNX Runtime's CPU provider, asserted."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    options.intra_op_num_threads = available_threads()
    session = onnxruntime.InferenceSession(
        str(path), sess_options=options, providers=["CPUExecutionProvider"]
    )
    if session.get_providers() != ["CPUExecutionProvider"]:
        raise MismatchError(f"{path}: ONNX Runtime opened it on {session.get_providers()}")
    return session


def open_altered(path: Path, write: Callable[[Path], object]) -> onnxruntime.InferenceSession:
    """A changed copy of a graph on ONNX Runtime's CPU provider.

    Args:
        path: The graph; the copy lies beside it for a moment, as its weights file must.
        write: Called with the copy's path; writes it.
    """
    copy = path.with_name(f".{path.stem}.scan.onnx")
    try:
        write(copy)
        return open_session(copy)
    finally:
        copy.unlink(missing_ok=True)


def run_graph(path: Path, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Runs a graph once on ONNX Runtime's CPU provider, outputs by name."""
    session = open_session(path)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))


def compare_output(reference: NDArray[Any], found: NDArray[Any]) -> OutputParity:
    """Compares one output, also without the mean that all rows share.

    Features of one CLIP lie close together: a cosine over whole features hardly sees an error in
    what tells one clip from another.
    """
    whole = compare(reference, found)
    width = reference.shape[-1]
    a = reference.reshape(-1, width).astype(np.float64)
    b = found.reshape(-1, width).astype(np.float64)
    mean = a.mean(axis=0)
    spread = np.linalg.norm(a - mean, axis=-1) > _LEAST_SPREAD * np.linalg.norm(a, axis=-1)
    centred = compare((a - mean)[spread], (b - mean)[spread])
    return OutputParity(whole.min_cosine, min(centred.min_cosine, 1.0), whole.max_error)


def encode_set(
    runner: Runner, clips: ClipSet, spec: ModelSpec, text: Float32 | None
) -> tuple[Outputs, float]:
    """Runs a set through both branches.

    Args:
        runner: The artefact or the reference.
        clips: n clips.
        spec: The model.
        text: Raw text embeddings of the classes, (C, E); None without a support graph.

    Returns:
        Outputs by `branch/output`, and the seconds a clip.
    """
    branches = ["query"] + (["support"] if spec.text_in_support else [])
    parts: dict[str, list[NDArray[Any]]] = {}
    began = time.perf_counter()
    for branch in branches:
        for start in range(0, len(clips), _BATCH):
            chunk = slice(start, start + _BATCH)
            inputs: dict[str, NDArray[Any]] = {"frames": clips.frames[chunk]}
            if branch == "support" and text is not None:
                inputs["text"] = text[clips.owners[chunk]]
            for name, value in runner(branch, inputs).items():
                parts.setdefault(f"{branch}/{name}", []).append(value)
    seconds = (time.perf_counter() - began) / len(clips)
    return {k: np.concatenate(v).astype(np.float32) for k, v in parts.items()}, seconds


def judge(
    reference: Outputs,
    found: Outputs,
    clips: ClipSet,
    spec: ModelSpec,
    *,
    text: Float32 | None,
    min_cosine: float,
    against: str,
    seconds: tuple[float, float],
) -> Report:
    """Measures an artefact's outputs against the reference's on the same clips.

    Args:
        reference: Of `encode_set`, perhaps with more outputs.
        found: The same of the artefact.
        clips: The clips.
        spec: The model.
        text: Raw text embeddings of the classes, (C, E), or None.
        min_cosine: The limit that the report carries.
        against: What the reference ran on.
        seconds: Seconds a clip, of the reference and of the artefact.

    Raises:
        MismatchError: An output is missing or has another shape.
    """
    outputs = {}
    for name, values in reference.items():
        if name not in found or found[name].shape != values.shape:
            has = found[name].shape if name in found else "missing"
            raise MismatchError(f"output {name} is {has}, the reference has {values.shape}")
        outputs[name] = compare_output(values, found[name])
    wanted, given = (_answers(values, clips, spec, text) for values in (reference, found))
    truth = np.arange(wanted.shape[1])
    return Report(
        verified="yes",
        against=against,
        data=clips.source,
        clips=len(clips),
        outputs=outputs,
        distance_error=_distance_error(reference, found),
        episodes=len(wanted),
        queries=wanted.size,
        accuracy_reference=100.0 * float((wanted == truth).mean()),
        accuracy=100.0 * float((given == truth).mean()),
        answers_changed=100.0 * float((wanted != given).mean()),
        min_cosine=min_cosine,
        seconds_per_clip_reference=seconds[0],
        seconds_per_clip=seconds[1],
    )


def _as_support(outputs: Outputs) -> Float32:
    return outputs.get("support/features", outputs["query/features"])


def _distance_error(reference: Outputs, found: Outputs) -> float:
    """Largest error of D[l, m] of METHOD section 3 over all pairs of clips."""
    tables = [
        np.asarray(kernels.frame_distances(values["query/features"], _as_support(values)))
        for values in (reference, found)
    ]
    error = float(np.abs(tables[0] - tables[1]).max())
    return error if np.isfinite(error) else float("inf")


def _answers(
    outputs: Outputs, clips: ClipSet, spec: ModelSpec, text: Float32 | None
) -> NDArray[np.intp]:
    """Answers to frozen 1-shot episodes, (episodes, way): each class has one query."""
    scoring = Scoring.of(spec)
    way = min(5, len(clips.texts))
    episodes = draw_episodes(
        clips.owners, clips.texts, way=way, shot=1, query=1, episodes=EPISODES, seed=0
    )
    query, pooled = outputs["query/features"], outputs["query/pooled"]
    table = visual_distances(query, _as_support(outputs), scoring)  # (n, n)
    asked, shown = episodes.queries[:, :, 0], episodes.support[:, :, 0]  # (episodes, way)
    scores = visual_probabilities(
        table[asked[:, :, None], shown[:, None, :]], query.shape[1], scoring
    )
    if text is not None:
        worded = text_probabilities(pooled[asked], text[episodes.classes], scoring)
        scores = fuse(scores, worded, scoring)
    return np.asarray(np.nan_to_num(scores, nan=-1.0).argmax(axis=-1))


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.7g}") if np.isfinite(value) else None
    if isinstance(value, tuple):
        return [_rounded(v) for v in value]
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    return value
