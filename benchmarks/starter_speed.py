"""How long does the starter take for a clip, pixels to features, beside ViT-B/32 in the same run?

    mafsar export vit-b-32:random --no-verify -o b32.mafsar
    python benchmarks/starter_speed.py b32.mafsar [OTHER.mafsar:int8 …] [--threads 2] [--rounds 12]

The sides take turns; medians. A bundle is `FOLDER` or `FOLDER:PRECISION`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np

import mafsar
from mafsar.model.names import SHIPPED_BUNDLE
from mafsar.runtime.cache.speeds import processor_name


def main() -> None:
    """Print milliseconds of each side, and how much of it the starter takes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundles", nargs="+", help="FOLDER or FOLDER:PRECISION")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=12)
    chosen = parser.parse_args()
    sides = [str(SHIPPED_BUNDLE), *chosen.bundles]
    encoders = []
    for side in sides:
        folder, _, precision = side.partition(":")
        encoders.append(
            mafsar.load_model(
                folder, engine="onnx", device="cpu", precision=precision or "fp32",
                threads=chosen.threads,
            )
        )  # fmt: skip
    times: list[list[float]] = [[] for _ in sides]
    for turn in range(chosen.rounds + 1):
        for encoder, spent in zip(encoders, times, strict=True):
            spec = encoder.spec
            shape = (1, spec.frames, spec.image_size, spec.image_size, 3)
            frames = np.random.default_rng(turn).integers(0, 256, shape, dtype=np.uint8)
            began = time.perf_counter()
            encoder.encode_query(frames)
            if turn:  # the first is a warm-up
                spent.append(time.perf_counter() - began)
    print(f"{processor_name()}, {chosen.threads} threads, {chosen.rounds} rounds")
    for side, spent in zip(sides, times, strict=True):
        ratio = statistics.median(a / b for a, b in zip(times[0], spent, strict=True))
        print(
            f"{Path(side).name}: {1e3 * statistics.median(spent):.1f} ms; tiny is {ratio:.3f} of it"
        )


if __name__ == "__main__":
    main()
