"""Gives damaged inputs to every door of the package, each door in a process of its own.

    python tests/fuzz/run.py [DOOR …] [--share X] [--minutes N] [--guided S] [--kept FILE]
                             [--write docs/reliability.md]

Every input must end in an answer or in one line, within 10 s and 1 GB. What does not is listed with
its number, `python tests/fuzz/run.py DOOR --only NUMBER` repeats it, and the exit code is 1. Then
the targets of `guided.py` get some seconds each, where the host has their fuzzers.
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
_BUSY = 6  # times as long by the clock, where the processor was not its own
START_SECONDS = 120.0  # imports, and making the whole files
MOST_BYTES = 1 << 30  # more than before the first input
LONGEST_LINE = 4000
BEGIN, END = "<!-- fuzz: made by `make fuzz` -->", "<!-- fuzz: end -->"
GOOD = ("answer", "refused")
BAD = ("raised", "hung", "crashed", "memory")


@dataclass
class Result:
    """What became of the inputs of one door; `what` they were."""

    door: str
    what: str
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
    from doors import DOORS

    result = Result(door, _first_line(DOORS[door][0]))
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
                line = _answer(process, process.stdout)
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


def _answer(process: subprocess.Popen[str], stream: IO[str]) -> str:
    """What became of an input; where other programs have the processor, it gets more time."""
    before, until = _processor_seconds(process), time.monotonic() + _BUSY * SECONDS
    line = _line(stream, SECONDS)
    while not line and process.poll() is None and time.monotonic() < until:
        if _processor_seconds(process) - before > SECONDS / 2:
            break
        line = _line(stream, 1.0)
    return line


def _processor_seconds(process: subprocess.Popen[str]) -> float:
    try:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _line(stream: IO[str], seconds: float) -> str:
    ready, _, _ = select.select([stream], [], [], seconds)
    return stream.readline() if ready else ""


def _ended(process: subprocess.Popen[str]) -> bool:
    try:
        process.wait(1.0)
    except subprocess.TimeoutExpired:
        return False
    return True


def run_guided(target: str, seconds: int) -> Result | str:
    """Runs a target of `guided.py`; what the host lacks for it, if it lacks something."""
    import guided

    lack = guided.missing(target)
    if lack:
        return lack
    found = guided.run(target, guided.RUNS, seconds)
    made = guided.NATIVE_WHAT if target == guided.NATIVE else _first_line(guided.PARSERS[target])
    kind = "libFuzzer" if target == guided.NATIVE else "atheris"
    result = Result(f"{kind}: {target}", made, longest=found["longest"], peak=found["peak"])
    result.counts.update(answer=found["answer"], refused=found["refused"])
    for what, why in found["failures"]:
        result.counts[what] += 1
        result.failures.append((0, what, why))
    return result


def _first_line(function: Any) -> str:
    return (function.__doc__ or "").splitlines()[0].rstrip(".")


def table(results: list[Result]) -> str:
    """The table of docs/reliability.md; "failed" is raised, hung or crashed."""
    lines = [
        "| door | what is damaged | inputs | answered | refused in one line | failed | over 1 GB | longest | most memory |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for each in results:
        count = each.counts
        bad = count["raised"] + count["hung"] + count["crashed"]
        lines.append(
            f"| `{each.door}` | {each.what} | {each.tried:,} | {count['answer']:,} | {count['refused']:,} | {bad} "
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


def write(path: Path, text: str, lacks: list[str]) -> None:
    """Puts a table between its marks in a page."""
    page = path.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    machine = f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores"
    said = " ".join(f"Not run: {lack}." for lack in dict.fromkeys(lacks))
    measured = f"Measured with {machine}. {said}".rstrip()
    path.write_text(f"{before}{BEGIN}\n{text}\n\n{measured}\n{END}{after}", "utf-8")


def main() -> int:
    import guided
    from doors import DOORS

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("doors", nargs="*", metavar="DOOR", help=", ".join(DOORS))
    parser.add_argument("--share", type=float, default=1.0, help="of each door's inputs")
    parser.add_argument("--minutes", type=float, default=20.0, help="most time for all doors")
    parser.add_argument(
        "--guided", type=int, default=0, help="seconds for each target of guided.py"
    )
    parser.add_argument("--kept", type=Path, help="file of the results so far, to go on from")
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
    kept = _read_kept(said.kept)
    for number, name in enumerate(names):
        if name in kept:
            continue
        left = (until - time.monotonic()) / (len(names) - number)
        count = max(1, round(DOORS[name][1] * said.share))
        numbers = range(said.first, said.first + count)
        kept[name] = run(name, numbers, time.monotonic() + 2 * left)
        _keep(said.kept, kept)
        sys.stderr.write(f"{name}: {dict(kept[name].counts)}, {kept[name].longest:.1f} s\n")
    lacks = []
    for target in guided.TARGETS if said.guided > 0 and not said.doors else ():
        if f"guided {target}" in kept:
            continue
        found = run_guided(target, said.guided)
        if isinstance(found, str):
            lacks.append(found)
            sys.stderr.write(f"{target}: {found}\n")
            continue
        kept[f"guided {target}"] = found
        _keep(said.kept, kept)
        sys.stderr.write(f"{found.door}: {dict(found.counts)}\n")
    results = list(kept.values())
    sys.stdout.write(f"{table(results)}\n")
    for each in results:
        for place, kind, why in each.failures:
            sys.stdout.write(f"{each.door} {place}: {kind}: {why}\n")
    if said.write is not None:
        write(said.write, table(results), lacks)
    return int(any(each.failures for each in results))


def _keep(path: Path | None, kept: dict[str, Result]) -> None:
    if path is not None:
        path.write_text(json.dumps({name: vars(result) for name, result in kept.items()}))


def _read_kept(path: Path | None) -> dict[str, Result]:
    """The results so far, so that a stopped run goes on with the next door."""
    if path is None or not path.exists():
        return {}
    found = json.loads(path.read_text())
    return {
        name: Result(**{**values, "counts": Counter(values["counts"])})
        for name, values in found.items()
    }


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        work(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]))
    else:
        sys.exit(main())
