"""``mafsar bank list|remove|merge``: what needs no clips and no model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mafsar.cli import options as opt
from mafsar.cli import outputs

ClassOption = Annotated[
    str | None, typer.Option("--class", metavar="C[,C]", help="Only these classes.")
]
ClipOption = Annotated[
    str | None,
    typer.Option("--clip", metavar="P[,P]", help="Only these clips: path, file name or hash."),
]
BanksArgument = Annotated[list[Path], typer.Argument(metavar="BANK", help="Banks.")]


def list_banks(
    banks: BanksArgument,
    classes: ClassOption = None,
    clips: ClipOption = None,
    out: opt.ResultsOption = None,
    overwrite: opt.OverwriteFlag = False,
    json_lines: opt.JsonFlag = False,
    _verbose: opt.VerboseFlag = 0,
    _quiet: opt.QuietFlag = False,
) -> None:
    """List the classes and clips of banks."""


def remove(
    banks: BanksArgument,
    classes: ClassOption = None,
    clips: ClipOption = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="BANK", help="Write here; default: in place."),
    ] = None,
    overwrite: opt.OverwriteFlag = False,
    json_lines: opt.JsonFlag = False,
    _verbose: opt.VerboseFlag = 0,
    _quiet: opt.QuietFlag = False,
) -> None:
    """Remove classes or clips from banks."""


def merge(
    banks: BanksArgument,
    classes: ClassOption = None,
    clips: ClipOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="BANK", help="The merged bank.")
    ] = None,
    overwrite: opt.OverwriteFlag = False,
    json_lines: opt.JsonFlag = False,
    _verbose: opt.VerboseFlag = 0,
    _quiet: opt.QuietFlag = False,
) -> None:
    """Merge banks of one model."""
