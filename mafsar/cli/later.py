"""Verbs of later versions: help and parser know their flags; running them says what works instead.

Every function here ends with exit 1, and none of its flags has an effect yet, as its help says.
"""
# ruff: noqa: ARG001 - the flags are declared for help, completion and did-you-mean

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NoReturn

import typer

from mafsar.cli import options as opt
from mafsar.errors import UnavailableError


def record(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A camera or a stream.")],
    folder: Annotated[
        Path, typer.Argument(metavar="SUPPORT/CLASS", help="The class folder to record into.")
    ],
    seconds: Annotated[
        float, typer.Option("--seconds", metavar="S", help="Length of each clip.")
    ] = 3.0,
    count: Annotated[int, typer.Option("--count", metavar="N", help="Number of clips.")] = 5,
    delay: Annotated[
        float, typer.Option("--delay", metavar="S", help="Seconds before each clip.")
    ] = 3.0,
    overwrite: opt.OverwriteFlag = False,
    _verbose: opt.VerboseFlag = 0,
    _quiet: opt.QuietFlag = False,
) -> None:
    """Record support clips from a camera. Not in this version."""
    _refuse(
        "record", f"put clips of about {seconds:g} s into {folder}/ with any recorder, e.g. ffmpeg"
    )


def _refuse(verb: str, instead: str) -> NoReturn:
    raise UnavailableError(f"mafsar {verb} is not in this version; {instead}")
