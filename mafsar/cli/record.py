"""``mafsar record``: clips of one class from a camera."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mafsar.cli import options as opt
from mafsar.cli import outputs, targets, voice
from mafsar.plain import plain

SCHEMA = 1


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
    out: opt.ResultsOption = None,
    overwrite: opt.OverwriteFlag = False,
    json_lines: opt.JsonFlag = False,
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
    targets.check_outputs(
        {"--out": out},
        overwrite,
        inputs={"the source": [places[0].where] if places[0].kind == "file" else []},
    )
    with outputs.results_to(out, overwrite=overwrite) as stream:
        for clip in recording(
            places[0],
            folder,
            seconds=seconds,
            count=count,
            delay=delay,
            trim=trim,
            say=voice.tell,
        ):
            if json_lines:
                said = {"path": str(clip.path), "seconds": clip.seconds, "moving": clip.moving}
                outputs.print_json(stream, {"schema": SCHEMA, **said})
            else:
                stream.write(f"{plain(str(clip.path))}  {clip.seconds:.1f} s\n")
                stream.flush()
            if not clip.moving:
                voice.warn(
                    f"{clip.path}: nothing moves in this clip; remove it and record it again"
                )
