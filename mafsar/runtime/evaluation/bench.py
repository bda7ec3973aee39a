"""How long each stage of a match takes here, engines side by side, with the parity of what was timed."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mafsar.choices import Progress
from mafsar.errors import InputError
from mafsar.runtime.encoder import Encoder, Float32, Frames
from mafsar.runtime.engines.parity import Parity, compare
from mafsar.runtime.machine.system import peak_bytes, system_facts
from mafsar.runtime.scoring.scores import match_features
from mafsar.synthetic import class_names, render_clip, render_video
from mafsar.video import load_clip

SCHEMA = 1
STAGES = ("decode", "preprocess", "encode", "match")
_WAY = 5
_WARM_UP = 2
_ROUNDS = 5  # in which engines take turns, so that a machine that slows down slows all of them
_FIRST_SEED = 8_000_000
_DISTINCT = 8  # rendered clips; a larger batch repeats them
_PARITY_CLIPS = 4


@dataclass(frozen=True)
class Stage:
    """Milliseconds of one stage, for one call.

    Attributes:
        mean: Mean.
        sd: Standard deviation.
        min: Fastest.
        median: Median.
        p95: 95th percentile.
        p99: 99th percentile.
        runs: How many calls.
    """

    mean: float
    sd: float
    min: float
    median: float
    p95: float
    p99: float
    runs: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Stage:
        """Of the calls' seconds; at least one."""
        ms = np.asarray(seconds, np.float64) * 1e3
        spread = float(ms.std(ddof=1)) if len(ms) > 1 else 0.0
        median, p95, p99 = (float(value) for value in np.percentile(ms, (50, 95, 99)))
        return cls(float(ms.mean()), spread, float(ms.min()), median, p95, p99, len(ms))


@dataclass(frozen=True)
class BenchRow:
    """One engine at one batch size.

    Attributes:
        engine: "onnx", "trt" or "torch".
        device: "cpu" or "cuda:N".
        precision: "fp32", "fp16" or "int8".
        batch: Clips a call of encode and match; decode and preprocess are of one clip.
        milliseconds: By stage.
        clips_per_second: Encoded, over all timed calls.
        min_cosine: Least cosine of a frame feature to the reference's.
        max_error: Largest difference of a feature.
        reference: What the features were compared with.
    """

    engine: str
    device: str
    precision: str
    batch: int
    milliseconds: dict[str, Stage]
    clips_per_second: float
    min_cosine: float
    max_error: float
    reference: str


@dataclass(frozen=True)
class BenchResult:
    """All rows of one model on one machine.

    Attributes:
        model: Its name.
        clip: What was decoded.
        system: Processor, power mode, versions.
        peak_mb: Most memory that this process has held at once, all of `rows` and the reference
            together; a GPU's own memory is not in it.
        rows: Engines and precisions by batch sizes.
    """

    model: str
    clip: str
    system: dict[str, str]
    peak_mb: int
    rows: tuple[BenchRow, ...]

    def to_json(self) -> list[dict[str, Any]]:
        """The objects of `mafsar bench --json`, one a row."""
        shared = {
            "schema": SCHEMA,
            "model": self.model,
            "clip": self.clip,
            "peak_mb": self.peak_mb,
        }
        return [shared | asdict(row) | {"system": self.system} for row in self.rows]


def bench(
    encoders: Sequence[Encoder],
    reference: Encoder,
    *,
    batches: Sequence[int] = (1,),
    runs: int = 50,
    seconds: float | None = None,
    clip: Path | None = None,
    progress: Progress | None = None,
) -> BenchResult:
    """Times decode, pre-process, encode and match apart.

    Args:
        encoders: One model on the engines and in the precisions to compare.
        reference: What their features are compared with.
        batches: Clips a call.
        runs: Timed calls of a stage, after two that are not.
        seconds: Encode for so long instead, each engine by itself, for a sustained figure.
        clip: What is decoded; None = a rendered clip of 2 s, 224 pixels.
        progress: Called with (done, total, what).

    Raises:
        InputError: A number out of range.
        VideoError: The clip cannot be decoded.
    """
    if runs < 1 or (seconds is not None and not seconds > 0) or any(size < 1 for size in batches):
        raise InputError("bench: --runs and --batch must be ≥ 1 and --seconds > 0")
    spec = reference.spec
    with tempfile.TemporaryDirectory() as folder:
        path = clip
        if path is None:
            path = render_video(class_names("test")[0], Path(folder) / "clip.mp4", seed=_FIRST_SEED)
        loading = _load_often(path, runs, spec.frames, spec.image_size)
    frames = _clips(max(max(batches), _PARITY_CLIPS), spec.frames, spec.image_size)
    distinct = _features(reference, frames[:_DISTINCT], 1)
    wanted = distinct[np.arange(len(frames)) % len(distinct)]
    against = f"{reference.engine} {reference.precision} on {reference.device}"
    rows = []
    for batch in batches:
        parities = [_parity(wanted, encoder, frames, batch) for encoder in encoders]
        timed = _time_all(encoders, frames[:batch], runs, seconds, progress)
        for encoder, parity, (encoded, matched) in zip(encoders, parities, timed, strict=True):
            rows.append(
                BenchRow(
                    engine=encoder.engine,
                    device=encoder.device,
                    precision=encoder.precision,
                    batch=batch,
                    milliseconds=loading
                    | {"encode": Stage.of(encoded), "match": Stage.of(matched)},
                    clips_per_second=batch * len(encoded) / sum(encoded),
                    min_cosine=parity.min_cosine,
                    max_error=parity.max_error,
                    reference=against,
                )
            )
    name = "rendered, 2 s, 224 px" if clip is None else str(clip)
    peak_mb = round(peak_bytes() / 1e6)
    return BenchResult(spec.name, name, system_facts(), peak_mb, tuple(rows))


