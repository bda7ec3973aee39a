"""Gives damaged inputs to every door of the package, each door in a process of its own.

    python tests/fuzz/run.py [DOOR …] [--share X] [--minutes N] [--write docs/reliability.md]

Every input must end in an answer or in one line, within 10 s and 1 GB. What does not is listed with
its number, `python tests/fuzz/run.py DOOR --only NUMBER` repeats it, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import select
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

SECONDS = 10.0  # one input
START_SECONDS = 120.0  # imports, and making the whole files
MOST_BYTES = 1 << 30  # more than before the first input
LONGEST_LINE = 4000
BEGIN, END = "<!-- fuzz: made by `make fuzz` -->", "<!-- fuzz: end -->"
GOOD = ("answer", "refused")
BAD = ("raised", "hung", "crashed", "memory")


@dataclass
class Result:
    """What became of the inputs of one door."""

    door: str
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[int, str, str]] = field(default_factory=list)
    longest: float = 0.0
    peak: int = 0

    @property
    def tried(self) -> int:
        return sum(self.counts.values())


def work(door: str, first: int, last: int, folder: Path) -> None:
    """The process of a door: one JSON line for each input."""
    from doors import DOORS

    from mafsar.errors import MafsarError

    out = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what libraries print is not for the parent
    use: Any = DOORS[door][0](folder)
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print("{}", file=out, flush=True)
    for number in range(first, last):
        began = time.perf_counter()
        why, counts = "", {"answer": 1}
        try:
            counts = use(number) or counts
        except MafsarError as error:
            said = str(error)
            bad = "\n" in said or len(said) > LONGEST_LINE
            counts, why = {"raised" if bad else "refused": 1}, said[:300] if bad else ""
        except Exception as error:  # noqa: BLE001 - that is what is looked for
            counts, why = {"raised": 1}, f"{type(error).__name__}: {error}"[:300]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - base
        if peak > MOST_BYTES:
            counts, why = {"memory": 1}, f"{peak >> 20} MB"
        facts = {
            "number": number, "counts": counts, "why": why, "peak": peak,
            "seconds": time.perf_counter() - began,
        }  # fmt: skip
        print(json.dumps(facts), file=out, flush=True)
        if peak > MOST_BYTES:
            return


def run(door: str, numbers: range, until: float) -> Result:
    """Runs a door's inputs; a process that hangs or dies is replaced by another one."""
    result = Result(door)
    next_number = numbers.start
    while next_number < numbers.stop and time.monotonic() < until:
        with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nothing:  # noqa: PTH123
            command = [sys.executable, __file__, "--worker", door, str(next_number)]
            command += [str(numbers.stop), folder]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=nothing, text=True)
            assert process.stdout is not None
            if not _line(process.stdout, START_SECONDS):
                process.kill()
                raise SystemExit(f"{door}: cannot be made ready; try --worker {door} 0 1 /tmp/x")
            while next_number < numbers.stop and time.monotonic() < until:
                line = _line(process.stdout, SECONDS)
                if not line:
                    hung = process.poll() is None and not _ended(process)
                    process.kill()
                    what = "hung" if hung else "crashed"
                    result.counts[what] += 1
                    result.failures.append((next_number, what, f"exit {process.wait()}"))
                    next_number += 1
                    break
                facts = json.loads(line)
                result.counts.update(facts["counts"])
                result.longest = max(result.longest, facts["seconds"])
                result.peak = max(result.peak, facts["peak"])
                if facts["why"]:
                    kind = next(iter(facts["counts"]))
                    result.failures.append((facts["number"], kind, facts["why"]))
                next_number = facts["number"] + 1
                if "memory" in facts["counts"]:
                    break
            process.kill()
            process.wait()
    return result


def _line(stream: IO[str], seconds: float) -> str:
    ready, _, _ = select.select([stream], [], [], seconds)
    return stream.readline() if ready else ""


def _ended(process: subprocess.Popen[str]) -> bool:
    try:
        process.wait(1.0)
    except subprocess.TimeoutExpired:
        return False
    return True


def table(results: list[Result]) -> str:
    """The table of docs/reliability.md; "failed" is raised, hung or crashed."""
    from doors import DOORS

    lines = [
        "| door | what is damaged | inputs | answered | refused in one line | failed | over 1 GB | longest | most memory |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for each in results:
        count = each.counts
        said = (DOORS[each.door][0].__doc__ or "").splitlines()[0].rstrip(".")
        bad = count["raised"] + count["hung"] + count["crashed"]
        lines.append(
            f"| `{each.door}` | {said} | {each.tried:,} | {count['answer']:,} | {count['refused']:,} | {bad} "
            f"| {count['memory']} | {each.longest:.1f} s | {each.peak >> 20} MB |"
        )
    total = sum((each.counts for each in results), Counter())
    bad = total["raised"] + total["hung"] + total["crashed"]
    lines.append(
        f"| all | | {sum(each.tried for each in results):,} | {total['answer']:,} | {total['refused']:,} | {bad} "
        f"| {total['memory']} | {max(each.longest for each in results):.1f} s "
        f"| {max(each.peak for each in results) >> 20} MB |"
    )
    return "\n".join(lines)


def write(path: Path, text: str) -> None:
    """Puts a table between its marks in a page."""
    page = path.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    machine = f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores"
    path.write_text(f"{before}{BEGIN}\n{text}\n\nMeasured with {machine}.\n{END}{after}", "utf-8")


def main() -> int:
    from doors import DOORS

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("doors", nargs="*", metavar="DOOR", help=", ".join(DOORS))
    parser.add_argument("--share", type=float, default=1.0, help="of each door's inputs")
    parser.add_argument("--minutes", type=float, default=20.0, help="most time for all doors")
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--only", type=int, help="one input, with its traceback")
    parser.add_argument("--write", type=Path, help="the page whose table is replaced")
    said = parser.parse_args()
    names = said.doors or list(DOORS)
    if said.only is not None:
        with tempfile.TemporaryDirectory() as folder:
            sys.stdout.write(f"{DOORS[names[0]][0](Path(folder))(said.only) or 'an answer'}\n")
        return 0
    until = time.monotonic() + 60 * said.minutes
    results = []
    for number, name in enumerate(names):
        left = (until - time.monotonic()) / (len(names) - number)
        count = max(1, round(DOORS[name][1] * said.share))
        results.append(
            run(name, range(said.first, said.first + count), time.monotonic() + 2 * left)
        )
        sys.stderr.write(f"{name}: {dict(results[-1].counts)}, {results[-1].longest:.1f} s\n")
    sys.stdout.write(f"{table(results)}\n")
    for each in results:
        for place, kind, why in each.failures:
            sys.stdout.write(f"{each.door} {place}: {kind}: {why}\n")
    if said.write is not None:
        write(said.write, table(results))
    return int(any(each.failures for each in results))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        work(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]))
    else:
        sys.exit(main())
