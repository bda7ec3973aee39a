"""How do start-up and a warm match of two installed versions of mafsar compare?

Runs the same commands of two environments in turn, each as a whole process, and prints the median
over the pairs of new ÷ old, for wall and for CPU seconds. A pair alternates which side goes first.

    python benchmarks/versions.py OLD_ENV NEW_ENV SUPPORT QUERY [--pairs 20]

OLD_ENV and NEW_ENV are virtual environments with a built mafsar each, as
`git worktree add old COMMIT; python -m venv OLD_ENV; OLD_ENV/bin/pip install ./old` makes one.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NAMES = "from mafsar import Bank, Match, enroll, evaluate, load_model"


def seconds(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Wall and CPU seconds of a process; a failed one ends the comparison."""
    began = time.perf_counter()
    with tempfile.TemporaryFile("w+") as errors:
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, env=environment)
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.perf_counter() - began
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0:
            errors.seek(0)
            sys.exit(f"{' '.join(command)}: exit {child.returncode}\n{errors.read()}")
    return wall, usage.ru_utime + usage.ru_stime


def commands(environment: Path, support: str, bank: str, query: str) -> dict[str, list[str]]:
    """What is compared, by name."""
    python, mafsar = str(environment / "bin/python"), str(environment / "bin/mafsar")
    return {
        "python -c 'import mafsar'": [python, "-c", "import mafsar"],
        "import the names of 0.1.0": [python, "-c", NAMES],
        "mafsar --version": [mafsar, "--version"],
        "mafsar match SUPPORT QUERY": [mafsar, "match", support, query],
        "mafsar match BANK QUERY": [mafsar, "match", bank, query],
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("support")
    parser.add_argument("query")
    parser.add_argument("--pairs", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"MAFSAR_CACHE": f"{folder}/cache"}
        banks = {}
        for name in ("old", "new"):  # each side reads the bank that it wrote
            side = getattr(options, name)
            banks[name] = f"{folder}/{name}.safetensors"
            command = [f"{side}/bin/mafsar", "enroll", options.support, "-o", banks[name]]
            seconds(command, environment)
        old, new = (
            commands(getattr(options, side), options.support, banks[side], options.query)
            for side in ("old", "new")
        )
        print("| command | wall, new ÷ old | CPU, new ÷ old |\n|---|---|---|")
        for name in old:
            for side in (old, new):
                seconds(side[name], environment)  # fills the caches
            ratios = []
            for pair in range(options.pairs):
                order = (old, new) if pair % 2 == 0 else (new, old)
                taken = {id(side): seconds(side[name], environment) for side in order}
                ratios.append([n / o for n, o in zip(taken[id(new)], taken[id(old)], strict=True)])
            wall, cpu = (statistics.median(column) for column in zip(*ratios, strict=True))
            print(f"| `{name}` | {wall:.3f} | {cpu:.3f} |", flush=True)


if __name__ == "__main__":
    main()