def _features(encoder: Encoder, frames: Frames, batch: int) -> Float32:
    """Frame features, (clips, T, E), of calls of at most `batch` clips."""
    starts = range(0, len(frames), batch)
    parts = [encoder.encode_query(frames[start : start + batch]).frames for start in starts]
    return np.concatenate(parts)


def _parity(wanted: Float32, encoder: Encoder, frames: Frames, batch: int) -> Parity:
    """Of calls as they are timed: another batch is another kernel, or another profile."""
    count = max(batch, _PARITY_CLIPS)
    return compare(wanted[:count], _features(encoder, frames[:count], batch))


def _load_often(path: Path, runs: int, frames: int, size: int) -> dict[str, Stage]:
    loads = [load_clip(path, frames=frames, size=size) for _ in range(runs + _WARM_UP)][_WARM_UP:]
    return {
        "decode": Stage.of([clip.decode_seconds for clip in loads]),
        "preprocess": Stage.of([clip.preprocess_seconds for clip in loads]),
    }


def _clips(count: int, frames: int, size: int) -> Frames:
    names = class_names("test")
    made = [
        render_clip(names[index % len(names)], seed=_FIRST_SEED + index, frames=frames, size=size)
        for index in range(min(count, _DISTINCT))
    ]
    return np.stack([made[index % len(made)] for index in range(count)])


_Times = tuple[list[float], list[float]]


def _time_all(
    encoders: Sequence[Encoder],
    frames: Frames,
    runs: int,
    seconds: float | None,
    progress: Progress | None,
) -> list[_Times]:
    """Seconds of each encoder's calls of encode and of match, the encoders taking turns."""
    times: list[_Times] = [([], []) for _ in encoders]
    shares = sorted({runs * (k + 1) // _ROUNDS for k in range(_ROUNDS)} - {0})
    rounds = shares if seconds is None else [0]
    for number, until in enumerate(rounds):
        for index, (encoder, (encoded, matched)) in enumerate(zip(encoders, times, strict=True)):
            _time(encoder, frames, encoded, matched, until, seconds)
            if progress is not None:
                done, total = number * len(encoders) + index + 1, len(rounds) * len(encoders)
                what = f"{encoder.engine} {encoder.precision} at batch {len(frames)}"
                progress(done, total, f"timing {what}")
    return times


def _time(
    encoder: Encoder,
    frames: Frames,
    encoded: list[float],
    matched: list[float],
    until: int,
    seconds: float | None,
) -> None:
    """Adds calls until there are so many, or for so long; every engine returns when it is done."""
    for _ in range(_WARM_UP):
        features = encoder.encode_query(frames)
    prototypes = np.repeat(features.frames[:1], _WAY, axis=0)
    scoring = encoder.spec.scoring
    ends = None if seconds is None else time.perf_counter() + seconds
    while (len(encoded) < until) if ends is None else (time.perf_counter() < ends):
        began = time.perf_counter()
        features = encoder.encode_query(frames)
        encoded.append(time.perf_counter() - began)
        began = time.perf_counter()
        match_features(features.frames, prototypes, scoring)
        matched.append(time.perf_counter() - began)


def table_rows(result: BenchResult) -> list[list[str]]:
    """The result as rows of text, `TITLES` over them: decode and pre-process, which engines share,
    once, then each engine's encode, with its parity, and match."""
    rows = []
    shared = result.rows[0]
    for stage in ("decode", "preprocess"):
        rows.append(
            ["all", "cpu", "", "1", stage, *_figures(shared.milliseconds[stage]), "", "", ""]
        )
    for row in result.rows:
        name = [row.engine, row.device, row.precision, str(row.batch)]
        last = [f"{row.clips_per_second:.1f}", f"{row.min_cosine:.6f}", f"{row.max_error:.2g}"]
        rows.append([*name, "encode", *_figures(row.milliseconds["encode"]), *last])
        rows.append([*name, "match", *_figures(row.milliseconds["match"]), "", "", ""])
    return rows


TITLES = (
    "engine", "device", "precision", "batch", "stage", "mean", "sd", "min", "median", "p95", "p99",
    "clips/s", "least cosine", "largest error",
)  # fmt: skip


def _figures(stage: Stage) -> list[str]:
    numbers = (stage.mean, stage.sd, stage.min, stage.median, stage.p95, stage.p99)
    return [f"{number:.2f}" for number in numbers]


def markdown(result: BenchResult) -> str:
    """The rows as a Markdown table."""
    against = result.rows[0].reference
    how = (
        f"Milliseconds a call; parity to {against}; peak memory of the process {result.peak_mb} MB"
    )
    lines = [
        f"`{result.model}`, clip: {result.clip}. {how}.",
        "",
        f"| {' | '.join(TITLES)} |",
        f"|{'---|' * len(TITLES)}",
        *(f"| {' | '.join(row)} |" for row in table_rows(result)),
        "",
        ", ".join(f"{name} {value}" for name, value in result.system.items()),
    ]
    return "\n".join(lines) + "\n"
