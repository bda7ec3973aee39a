"""How many rendered clips a second: tensors and mp4 files, on a given number of processes.

    python benchmarks/render.py [--workers 2] [--clips 200] [--rounds 3] [--photos]

The processor's time a clip says what a core that others also use would do if they did not.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from mafsar.synthetic import class_names, render, render_video

Job = tuple[int, bool]


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _tensor(job: Job) -> float:
    seed, photos = job
    names = class_names()
    began = _processor_seconds()
    render(names[seed % len(names)], seed=seed, frames=8, size=112, photos=photos)
    return _processor_seconds() - began


def _mp4(job: Job) -> float:
    seed, photos = job
    names = class_names()
    began = _processor_seconds()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        name = names[seed % len(names)]
        render_video(name, path, seed=seed, seconds=1, fps=8, size=112, photos=photos)
    return _processor_seconds() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--photos", action="store_true")
    chosen = parser.parse_args()
    jobs = [(seed, chosen.photos) for seed in range(chosen.clips)]
    kinds: tuple[tuple[str, Callable[[Job], float]], ...] = (("tensor", _tensor), ("mp4", _mp4))
    rates: dict[str, list[float]] = {name: [] for name, _ in kinds}
    used: dict[str, list[float]] = {name: [] for name, _ in kinds}
    with ProcessPoolExecutor(chosen.workers, mp_context=get_context("spawn")) as pool:
        for _, work in kinds:  # surfaces are made once a process
            list(pool.map(work, jobs, chunksize=8))
        for _ in range(chosen.rounds):
            for name, work in kinds:
                started = time.perf_counter()
                seconds = list(pool.map(work, jobs, chunksize=8))
                rates[name].append(len(jobs) / (time.perf_counter() - started))
                used[name].append(1e3 * statistics.mean(seconds))
    for name, _ in kinds:
        print(
            f"{name}: {statistics.median(rates[name]):.0f} clips/s of 8x112x112 on "
            f"{chosen.workers} processes, {statistics.median(used[name]):.1f} ms of processor a clip"
        )


if __name__ == "__main__":
    main()
