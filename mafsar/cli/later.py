"""Verbs of later versions: their flags are known to help and parser, running them says what works.

Every function here refuses with exit 1; none of its flags has an effect yet, which its help says.
"""
# ruff: noqa: ARG001 - the flags are declared for help, completion and did-you-mean

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NoReturn

import typer

from mafsar.cli import options as opt
from mafsar.errors import UnavailableError


def watch(
    support: Annotated[str, typer.Argument(metavar="BANK|SUPPORT", help="Bank or support.")],
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="Camera, stream or video.")],
    model: opt.TopModel = None,
    window: Annotated[str, typer.Option("--window", metavar="auto|S[,S]")] = "auto",
    stride: Annotated[str, typer.Option("--stride", metavar="auto|S", help="Seconds.")] = "auto",
    threshold: Annotated[
        str, typer.Option("--threshold", metavar="auto|off|X", callback=opt.check_threshold)
    ] = "auto",
    gap: Annotated[float, typer.Option("--gap", metavar="S")] = 1.0,
    min_duration: Annotated[float, typer.Option("--min-duration", metavar="S")] = 0.3,
    jsonl: Annotated[Path | None, typer.Option("--jsonl", metavar="F", help="Appends.")] = None,
    csv: Annotated[Path | None, typer.Option("--csv", metavar="F")] = None,
    save_video: Annotated[Path | None, typer.Option("--save-video", metavar="F")] = None,
    show: Annotated[bool, typer.Option("--show", help="Open a window.")] = False,
    serve: Annotated[str | None, typer.Option("--serve", metavar="[127.0.0.1:]8080")] = None,
    max_fps: Annotated[float | None, typer.Option("--max-fps", metavar="X")] = None,
    heartbeat: Annotated[float, typer.Option("--heartbeat", metavar="S")] = 60.0,
    webhook: Annotated[str | None, typer.Option("--webhook", metavar="URL")] = None,
    engine: opt.EngineOption = "auto",
    device: opt.DeviceOption = "auto",
    precision: opt.PrecisionOption = "fp32",
    text: opt.TextOption = "auto",
    roi: Annotated[
        list[str] | None, typer.Option("--roi", metavar="[NAME=]X,Y,W,H", help="Repeatable.")
    ] = None,
    fit: opt.FitOption = None,
    rotate: opt.RotateOption = None,
    hflip: opt.HflipFlag = None,
    no_cache: opt.NoCacheFlag = False,
    overwrite: opt.OverwriteFlag = False,
    json_lines: opt.JsonFlag = False,
    _verbose: opt.VerboseFlag = 0,
    _quiet: opt.QuietFlag = False,
) -> None:
    """Live or long video to events. Not in this version."""
    _refuse("watch", "match short clips instead: mafsar match support/ clip.mp4")


def record(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="Camera or stream.")],
    folder: Annotated[Path, typer.Argument(metavar="SUPPORT/CLASS", help="Class folder.")],
    seconds: Annotated[float, typer.Option("--seconds")] = 3.0,
    count: Annotated[int, typer.Option("--count")] = 5,
    delay: Annotated[float, typer.Option("--delay")] = 3.0,
    overwrite: opt.OverwriteFlag = False,
    _verbose: opt.VerboseFlag = 0,
    _quiet: opt.QuietFlag = False,
) -> None:
    """Camera to support clips. Not in this version."""
    _refuse(
        "record", f"put clips of about {seconds:g} s into {folder}/ with any recorder, e.g. ffmpeg"
    )


def _refuse(verb: str, instead: str) -> NoReturn:
    raise UnavailableError(f"mafsar {verb} is not in this version; {instead}")
