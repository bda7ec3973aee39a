"""Times each stage of a match, engine by engine, and compares the engines' features."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mafsar.choices import Progress
from mafsar.errors import InputError, option, shown
from mafsar.runtime.cache.speeds import record_speeds
from mafsar.runtime.encoder import Encoder, Float32, Frames
from mafsar.runtime.engines.onnx_encoder import available_threads
from mafsar.runtime.engines.parity import Parity, compare
from mafsar.runtime.machine.system import peak_bytes, system_facts
from mafsar.runtime.scoring.scores import match_features
from mafsar.synthetic import class_names, render_clip, render_video
from mafsar.video import load_clip

SCHEMA = 1
STAGES = ("decode", "preprocess", "encode", "match")
_WAY = 5
_WARM_UP = 2
_ROUNDS = 5  # engines take turns, so that a machine that slows down affects all of them
_FIRST_SEED = 8_000_000
_DISTINCT = 8  # different clips; a larger batch repeats them
_PARITY_CLIPS = 4


@dataclass(frozen=True)
class Stage:
    """Time per call of one stage, milliseconds.

    Attributes:
        mean: Mean.
        sd: Standard deviation.
        min: Minimum.
        median: Median.
        p95: 95th percentile.
        p99: 99th percentile.
        runs: Number of calls.
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
        """Statistics of calls, from the seconds of each; at least one."""
        ms = np.asarray(seconds, np.float64) * 1e3
        spread = float(ms.std(ddof=1)) if len(ms) > 1 else 0.0
        median, p95, p99 = (float(value) for value in np.percentile(ms, (50, 95, 99)))
        return cls(float(ms.mean()), spread, float(ms.min()), median, p95, p99, len(ms))


