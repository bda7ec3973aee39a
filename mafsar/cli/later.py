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


def watch(
    support: Annotated[str, typer.Argument(metavar="BANK|SUPPORT", help="A bank or a support.")],
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A camera, a stream or a video.")],
    model: opt.TopModel = None,
    window: Annotated[
        str, typer.Option("--window", metavar="auto|S[,S]", help="Lengths of the windows, seconds.")
    ] = "auto",
    stride: Annotated[
        str, typer.Option("--stride", metavar="auto|S", help="Step between windows, seconds.")
    ] = "auto",
    threshold: Annotated[
        str,
        typer.Option(
            "--threshold",
            metavar="auto|off|X",
            callback=opt.check_threshold,
            help="Answer none where p_none is above this.",
        ),
    ] = "auto",
    gap: Annotated[
        float, typer.Option("--gap", metavar="S", help="Join events closer than this, seconds.")
    ] = 1.0,
    min_duration: Annotated[
        float, typer.Option("--min-duration", metavar="S", help="Shortest event, seconds.")
    ] = 0.3,
    jsonl: Annotated[
        Path | None, typer.Option("--jsonl", metavar="F", help="Append events to F as JSON Lines.")
    ] = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", metavar="F", help="Write events to F as CSV.")
    ] = None,
    save_video: Annotated[
        Path | None,
        typer.Option("--save-video", metavar="F", help="Write the video with its events."),
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="Show the video in a window.")] = False,
    serve: Annotated[
        str | None,
        typer.Option("--serve", metavar="[HOST:]PORT", help="Serve a page with the video."),
    ] = None,
    max_fps: Annotated[
        float | None, typer.Option("--max-fps", metavar="X", help="Frames per second to look at.")
    ] = None,
    heartbeat: Annotated[
        float, typer.Option("--heartbeat", metavar="S", help="Seconds between status events.")
    ] = 60.0,
    webhook: Annotated[
        str | None, typer.Option("--webhook", metavar="URL", help="Post each event there.")
    ] = None,
    engine: opt.EngineOption = "auto",
    device: opt.DeviceOption = "auto",
    precision: opt.PrecisionOption = "fp32",
    text: opt.TextOption = "auto",
    roi: Annotated[
        list[str] | None,
        typer.Option("--roi", metavar="NAME=X,Y,W,H", help="Use only this region; repeatable."),
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
    """Find actions in live or long video. Not in this version."""
    _refuse("watch", "match short clips instead: mafsar match support/ clip.mp4")


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
