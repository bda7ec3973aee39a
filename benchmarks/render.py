"""How many rendered clips a second: tensors and mp4 files, on a given number of processes.

python benchmarks/render.py [--workers 2] [--clips 200] [--rounds 3] [--photos]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from mafsar.data.synthetic import class_names, render, render_video


def _tensor(job: tuple[int, bool]) -> None:
    seed, photos = job
    names = class_names()
    render(names[seed % len(names)], seed=seed, frames=8, size=112, photos=photos)


def _video(job: tuple[int, bool]) -> None:
    seed, photos = job
    names = class_names()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        render_video(
            names[seed % len(names)], path, seed=seed, seconds=1, fps=8, size=112, photos=photos
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--photos", action="store_true")
    chosen = parser.parse_args()
    jobs = [(seed, chosen.photos) for seed in range(chosen.clips)]
    rates: dict[str, list[float]] = {"tensor": [], "mp4": []}
    with ProcessPoolExecutor(chosen.workers, mp_context=get_context("spawn")) as pool:
        for job in (_tensor, _video):  # surfaces are made once a process
            list(pool.map(job, jobs))
        for _ in range(chosen.rounds):
            for name, job in (("tensor", _tensor), ("mp4", _video)):
                started = time.perf_counter()
                list(pool.map(job, jobs, chunksize=8))
                rates[name].append(len(jobs) / (time.perf_counter() - started))
    for name, rate in rates.items():
        print(
            f"{name}: {statistics.median(rate):.0f} clips/s of 8x112x112, {chosen.workers} processes"
        )


if __name__ == "__main__":
    main()
