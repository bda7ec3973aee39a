"""``mafsar match``: names the action of each query clip."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mafsar.cli import options as opt
from mafsar.cli import outputs


def match(
    support: Annotated[
        str,
        typer.Argument(
            metavar="SUPPORT", help="Folder of class folders, a CSV path,label, or a bank."
        ),
    ],
    queries: Annotated[
        list[str],
        typer.Argument(
            metavar="QUERY",
            help="Clips: file, frame folder, folder, glob, NAME=SOURCE, - for paths on stdin.",
        ),
    ],
    topk: Annotated[
        int, typer.Option("--topk", metavar="K", min=1, help="Classes listed a query.")
    ] = 5,
    threshold: Annotated[
        str,
        typer.Option(
            "--threshold",
            metavar="auto|off|X",
            callback=opt.check_threshold,
            autocompletion=opt.complete(("auto", "off")),
            help="Answer none where p_none is above it; X needs a calibrated bank.",
        ),
    ] = "auto",
    alpha: Annotated[
        float | None,
        typer.Option(
            "--alpha",
            metavar="X",
            callback=opt.check_unit,
            help="Weight of the class names, 0 to 1. Default: the bank's.",
        ),
    ] = None,
    metric: opt.MetricOption = None,
    batch: Annotated[
        int, typer.Option("--batch", metavar="N", min=1, help="Queries encoded at once.")
    ] = 8,
    csv: Annotated[
        Path | None, typer.Option("--csv", metavar="F", help="Also write a CSV.")
    ] = None,
    save_video: Annotated[
        Path | None,
        typer.Option("--save-video", metavar="DIR", help="Write each query with its label on it."),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot", metavar="DIR", help="Draw each query above the nearest support clip."
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option("--report", metavar="F.html", help="Write one self-contained HTML page."),
    ] = None,
    model: opt.ModelOption = None,
    engine: opt.EngineOption = "auto",
    device: opt.DeviceOption = "auto",
    precision: opt.PrecisionOption = "fp32",
    text: opt.TextOption = "auto",
    roi: opt.RoiOption = None,
    fit: opt.FitOption = None,
    rotate: opt.RotateOption = None,
    hflip: opt.HflipFlag = None,
    keep_query: Annotated[
        bool,
        typer.Option("--keep-query", help="Keep a support clip whose content is the query's."),
    ] = False,
    no_cache: opt.NoCacheFlag = False,
    out: opt.ResultsOption = None,
    overwrite: opt.OverwriteFlag = False,
    json_lines: opt.JsonFlag = False,
    _verbose: opt.VerboseFlag = 0,
    _quiet: opt.QuietFlag = False,
) -> None:
    """Name the action of each query clip from a few clips of each class."""
