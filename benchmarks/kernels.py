"""What do the native kernels win: in whole programs, and op by op?

The first table is whole programs with kernels on and off: a training step of a small network, 10 000
episodes of matching, one match. The rest is the temporal adapter (T = 8, D = 768, 12 heads, attention
frozen, gradients for tokens and adapter) and matching of 8 × 8 frames (E = 512), forward and
backward, against eager torch, `torch.compile`, CUDA graphs, the twins and the field's double loop.

Sides are compared with each other before they are timed, then alternated over several rounds, on
inputs that rotate. On a GPU a figure is the median of device events around a call, on a CPU the
median over rounds of the fastest call. Bytes and operations are counted from the sizes and set
against a copy and a matrix product measured in the same run.

    python benchmarks/kernels.py [--rounds 5] [--threads 2] [--seconds 0.3] [--compile] [--write]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from pathlib import Path

import torch
from kernel_sides import (
    DEVICE,
    GPU,
    Side,
    adapter_counts,
    adapter_sides,
    match_counts,
    match_sides,
    whole_sides,
)

from mafsar import kernels

CLIPS = (1, 10, 40)
PAIRS = ((25, 5), (25, 25), (1, 1000), (100, 1000))  # queries × classes
RESULTS = Path(__file__).parent / "results"


# --- timing ---------------------------------------------------------------------------------------


def time_of(side: Side, seconds: float) -> float:
    """Seconds of one call, the inputs rotating: see the top of this file."""
    side(0)
    times: list[float] = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        number = len(times)
        if GPU:
            start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            side(number)
            stop.record()
            stop.synchronize()
            times.append(start.elapsed_time(stop) * 1e-3)
        else:
            begin = time.perf_counter()
            side(number)
            times.append(time.perf_counter() - begin)
    return statistics.median(times) if GPU else min(times)


def alternate(sides: dict[str, Side], rounds: int, seconds: float) -> dict[str, float]:
    """Every side's time, all of them round by round."""
    for side in sides.values():
        for number in range(3 if GPU else 1):
            side(number)
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            times[name].append(time_of(side, seconds))
    return {name: statistics.median(values) for name, values in times.items()}


def ceilings() -> dict[str, float]:
    """Copy bandwidth (bytes read and written a second) and matrix rate (operations a second)."""
    size = 1 << (30 if GPU else 26)
    source = torch.zeros(size // 4, device=DEVICE)
    target = torch.empty_like(source)
    n = 4096 if GPU else 1024
    a = torch.randn(n, n, device=DEVICE, dtype=torch.float16 if GPU else torch.float32)
    copy = time_of(lambda _: target.copy_(source), 0.5)
    product = time_of(lambda _: a @ a, 0.5)
    return {"copy_bytes_per_second": 2 * size / copy, "operations_per_second": 2 * n**3 / product}


# --- the report -----------------------------------------------------------------------------------


def machine(ceiling: dict[str, float]) -> dict[str, object]:
    """What the figures were measured on."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    return {
        "device": torch.cuda.get_device_name() if GPU else model,
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "kernels": kernels.status()[-1].detail,
        "torch": torch.__version__,
        "torch_threads": torch.get_num_threads(),
        "load_average": round(os.getloadavg()[0], 2),
        "copy GB/s": round(ceiling["copy_bytes_per_second"] / 1e9, 1),
        "matrix GFLOP/s": round(ceiling["operations_per_second"] / 1e9),
    }


class Report:
    """The tables, printed line by line and kept after each, so that a run cut short leaves them."""

    def __init__(self, ceiling: dict[str, float], dtype: torch.dtype, *, keep: bool) -> None:
        self.seconds: dict[str, dict[str, float]] = {}
        self._ceiling, self._dtype, self._keep = ceiling, dtype, keep
        self._lines: list[str] = []
        self._facts = machine(ceiling)
        facts = "\n".join(f"- {key}: {value}" for key, value in self._facts.items())
        self.say(f"# Kernels, {dtype}\n\n{facts}\n")

    def say(self, *lines: str) -> None:
        """Print lines of Markdown."""
        print(*lines, sep="\n", flush=True)
        self._lines += lines
        self.end()

    def row(self, name: str, times: dict[str, float], counts: tuple[float, float]) -> None:
        """A line for each side, with what it moves and computes and the share of the machine's."""
        moved, operations = counts
        self.seconds[name] = times
        base = next(iter(times.values()))
        for side, seconds in times.items():
            self.say(
                f"| {name} | {side} | {seconds * 1e6:.0f} | {base / seconds:.2f}× "
                f"| {moved / 1e6:.1f} | {operations / 1e9:.2f} "
                f"| {moved / seconds / self._ceiling['copy_bytes_per_second']:.0%} "
                f"| {operations / seconds / self._ceiling['operations_per_second']:.0%} |"
            )

    def end(self) -> None:
        """Write what there is."""
        if not self._keep:
            return
        RESULTS.mkdir(exist_ok=True)
        letters = "".join(c if c.isalnum() else " " for c in str(self._facts["device"]))
        stem = RESULTS / f"kernels-{'-'.join(letters.lower().split())}"
        stem.with_suffix(".md").write_text("\n".join(self._lines) + "\n", encoding="utf-8")
        document = {"machine": self._facts, "dtype": str(self._dtype), "seconds": self.seconds}
        text = json.dumps(document, indent=1) + "\n"
        stem.with_suffix(".json").write_text(text, encoding="utf-8")


def main() -> None:
    """Measure, print the tables, and keep them with --write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.3, help="of calls, a side and round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true", help="torch.compile too (minutes)")
    parser.add_argument("--write", action="store_true", help=f"keep the tables in {RESULTS.name}/")
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    kernels.set_num_threads(options.threads)
    ceiling = ceilings()
    dtype = torch.float16 if GPU else torch.float32
    report = Report(ceiling, dtype, keep=options.write)
    report.say("| program | kernels on, ms | off, ms | gain |", "|---|---|---|---|")
    for name, (on, off) in whole_sides("vit-b-32" if GPU else "tiny").items():
        times = alternate({"on": on, "off": off}, options.rounds, options.seconds)
        report.seconds[name] = times
        gain = times["off"] / times["on"] - 1.0
        report.say(
            f"| {name} | {times['on'] * 1e3:.2f} | {times['off'] * 1e3:.2f} "
            f"| {gain:+.1%}{'' if gain >= 0.05 else ' (under 5 %)'} |"
        )
    report.say("", "| | side | µs | × first | MB | GFLOP | of copy | of products |")
    report.say("|---|---|---|---|---|---|---|---|")
    # Before the adapter, whose sides are compiled: a run cut short has these at least.
    for queries, classes in PAIRS if GPU else PAIRS[:3]:
        name = f"otam_match {queries} × {classes}, forward + backward"
        times = alternate(match_sides(queries, classes), options.rounds, options.seconds)
        report.row(name, times, match_counts(queries, classes))
    for clips in CLIPS:
        # Compiling takes most of the time; nothing is asked of it at 40.
        compile_too = (options.compile or GPU) and clips <= 10
        for backward in (False, True):
            name = f"temporal_adapter B = {clips}, forward{' + backward' if backward else ''}"
            sides = adapter_sides(clips, dtype, backward, compile_too)
            counts = adapter_counts(clips, dtype.itemsize, backward)
            report.row(name, alternate(sides, options.rounds, options.seconds), counts)
    report.end()


if __name__ == "__main__":
    main()
