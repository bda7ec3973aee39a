"""How long each stage of a match takes here, engine by engine, with the parity of what was timed."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from mafsar import __version__
from mafsar.data.synthetic import class_names, render_clip, render_video
from mafsar.errors import InputError
from mafsar.runtime.encoders import Encoder, Frames
from mafsar.runtime.encoding import Progress
from mafsar.runtime.parity import compare
from mafsar.runtime.scores import Scoring, match_features
from mafsar.video import load_clip

SCHEMA = 1
STAGES = ("decode", "preprocess", "encode", "match")
_WAY = 5
_WARM_UP = 2
_FIRST_SEED = 8_000_000
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
        rows: Engines by batch sizes.
    """

    model: str
    clip: str
    system: dict[str, str]
    rows: tuple[BenchRow, ...]

    def to_json(self) -> list[dict[str, Any]]:
        """The objects of `mafsar bench --json`, one a row."""
        shared = {"schema": SCHEMA, "model": self.model, "clip": self.clip}
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
        encoders: One model on the engines to compare.
        reference: What their features are compared with.
        batches: Clips a call.
        runs: Timed calls of a stage, after two that are not.
        seconds: Encode for so long instead, for a sustained figure.
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
    wanted = reference.encode_query(frames[:_PARITY_CLIPS]).frames
    rows = []
    total = len(encoders) * len(batches)
    for encoder in encoders:
        parity = compare(wanted, encoder.encode_query(frames[:_PARITY_CLIPS]).frames)
        for batch in batches:
            encoded, matched = _time(encoder, frames[:batch], runs, seconds)
            stages = loading | {"encode": Stage.of(encoded), "match": Stage.of(matched)}
            rows.append(
                BenchRow(
                    engine=encoder.engine,
                    device=encoder.device,
                    precision=encoder.precision,
                    batch=batch,
                    milliseconds=stages,
                    clips_per_second=batch * len(encoded) / sum(encoded),
                    min_cosine=parity.min_cosine,
                    max_error=parity.max_error,
                    reference=f"{reference.engine} {reference.precision} on {reference.device}",
                )
            )
            if progress is not None:
                progress(len(rows), total, f"timing {encoder.engine} at batch {batch}")
    name = "rendered, 2 s, 224 px" if clip is None else str(clip)
    return BenchResult(spec.name, name, system_facts(), tuple(rows))


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
        for index in range(min(count, 8))
    ]
    return np.stack([made[index % len(made)] for index in range(count)])


def _time(
    encoder: Encoder, frames: Frames, runs: int, seconds: float | None
) -> tuple[list[float], list[float]]:
    """Seconds of each call of encode and of match; every engine returns when it has finished."""
    for _ in range(_WARM_UP):
        features = encoder.encode_query(frames)
    prototypes = np.repeat(features.frames[:1], _WAY, axis=0)
    scoring = Scoring.of(encoder.spec)
    encoded: list[float] = []
    matched: list[float] = []
    ends = None if seconds is None else time.perf_counter() + seconds
    while (len(encoded) < runs) if ends is None else (time.perf_counter() < ends):
        began = time.perf_counter()
        features = encoder.encode_query(frames)
        encoded.append(time.perf_counter() - began)
        began = time.perf_counter()
        match_features(features.frames, prototypes, scoring)
        matched.append(time.perf_counter() - began)
    return encoded, matched


def system_facts() -> dict[str, str]:
    """Processor, power mode, driver and versions: what a figure depends on."""
    facts = {
        "processor": _first_line("/proc/cpuinfo", "model name") or platform.machine(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "mafsar": __version__,
    }
    board = _read("/proc/device-tree/model")
    governor = _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    driver = _first_line("/proc/driver/nvidia/version", "NVRM version")
    found = {"board": board, "governor": governor, "driver": driver, "power_mode": _power_mode()}
    facts |= {name: value for name, value in found.items() if value}
    for package in ("onnxruntime-gpu", "onnxruntime", "tensorrt", "tensorrt-rtx", "torch"):
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            continue
    return facts


def _power_mode() -> str:
    """A Jetson's, as `MAXN`."""
    tool = shutil.which("nvpmodel")
    if tool is None:
        return ""
    try:
        done = subprocess.run([tool, "-q"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = [line for line in done.stdout.splitlines() if "Power Mode" in line]
    return lines[0].partition(":")[2].strip() if lines else ""


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip("\0\n ")
    except OSError:
        return ""


def _first_line(path: str, key: str) -> str:
    lines = (line for line in _read(path).splitlines() if line.startswith(key))
    return next(lines, "").partition(":")[2].strip()


def markdown(result: BenchResult) -> str:
    """The rows as a Markdown table, milliseconds as mean ± sd (median, p95)."""

    def cell(stage: Stage) -> str:
        return f"{stage.mean:.2f} ± {stage.sd:.2f} ({stage.median:.2f}, {stage.p95:.2f})"

    titles = ["engine", "device", "precision", "batch", *(f"{name}, ms" for name in STAGES),
              "clips/s", "least cosine", "largest error"]  # fmt: skip
    lines = [
        f"`{result.model}`, clip: {result.clip}. Milliseconds a call: mean ± sd (median, p95).",
        "",
        f"| {' | '.join(titles)} |",
        f"|{'---|' * len(titles)}",
    ]
    for row in result.rows:
        cells = [row.engine, row.device, row.precision, str(row.batch)]
        cells += [cell(row.milliseconds[name]) for name in STAGES]
        cells += [f"{row.clips_per_second:.1f}", f"{row.min_cosine:.6f}", f"{row.max_error:.2g}"]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", ", ".join(f"{name} {value}" for name, value in result.system.items())]
    return "\n".join(lines) + "\n"