@dataclass(frozen=True)
class BenchRow:
    """One engine at one batch size.

    Attributes:
        engine: "onnx", "openvino", "trt" or "torch".
        device: "cpu" or "cuda:N".
        precision: "fp32", "fp16" or "int8".
        batch: Clips per call of encode and match; decode and preprocess take one clip.
        milliseconds: Times by stage.
        clips_per_second: Encoded clips per second, over all timed calls.
        min_cosine: Smallest cosine between a frame feature and the reference's.
        max_error: Largest difference from the reference.
        reference: The encoder that features were compared with.
        gpu_mb: Peak GPU memory of the engine so far (weights, contexts and buffers), where it says
            so; None otherwise.
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
    gpu_mb: int | None = None


@dataclass(frozen=True)
class BenchResult:
    """All rows of one model on one machine.

    Attributes:
        model: Name of the model.
        clip: The clip that was decoded.
        system: Processor, power mode, versions.
        peak_mb: Peak memory of this process, for all rows and the reference together, without GPU
            memory.
        rows: One for each engine, precision and batch size.
    """

    model: str
    clip: str
    system: dict[str, str]
    peak_mb: int
    rows: tuple[BenchRow, ...]

    def to_json(self) -> list[dict[str, Any]]:
        """The JSON objects that `mafsar bench` prints, one per row."""
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
    """Times decode, pre-process, encode and match separately.

    Args:
        encoders: One model, on the engines and in the precisions to compare.
        reference: The encoder to compare their features with.
        batches: Batch sizes, clips per call.
        runs: Timed calls per stage, after two calls to warm up.
        seconds: If given, encode for this long instead of `runs` times, one engine after another,
            for sustained figures.
        clip: The clip to decode; None = a rendered clip of 2 s, 224 pixels.
        progress: Called with (done, total, what).

    Raises:
        InputError: A number is out of range.
        VideoError: The clip cannot be decoded.
    """
    if runs < 1:
        raise InputError(option("runs"), f" must be ≥ 1, got {runs}")
    if not batches or min(batches) < 1:
        raise InputError(option("batch"), f" must be sizes ≥ 1, got {shown(list(batches))}")
    if seconds is not None and not seconds > 0:
        raise InputError(option("seconds"), f" must be > 0, got {seconds:g}")
    spec = reference.spec
    with tempfile.TemporaryDirectory() as folder:
        path = clip
        if path is None:
            path = render_video(class_names("test")[0], Path(folder) / "clip.mp4", seed=_FIRST_SEED)
        loading = _load_often(path, runs, spec.frames, spec.image_size)
    frames = _clips(max(max(batches), _PARITY_CLIPS), spec.frames, spec.image_size)
    distinct = _features(reference, frames[:_DISTINCT], 1)
    expected = distinct[np.arange(len(frames)) % len(distinct)]
    against = f"{reference.engine} {reference.precision} on {reference.device}"
    rows = []
    for batch in batches:
        parities = [_parity(expected, encoder, frames, batch) for encoder in encoders]
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
                    gpu_mb=_gpu_mb(encoder),
                )
            )
    _keep_speeds(spec.weights_sha256, rows)
    name = "rendered, 2 s, 224 px" if clip is None else str(clip)
    peak_mb = round(peak_bytes() / 1e6)
    return BenchResult(spec.name, name, system_facts(), peak_mb, tuple(rows))


def _gpu_mb(encoder: Encoder) -> int | None:
    """Peak GPU memory of an engine that counts it."""
    found = getattr(encoder, "device_bytes", None)
    return None if found is None else round(int(found) / 1e6)


def _keep_speeds(weights_sha256: str, rows: Sequence[BenchRow]) -> None:
    """Keeps the times of one clip on the CPU, from which `engine="auto"` chooses an engine."""
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        if (row.device, row.batch) == ("cpu", 1):
            found.setdefault(row.precision, {})[row.engine] = row.milliseconds["encode"].median
    for precision, speeds in found.items():
        if len(speeds) > 1:  # one engine alone compares with nothing
            record_speeds(weights_sha256, precision, available_threads(), speeds)


def _features(encoder: Encoder, frames: Frames, batch: int) -> Float32:
    """Frame features, (clips, T, E), encoded `batch` clips at a time."""
    starts = range(0, len(frames), batch)
    parts = [encoder.encode_query(frames[start : start + batch]).frames for start in starts]
    return np.concatenate(parts)


def _parity(expected: Float32, encoder: Encoder, frames: Frames, batch: int) -> Parity:
    """Parity at the timed batch size, because another size may run other kernels."""
    count = max(batch, _PARITY_CLIPS)
    return compare(expected[:count], _features(encoder, frames[:count], batch))


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
    """Seconds of each call of encode and match, for each encoder; the encoders take turns."""
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
    """Times calls until there are `until`, or for `seconds`. An engine's call returns when done."""
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
    """The result as a table of text, with the columns of `TITLES`.

    Decode and pre-process, which all engines share, come first; then encode, with its parity, and
    match of each engine.
    """
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


def memory_line(result: BenchResult) -> str:
    """Peak memory of the process and, where engines count it, of the GPU, for people."""
    line = f"{result.peak_mb} MB"
    on_gpu = {
        f"{row.engine} {row.precision}": row.gpu_mb for row in result.rows if row.gpu_mb is not None
    }
    return line + "".join(f", {name} on the GPU {size} MB" for name, size in on_gpu.items())


TITLES = (
    "engine", "device", "precision", "batch", "stage", "mean", "sd", "min", "median", "p95", "p99",
    "clips/s", "smallest cosine", "largest error",
)  # fmt: skip


def _figures(stage: Stage) -> list[str]:
    numbers = (stage.mean, stage.sd, stage.min, stage.median, stage.p95, stage.p99)
    return [f"{number:.2f}" for number in numbers]


def markdown(result: BenchResult) -> str:
    """The result as a Markdown table."""
    against = result.rows[0].reference
    how = (
        f"Milliseconds a call; parity to {against}; peak memory of the process "
        f"{memory_line(result)}"
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
