"""Measures the figures of README and docs again, by the table figures.toml.

    python benchmarks/figures.py [WORD …] [--slow]

A WORD chooses the figures whose name has it. Fails where a page no longer says what the table claims, or where
a figure no longer holds within its margin.
"""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
TABLE = Path(__file__).with_name("figures.toml")


def holds(measured: float, claimed: float, margin: str) -> bool:
    """Whether a measured number is within the margin of the claimed one."""
    if margin == "=":
        return measured == claimed
    if margin == "≤":
        return measured <= claimed
    if margin == "≥":
        return measured >= claimed
    share = float(margin.removesuffix("%")) / 100
    return abs(measured - claimed) <= share * abs(claimed)


def measure(figure: dict[str, Any], work: Path) -> float:
    """Runs a figure's command and finds its number."""
    mafsar = shutil.which("mafsar", path=str(Path(sys.executable).parent)) or "mafsar"
    command = figure["run"].format(mafsar=mafsar, python=sys.executable, work=work)
    done = subprocess.run(
        shlex.split(command), capture_output=True, text=True, cwd=ROOT, check=False
    )
    found = re.search(figure["find"], done.stdout)
    if found is None:
        raise LookupError(
            f"{command}: exit {done.returncode}; {(done.stderr or done.stdout)[-300:]}"
        )
    return float(found[1].replace(",", "")) * float(figure.get("scale", 1))


def check(figure: dict[str, Any], work: Path) -> str | None:
    """Why a figure does not hold, or None; prints its line."""
    page = ROOT / figure["page"]
    if figure["quote"] not in " ".join(page.read_text(encoding="utf-8").split(" ")):
        return f"{figure['page']} no longer says {figure['quote']!r}"
    try:
        measured = measure(figure, work)
    except LookupError as error:
        return str(error)
    claimed, margin = float(figure["claimed"]), figure["margin"]
    good = holds(measured, claimed, margin)
    sys.stdout.write(
        f"{'holds' if good else 'FAILS':6}{figure['name']}: claimed {claimed:g} ({margin}), measured "
        f"{measured:g}\n"
    )
    sys.stdout.flush()
    return (
        None if good else f"{figure['page']} claims {claimed:g} ({margin}), measured {measured:g}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="*", help="only figures whose name has one of these")
    parser.add_argument(
        "--slow", action="store_true", help="also those that take minutes, or a quiet machine"
    )
    said = parser.parse_args()
    figures = tomllib.loads(TABLE.read_text(encoding="utf-8"))["figure"]
    wrong = []
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        subprocess.run(
            [sys.executable, str(ROOT / "examples" / "demo.py"), str(work / "demo")], check=True,
            capture_output=True,
        )  # fmt: skip
        for figure in figures:
            asked = not said.words or any(word in figure["name"] for word in said.words)
            if not asked or (figure.get("slow") and not said.slow):
                continue
            why = check(figure, work)
            if why is not None:
                wrong.append(f"{figure['name']}: {why}")
    for line in wrong:
        sys.stderr.write(f"error: {line}\n")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
