"""How long does a warm `mafsar match SUPPORT QUERY` take, as a whole process?

Runs the command several times as a subprocess with the features of the support in the cache and
prints the median wall time and the peak resident memory. An import of torch fails the run: a hook
in the child refuses it.

    python benchmarks/match_warm.py SUPPORT QUERY [--model tiny] [--rounds 7]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

BLOCK_TORCH = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "open_clip"):
            raise RuntimeError(f"{name} was imported")

sys.meta_path.insert(0, Refuse())
"""


@dataclass(frozen=True)
class Run:
    """One run of the command, from start to exit."""

    wall_seconds: float
    cpu_seconds: float
    peak_megabytes: float
    output: str


def run(command: list[str], environment: dict[str, str]) -> Run:
    """Runs the command and measures the whole process."""
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        child = subprocess.Popen(command, stdout=output, stderr=errors, env=environment)
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - start
        child.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        if child.returncode != 0:
            sys.exit(f"{' '.join(command)}: exit {child.returncode}\n{errors.read()}")
        cpu = usage.ru_utime + usage.ru_stime
        return Run(seconds, cpu, usage.ru_maxrss / 1024, output.read())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("support")
    parser.add_argument("query")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    command = [
        str(Path(sys.executable).with_name("mafsar")), "match", options.support, options.query,
        "--model", options.model, "--json",
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "sitecustomize.py").write_text(BLOCK_TORCH, encoding="utf-8")
        environment = os.environ | {
            "MAFSAR_CACHE": str(Path(name) / "cache"),
            "PYTHONPATH": os.pathsep.join([name, os.environ.get("PYTHONPATH", "")]).rstrip(":"),
        }
        cold = run(command, environment)
        runs = [run(command, environment) for _ in range(options.rounds)]
    answer = json.loads(runs[-1].output.splitlines()[0])
    figures = {
        "seconds_cold": round(cold.wall_seconds, 3),
        "seconds_warm_median": round(statistics.median(one.wall_seconds for one in runs), 3),
        "seconds_warm_min": round(min(one.wall_seconds for one in runs), 3),
        "seconds_warm_max": round(max(one.wall_seconds for one in runs), 3),
        "cpu_seconds_median": round(statistics.median(one.cpu_seconds for one in runs), 3),
        "peak_megabytes": round(max(one.peak_megabytes for one in runs), 1),
        "seconds_inside": answer["seconds"],
        "label": answer["label"],
        "torch_imported": False,
    }
    if options.json:
        print(json.dumps(figures))
    else:
        for key, value in figures.items():
            print(f"{key:22} {value}")


if __name__ == "__main__":
    main()
