"""``mafsar record``: clips of one class from a camera."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from mafsar.cli import options as opt
from mafsar.cli import voice
from mafsar.plain import plain


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
    trim: Annotated[
        bool, typer.Option("--trim", help="Keep only the moving part of each clip.")
    ] = False,
    _verbose: opt.VerboseFlag = 0,
    _quiet: opt.QuietFlag = False,
) -> None:
    """Record support clips from a camera: a countdown, then a clip, as often as asked."""
    from mafsar.errors import InputError
    from mafsar.runtime.live.record import record as recording
    from mafsar.video.live.place import places_of

    places = places_of(source)
    if len(places) != 1:
        raise InputError(f"SOURCE {source}: is a folder; name a camera, a stream or one file")
    for clip in recording(
        places[0],
        folder,
        seconds=seconds,
        count=count,
        delay=delay,
        trim=trim,
        say=voice.tell,
    ):
        sys.stdout.write(f"{plain(str(clip.path))}  {clip.seconds:.1f} s\n")
        sys.stdout.flush()
        if not clip.moving:
            voice.warn(f"{clip.path}: nothing moves in this clip; remove it and record it again")
