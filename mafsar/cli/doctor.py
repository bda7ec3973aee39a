"""``mafsar doctor``: what works here, what does not, and the command that fixes it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from mafsar.cli import options as opt
from mafsar.cli import outputs, table, voice
from mafsar.errors import MismatchError, UnavailableError
from mafsar.plain import plain, say

if TYPE_CHECKING:
    from rich.table import Table

    from mafsar.runtime.machine.check import Check

# In the order of the report.
_MARKS = {"fail": ("broken", "bold red"), "warn": ("warning", "yellow"), "ok": ("ok", "green")}


def doctor(
    bisect: Annotated[
        Path | None,
        typer.Option(
            "--bisect",
            metavar="BUNDLE",
            help="Find the first node where the fp16 and int8 graphs of a bundle depart from fp32.",
        ),
    ] = None,
    out: opt.ResultsOption = None,
    overwrite: opt.OverwriteFlag = False,
    json_lines: opt.JsonFlag = False,
    _verbose: opt.VerboseFlag = 0,
    _quiet: opt.QuietFlag = False,
) -> None:
    """Show what works here, what does not, and the command that fixes it."""
    from mafsar.runtime.machine.doctor import examine

    if bisect is not None:
        _bisect(bisect, out, overwrite=overwrite, json_lines=json_lines)
        return
    checks = examine()
    broken = [check for check in checks if check.status == "fail"]
    with outputs.results_to(out, overwrite=overwrite) as stream:
        if json_lines:
            for check in checks:
                outputs.print_json(stream, check.to_json())
        else:
            _show(stream, checks)
    if broken:
        names = ", ".join(check.name for check in broken)
        fix = broken[0].fix or "see the line above"
        raise UnavailableError(f"doctor: {names} broken; {fix}")


def _show(stream: TextIO, checks: Sequence[Check]) -> None:
    """First what the user can act on, then what works; every detail with ``-v``."""
    shown = [check for check in checks if voice.is_verbose() or not check.detailed]
    order = list(_MARKS)
    to_fix = [check for check in shown if check.status != "ok"]
    to_fix.sort(key=lambda check: order.index(check.status))
    if to_fix:
        table.show(stream, _rows("to fix", to_fix), after=[""])
    else:
        say(stream, "nothing to fix\n\n")
    fine = [check for check in shown if check.status == "ok"]
    hidden = len(checks) - len(shown)
    more = [f"{opt.count(hidden, 'more check')} with -v"] if hidden else []
    table.show(stream, _rows("works", fine), after=["", *more] if more else [])


def _rows(title: str, checks: Sequence[Check]) -> Table:
    from rich.text import Text

    rows = table.new_table(title, "state", ("found", "fold"))
    for check in checks:
        found = Text(plain(check.detail))
        if check.fix:
            found.append(f"\n→ {check.fix}", "cyan")
        table.add_row(rows, check.name, Text(*_MARKS[check.status]), found)
    return rows


def _bisect(bundle: Path, out: Path | None, *, overwrite: bool, json_lines: bool) -> None:
    """Says for each graph of reduced precision where it departs, or how near it comes."""
    from dataclasses import asdict

    from mafsar.extras import require

    require(f"--bisect {bundle}", "onnx", extra="graphs")
    from mafsar.export.verify.bisect import bisect
    from mafsar.runtime.engines.bundle import Bundle
    from mafsar.runtime.engines.loading import model_path

    opened = Bundle.open(model_path(str(bundle)))
    reduced = [name for name in opened.precisions() if name != "fp32"] or ["fp16"]
    found = [item for precision in reduced for item in bisect(opened, precision)]
    with outputs.results_to(out, overwrite=overwrite) as stream:
        for item in found:
            if json_lines:
                outputs.print_json(stream, {"schema": 1} | asdict(item))
                continue
            where = f"{item.node} (cosine {item.cosine:.6f}, node {item.position} of {item.nodes})"
            said = f"departs at {where}" if item.departs else f"no node departs; nearest: {where}"
            say(stream, f"{item.graph}: {said}\n")
    first = next((item for item in found if item.departs), None)
    if first is not None:
        raise MismatchError(
            f"{bundle}: {first.graph} departs from fp32 at {first.node} (cosine "
            f"{first.cosine:.6f}, largest value {first.largest:.3g}); use --precision fp32, or "
            f"mafsar export {bundle} --overwrite"
        )
