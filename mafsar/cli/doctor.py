"""``mafsar doctor``: what works here, what does not, and the command that mends it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mafsar.cli import options as opt
from mafsar.cli import outputs


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
