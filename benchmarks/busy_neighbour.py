"""What a CPU-bound neighbour on every core costs training, against its fair share of the processor.

    python benchmarks/busy_neighbour.py [--steps 2] [--rounds 3] [--model tiny] [--write]

Each measurement is a process of its own that trains on rendered clips, alone or beside one spinning
process per core. The neighbours have the same priority, so each core is shared by halves: the fair
share of a run is the time in which half of the cores give it the processor time that it takes
alone, and at least the time that it takes alone. Two sides take turns: *episodes*, one episode per
thread (what `mafsar train` does for small networks), and *operations*, every operation divided over
the threads (what it did before).

The target is ≤ 1.5 × the fair share.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

TARGET = 1.5
SIDES = ("episodes", "operations")
CORES = len(os.sched_getaffinity(0))


def train(data: Path, model: str, side: str, steps: int, workers: int) -> dict[str, float]:
    """Wall and processor seconds an episode, after one step to warm up."""
    from mafsar.training.config import build_config
    from mafsar.training.processes import Processes
    from mafsar.training.trainer import Trainer, open_clips

    config = build_config(None, {
        "model.name": model, "data.folder": str(data), "data.split": str(data / "split.json"),
        "data.workers": workers, "alpha": 0.5, "query": 1, "val.every": 0, "episodes": 8 * (steps + 1),
    })  # fmt: skip
    trainer = Trainer(config, open_clips(config), Processes(0, 1, "cpu"))
    if side == "operations":
        trainer.learner.at_once = 1
    batches = iter(trainer.episodes_from(0))
    trainer.step(0, batches)
    wall, used = time.perf_counter(), processor_seconds()
    for step in range(1, steps + 1):
        trainer.step(step, batches)
    episodes = 8 * steps
    return {
        "wall": (time.perf_counter() - wall) / episodes,
        "processor": (processor_seconds() - used) / episodes,
    }


def processor_seconds() -> float:
    """Of this process and of the workers that load clips, started by it or by a server of its own."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    ticks = os.sysconf("SC_CLK_TCK")
    parents: dict[int, int] = {}
    used: dict[int, float] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            process = int(stat.parent.name)
            parents[process] = int(fields[1])
            used[process] = (int(fields[11]) + int(fields[12])) / ticks
    below = {os.getpid()}
    while more := {process for process, parent in parents.items() if parent in below} - below:
        below |= more
    return own.ru_utime + own.ru_stime + sum(used[process] for process in below - {os.getpid()})


def spin(core: int) -> None:
    """Keeps one core busy until it is ended."""
    os.sched_setaffinity(0, {core})
    parent = os.getppid()
    while os.getppid() == parent:
        for _ in range(1_000_000):
            pass


@contextlib.contextmanager
def neighbours() -> Iterator[None]:
    """One spinning process on each core that this process may use."""
    line = [sys.executable, __file__, "--spin"]
    started = [subprocess.Popen([*line, str(core)]) for core in sorted(os.sched_getaffinity(0))]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def measure(arguments: argparse.Namespace, data: Path, side: str, busy: bool) -> dict[str, float]:
    """`train` in a process of its own, alone or beside neighbours."""
    line = [
        sys.executable, __file__, "--side", side, "--data", str(data),
        "--model", arguments.model, "--steps", str(arguments.steps),
        "--workers", str(arguments.workers),
    ]  # fmt: skip
    with neighbours() if busy else contextlib.nullcontext():
        done = subprocess.run(line, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def cpu_name() -> str:
    """The processor's name, or its kind where the system does not say it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def render(folder: Path) -> Path:
    """Fifteen classes of four clips."""
    from mafsar.synthetic.sets.dataset import write_dataset
    from mafsar.synthetic.sets.recipe import Recipe

    folder.mkdir()
    for _ in write_dataset(folder, Recipe(classes=15, clips=4), workers=1):
        pass
    return folder


def main() -> None:
    """Prints the table, and stores it if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--steps", type=int, default=2, help="measured steps of 8 episodes")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2, help="data.workers")
    parser.add_argument("--sides", default=",".join(SIDES))
    parser.add_argument("--write", action="store_true", help="store in benchmarks/results/")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--spin", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.spin is not None:
        spin(arguments.spin)
        return
    if arguments.side:
        words = arguments.data, arguments.model, arguments.side, arguments.steps, arguments.workers
        print(json.dumps(train(*words)))
        return
    sides = arguments.sides.split(",")
    found: dict[tuple[str, bool], list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        data = render(Path(folder) / "clips")
        for number in range(arguments.rounds):
            for side in sides if number % 2 else sides[::-1]:
                for busy in (False, True):
                    row = measure(arguments, data, side, busy)
                    found.setdefault((side, busy), []).append(row)
                    load = os.getloadavg()[0]
                    print(
                        f"{side} {'busy' if busy else 'alone'}: {row} load {load:.1f}", flush=True
                    )
    lines = [
        f"{cpu_name()}, {CORES} cores, `{arguments.model}`, medians of {arguments.rounds}",
        "",
        "| a thread takes | alone | processor | fair share | beside neighbours | × fair share | target |",
        "|---|---|---|---|---|---|---|",
    ]
    for side in sides:
        alone, busy = ({
            key: statistics.median(row[key] for row in found[side, state])
            for key in ("wall", "processor")
        } for state in (False, True))  # fmt: skip
        fair = max(alone["wall"], alone["processor"] / (CORES / 2))
        ratio = busy["wall"] / fair
        verdict = "holds" if ratio <= TARGET else "missed"
        lines.append(
            f"| {side} | {alone['wall']:.3f} s | {alone['processor']:.3f} s | {fair:.3f} s | "
            f"{busy['wall']:.3f} s | {ratio:.2f} | {verdict} |"
        )
    report = "\n".join(lines)
    print(report)
    if arguments.write:
        out = Path(__file__).parent / "results" / "busy_neighbour.md"
        out.parent.mkdir(exist_ok=True)
        out.write_text(f"# Training beside busy neighbours\n\n{report}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
