"""``mafsar doctor``: what works here, what does not, and the command that mends it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mafsar.cli import options as opt
from mafsar.cli import outputs, table
from mafsar.errors import UnavailableError

_MARKS = {"ok": ("ok", "green"), "warn": ("warning", "yellow"), "fail": ("broken", "bold red")}


def doctor(
    bisect: Annotated[
        Path | None,
        typer.Option(
            "--bisect",
            metavar="BUNDLE",
            help="Name the node where a reduced precision departs (not in this version).",
        ),
    ] = None,
    out: opt.ResultsOption = None,
    overwrite: opt.OverwriteFlag = False,
    json_lines: opt.JsonFlag = False,
    _verbose: opt.VerboseFlag = 0,
    _quiet: opt.QuietFlag = False,
) -> None:
    """What works here, what does not, and the command that mends it."""
    from mafsar.runtime.doctor import examine

    if bisect is not None:
        raise UnavailableError(
            f"--bisect {bisect}: not in this version, which runs fp32 bundles; compare precisions"
            " with mafsar eval --precision"
        )
    checks = examine()
    broken = [check for check in checks if check.status == "fail"]
    with outputs.results_to(out, overwrite=overwrite) as stream:
        if json_lines:
            for check in checks:
                outputs.print_json(stream, check.to_json())
        else:
            from rich.text import Text

            rows = table.new_table("what", "state", ("found, and what mends it", "fold"))
            for check in checks:
                found = Text(check.detail)
                if check.mend:
                    found.append(f"\n→ {check.mend}", "cyan")
                table.add_row(rows, check.name, Text(*_MARKS[check.status]), found)
            table.show(stream, rows, widest=120)
    if broken:
        names = ", ".join(check.name for check in broken)
        mend = broken[0].mend or "see the line above"
        raise UnavailableError(f"doctor: {names} broken; {mend}")
