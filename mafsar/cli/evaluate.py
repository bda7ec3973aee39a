"""``mafsar eval``: accuracy over frozen episodes, ± 95 % confidence interval."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mafsar.cli import later
from mafsar.cli import options as opt
from mafsar.cli import outputs


def evaluate(
    model: Annotated[
        str, typer.Argument(metavar="[MODEL]", help="Model name or bundle.", show_default=True)
    ] = "tiny",
    data: later.DataOption = None,
    split: Annotated[
        Path | None,
        typer.Option(
            "--split",
            metavar="F",
            help="JSON or TOML with the train, val and test classes of --data.",
        ),
    ] = None,
    part: Annotated[
        str,
        typer.Option(
            "--part",
            metavar="|".join(opt.PARTS),
            callback=opt.one_of(opt.PARTS),
            autocompletion=opt.complete(opt.PARTS),
            help="Which classes of the split.",
        ),
    ] = "test",
    way: Annotated[int, typer.Option("--way", min=2, help="Classes an episode.")] = 5,
    shot: Annotated[int, typer.Option("--shot", min=1, help="Support clips a class.")] = 1,
    query: Annotated[int, typer.Option("--query", min=1, help="Queries a class.")] = 1,
    episodes: Annotated[int, typer.Option("--episodes", min=1, help="How many.")] = 10000,
    seed: Annotated[int, typer.Option("--seed", help="Freezes the episodes.")] = 0,
    episodes_file: Annotated[
        Path | None,
        typer.Option(
            "--episodes-file",
            metavar="F",
            help="Read the episodes from F; where F is missing, write them there.",
        ),
    ] = None,
    metric: opt.MetricOption = None,
    text: opt.TextOption = "auto",
    confusion: Annotated[
        Path | None,
        typer.Option(
            "--confusion", metavar="F.png", help="Draw the confusion matrix, and write F.csv."
        ),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", metavar="NAME", help="Not in this version.")
    ] = None,
    root: Annotated[
        Path | None, typer.Option("--root", metavar="DIR", help="Not in this version.")
    ] = None,
    lists: Annotated[
        Path | None, typer.Option("--lists", metavar="DIR", help="Not in this version.")
    ] = None,
    engine: opt.EngineOption = "auto",
    device: opt.DeviceOption = "auto",
    precision: opt.PrecisionOption = "fp32",
    no_cache: opt.NoCacheFlag = False,
    out: opt.ResultsOption = None,
    overwrite: opt.OverwriteFlag = False,
    json_lines: opt.JsonFlag = False,
    _verbose: opt.VerboseFlag = 0,
    _quiet: opt.QuietFlag = False,
) -> None:
    """Accuracy over seeded few-shot episodes of a labelled folder."""
