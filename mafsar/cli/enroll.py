"""``mafsar enroll``: support clips to a bank, with a quality report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mafsar.cli import options as opt
from mafsar.cli import outputs


def enroll(
    support: Annotated[
        str, typer.Argument(metavar="SUPPORT", help="Folder of class folders, or a CSV.")
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="BANK", help="The bank to write (.safetensors)."),
    ] = None,
    add: Annotated[
        Path | None,
        typer.Option(
            "--add",
            metavar="BANK",
            help="Add to this bank, in place unless -o is given; nothing is encoded twice.",
        ),
    ] = None,
    none: Annotated[
        list[str] | None,
        typer.Option(
            "--none", metavar="SOURCE", help="Clips that show none of them (not in this version)."
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option("--report", metavar="F.html", help="Write the quality report as HTML."),
    ] = None,
    no_images: Annotated[
        bool, typer.Option("--no-images", help="Keep no small pictures in the bank.")
    ] = False,
    model: opt.ModelOption = None,
    engine: opt.EngineOption = "auto",
    device: opt.DeviceOption = "auto",
    precision: opt.PrecisionOption = "fp32",
    text: opt.TextOption = "auto",
    roi: opt.RoiOption = None,
    fit: opt.FitOption = None,
    rotate: opt.RotateOption = None,
    hflip: opt.HflipFlag = None,
    no_cache: opt.NoCacheFlag = False,
    overwrite: opt.OverwriteFlag = False,
    json_lines: opt.JsonFlag = False,
    _verbose: opt.VerboseFlag = 0,
    _quiet: opt.QuietFlag = False,
) -> None:
    """Encode support clips into a bank, and say how good they are."""
