"""Compares the features and answers of an artefact with those of its reference (no torch)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mafsar import kernels
from mafsar.data.episodes import draw_episodes
from mafsar.errors import MismatchError, option
from mafsar.export.bundle_draft import branches_of
from mafsar.export.thresholds import LARGEST_DROP, LARGEST_HALF
from mafsar.export.verify.clips import ClipSet
from mafsar.runtime.encoder import Float32, ModelSpec
from mafsar.runtime.engines.parity import compare
from mafsar.runtime.scoring.scores import class_distances, score_distances

EPISODES = 2000
_BATCH = 5  # differs from the batch of the trace, and leaves a smaller last batch
_LEAST_SPREAD = 1e-3  # of a row's length: nearer to the mean, rounding decides its direction

# (branch, inputs by name) → outputs by name.
Runner = Callable[[str, Mapping[str, NDArray[Any]]], Mapping[str, NDArray[Any]]]
BranchOutputs = dict[str, Float32]
"""Outputs by `branch/output`, such as `query/features`."""


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
        against: What ran the reference.
        data: "rendered", or the user's path.
        clips: Number of clips.
        outputs: By `branch/output`.
        distance_error: Largest error of a cosine distance between two frames.
        episodes: Number of frozen 5-way 1-shot episodes (fewer ways where there are fewer classes).
        queries: Number of answers compared.
        accuracy_reference: Correct answers of the reference, %.
        accuracy: Correct answers of the artefact, %.
        answers_changed: Queries whose answer differs, %.
        min_cosine: Smallest cosine that passes.
        seconds_per_clip: Of the artefact on this machine, all branches together.
        seconds_per_clip_reference: The same of the reference.
        largest_half: For an FP16 graph, the half-precision value with the largest magnitude:
            its node and that magnitude.
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
        # NaN counts as the worst; Python's `min` would skip it.
        name = min(worst, key=lambda k: -np.inf if np.isnan(worst[k]) else worst[k])
        return name, worst[name]

    def to_json(self) -> dict[str, Any]:
        """The entry of `bundle.json`, rounded."""
        return {name: _rounded(value) for name, value in asdict(self).items()}

    def check(self, artefact: str) -> None:
        """Fails where the artefact is too far from its reference.

        Args:
            artefact: Its name, for the message.

        Raises:
            MismatchError: A cosine is below the limit, a distance is off by more than ten times
                what the limit leaves, the accuracy drops by more than half a percentage point, or
                a value overflows half precision.
        """
        where = f"{artefact}: on {self.clips} clips ({self.data})"
        if self.largest_half is not None and self.largest_half[1] > LARGEST_HALF:
            raise MismatchError(
                f"{where} {self.largest_half[0]} overflows half precision "
                f"({self.largest_half[1]:.3g}, at most {LARGEST_HALF:.0f}); nothing was kept, use ",
                option(precision="fp32"),
            )
        name, cosine = self.worst
        instead = ("; nothing was kept, use another precision or lower ", option("min_cosine"))
        if not cosine >= self.min_cosine:
            raise MismatchError(
                f"{where} output {name} has cosine {cosine:.6f} to {self.against}, at least "
                f"{self.min_cosine:g} wanted",
                *instead,
            )
        allowed = 10 * (1 - self.min_cosine)
        if not self.distance_error <= allowed:
            raise MismatchError(
                f"{where} frame distances are off by up to {self.distance_error:.2g}, {allowed:.2g} "
                "allowed",
                *instead,
            )
        if self.accuracy < self.accuracy_reference - LARGEST_DROP:
            raise MismatchError(
                f"{where} accuracy drops from {self.accuracy_reference:.2f} % to "
                f"{self.accuracy:.2f} % over {self.episodes} episodes, {LARGEST_DROP} points "
                "allowed; nothing was kept, use another precision"
            )


def compare_output(reference: NDArray[Any], found: NDArray[Any]) -> OutputParity:
    """Compares one output, also without the mean that all rows share.

    The features of one CLIP lie close together, so a cosine over whole features hardly shows an
    error in what tells one clip from another.
    """
    whole = compare(reference, found)
    width = reference.shape[-1]
    a = reference.reshape(-1, width).astype(np.float64)
    b = found.reshape(-1, width).astype(np.float64)
    mean = a.mean(axis=0)
    spread = np.linalg.norm(a - mean, axis=-1) > _LEAST_SPREAD * np.linalg.norm(a, axis=-1)
    centred = compare((a - mean)[spread], (b - mean)[spread])
    return OutputParity(whole.min_cosine, min(centred.min_cosine, 1.0), whole.max_error)


def encode_clips(
    runner: Runner,
    clips: ClipSet,
    spec: ModelSpec,
    text: Float32 | None,
    *,
    batch: int = _BATCH,
) -> tuple[BranchOutputs, float]:
    """Runs clips through the visual branches.

    Args:
        runner: The artefact or the reference.
        clips: n clips.
        spec: The model.
        text: Raw text embeddings of the classes, (C, E); None without a support graph.
        batch: Clips that go through together.

    Returns:
        Outputs by `branch/output`, and the seconds per clip.
    """
    parts: dict[str, list[NDArray[Any]]] = {}
    began = time.perf_counter()
    for branch in branches_of(spec):
        for start in range(0, len(clips), batch):
            chunk = slice(start, start + batch)
            inputs: dict[str, NDArray[Any]] = {"frames": clips.frames[chunk]}
            if branch == "support" and text is not None:
                inputs["text"] = text[clips.class_index[chunk]]
            for name, value in runner(branch, inputs).items():
                parts.setdefault(f"{branch}/{name}", []).append(value)
    seconds = (time.perf_counter() - began) / len(clips)
    return {k: np.concatenate(v).astype(np.float32) for k, v in parts.items()}, seconds


def compare_outputs(
    reference: BranchOutputs,
    found: BranchOutputs,
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
        reference: From `encode_clips`; may hold text embeddings besides.
        found: The same outputs of the artefact.
        clips: The clips.
        spec: The model.
        text: Raw text embeddings of the classes, (C, E), or None.
        min_cosine: The limit that the report carries.
        against: What ran the reference.
        seconds: Seconds per clip of the reference and of the artefact.

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


def _as_support(outputs: BranchOutputs) -> Float32:
    return outputs.get("support/features", outputs["query/features"])


def _distance_error(reference: BranchOutputs, found: BranchOutputs) -> float:
    """Largest error of the frame distances D[l, m] (docs/method.md, section 3) over all pairs."""
    tables = [
        np.asarray(kernels.frame_distances(values["query/features"], _as_support(values)))
        for values in (reference, found)
    ]
    error = float(np.abs(tables[0] - tables[1]).max())
    return error if np.isfinite(error) else float("inf")


def _answers(
    outputs: BranchOutputs, clips: ClipSet, spec: ModelSpec, text: Float32 | None
) -> NDArray[np.intp]:
    """Answers to frozen 1-shot episodes, (episodes, way): each class has one query."""
    scoring = spec.scoring
    way = min(5, len(clips.texts))
    episodes = draw_episodes(
        clips.class_index, clips.texts, way=way, shot=1, query=1, episodes=EPISODES, seed=0
    )
    query, pooled = outputs["query/features"], outputs["query/pooled"]
    table = class_distances(query, _as_support(outputs), scoring)  # (n, n)
    asked, shown = episodes.queries[:, :, 0], episodes.support[:, :, 0]  # (episodes, way)
    scores = score_distances(
        table[asked[:, :, None], shown[:, None, :]],
        query.shape[1],
        scoring,
        pooled=pooled[asked],
        text=None if text is None else text[episodes.classes],
    )
    return np.asarray(np.nan_to_num(scores.fused, nan=-1.0).argmax(axis=-1))


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.7g}") if np.isfinite(value) else None
    if isinstance(value, tuple):
        return [_rounded(v) for v in value]
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    return value
