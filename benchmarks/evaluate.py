"""How long do 10 000 episodes take when every clip's features are in the cache?

Makes 1 000 clips in name only (tiny files, never decoded), fills a feature cache with random
features of a CLIP's size for both branches, and runs `mafsar.evaluate` as a user would: hashing,
reading the cache, drawing the episodes and matching them are all in the figure. Also prints what
the cache holds a clip, and so for 10 000 clips; all entries have one size.

    python benchmarks/evaluate.py [--clips 1000] [--episodes 10000] [--embed-dim 512] [--threads 2]
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mafsar import kernels
from mafsar.choices import Scoring
from mafsar.errors import VideoError
from mafsar.runtime.cache.features import FeatureCache, clip_key
from mafsar.runtime.encoder import Features, Float32, Frames, ModelSpec
from mafsar.runtime.evaluation.evaluate import EvalResult, evaluate
from mafsar.video import Geometry, content_sha256

CLASSES, FRAMES = 20, 8


class CachedOnly:
    """An encoder that must never be asked for a clip."""

    engine, device, precision, choice = "onnx", "cpu", "fp32", "none: everything is cached"

    def __init__(self, embed_dim: int) -> None:
        self.spec = ModelSpec(
            name="random", backbone="random", frames=FRAMES, image_size=224, embed_dim=embed_dim,
            adapters="trained", text=True, prompts=("a photo of {}",), known_words=None,
            scoring=Scoring(),
            weights_sha256="0" * 64, parameters_total=0, parameters_tunable=0,
        )  # fmt: skip

    def encode_query(self, frames: Frames) -> Features:
        raise VideoError(f"not cached: {frames.shape}")

    def encode_support(self, frames: Frames, text: Float32 | None) -> Features:
        raise VideoError(f"not cached: {frames.shape}, {text is not None}")

    def encode_text(self, texts: Sequence[str]) -> Float32:
        seeds = [sum(text.encode()) for text in texts]
        rows = [np.random.default_rng(s).normal(size=self.spec.embed_dim) for s in seeds]
        return np.array(rows, np.float32)


def fill(folder: Path, cache: FeatureCache, encoder: CachedOnly, clips: int) -> None:
    """Writes the clips' names and their features in both branches."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(CLASSES, FRAMES, encoder.spec.embed_dim))
    for i in range(clips):
        label = f"class {i % CLASSES}"
        path = folder / label / f"{i}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"clip {i}".encode())
        frames = (centres[i % CLASSES] + 3 * rng.normal(size=centres[0].shape)).astype(np.float32)
        for branch in ("query", "support"):
            key = clip_key(
                encoder.spec, branch=branch, precision="fp32", files_sha256=None,
                geometry=Geometry(),
                content_sha256=content_sha256(path), start=None, end=None,
                text=label if branch == "support" else None,
            )  # fmt: skip
            tensors = {"frames": frames, "duration_seconds": np.array([2.0])}
            if branch == "query":
                tensors["pooled"] = frames.mean(axis=0)
            cache.put(key, tensors)


def main() -> None:
    """Measure, print, and keep with --write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=1000)
    parser.add_argument("--episodes", type=int, default=10_000)
    parser.add_argument("--embed-dim", type=int, default=512)
    parser.add_argument("--shot", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--views", type=float, default=0.5, help="weight to compare with raw")
    parser.add_argument("--write", action="store_true", help="keep the figures in results/")
    options = parser.parse_args()
    kernels.set_num_threads(options.threads)
    encoder = CachedOnly(options.embed_dim)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        cache = FeatureCache(root / "cache")
        fill(root / "data", cache, encoder, options.clips)
        stored = cache.info()
        disk = sum(path.stat().st_blocks * 512 for path in cache.folder.glob("??/*"))
        totals, matches, by_views = [], [], []
        result: EvalResult | None = None
        for _ in range(options.rounds):
            start = time.perf_counter()
            result = evaluate(
                encoder, root / "data", episodes=options.episodes, shot=options.shot, cache=cache
            )
            totals.append(time.perf_counter() - start)
            matches.append(result.seconds_match)
            viewed = evaluate(
                encoder, root / "data", episodes=options.episodes, shot=options.shot, cache=cache,
                views=options.views,
            )  # fmt: skip
            by_views.append(viewed.seconds_match)
    assert result is not None
    assert result.clips_encoded == 0
    figures = {
        "episodes": options.episodes,
        "clips": options.clips,
        "embed_dim": options.embed_dim,
        "shot": options.shot,
        "threads": options.threads,
        "backend": kernels.status()[0].backend,
        "accuracy": result.accuracy,
        "seconds_total_median": statistics.median(totals),
        "seconds_match_median": statistics.median(matches),
        "seconds_match_by_views_median": statistics.median(by_views),
        "views_over_raw": statistics.median(by_views) / statistics.median(matches),
        "bytes_a_clip": stored.size_bytes / options.clips,
        "megabytes_10000_clips": stored.size_bytes / options.clips * 10_000 / 1e6,
        "megabytes_10000_clips_on_disk": disk / options.clips * 10_000 / 1e6,
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
    }
    for key, value in figures.items():
        print(f"{key:32} {value:.2f}" if isinstance(value, float) else f"{key:32} {value}")
    if options.write:
        file = Path(__file__).parent / "results" / "evaluate.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
