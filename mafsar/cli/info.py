"""``mafsar info``: what a model, bundle, bank or engine is."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from mafsar.cli import options as opt
from mafsar.cli import outputs, table


def info(
    thing: Annotated[
        str,
        typer.Argument(
            metavar="THING",
            help="Model name, run, bundle (NAME.mafsar), bank, engine, support or clip.",
        ),
    ],
    ignore_clock: opt.IgnoreClockOption = None,
    out: opt.ResultsOption = None,
    overwrite: opt.OverwriteFlag = False,
    json_lines: opt.JsonFlag = False,
    _verbose: opt.VerboseFlag = 0,
    _quiet: opt.QuietFlag = False,
) -> None:
    """Describe a model, bundle, bank, support or clip; downloads nothing."""
    from mafsar.runtime.report.describe import describe

    facts = describe(thing, ignore_clock=ignore_clock)
    with outputs.results_to(out, overwrite=overwrite) as stream:
        if json_lines:
            outputs.print_json(stream, facts)
        else:
            rows = table.new_table("", ("", "fold"))
            rows.show_header = False
            for name, value in facts.items():
                if name != "schema":
                    table.add_row(rows, name.replace("_", " "), _text(value))
            table.show(stream, rows)


def _text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, (list, tuple)):
        return ", ".join(_text(item) for item in value)
    if isinstance(value, dict):
        return "\n".join(f"{key}: {_text(item)}" for key, item in value.items())
    return str(value)
