"""``mafsar studio``: a local page in which clips are recorded, tried and watched for."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path
from typing import Annotated, Any

import typer

from mafsar.cli import options as opt
from mafsar.cli import voice
from mafsar.plain import plain

HOST = "127.0.0.1"


def _check_port(value: int) -> int:
    if not 0 <= value < 65536:
        raise typer.BadParameter(f"{value} is not a port from 0 to 65535")
    return value


def studio(
    support: Annotated[
        Path,
        typer.Argument(
            metavar="SUPPORT", help="A folder of class folders; it is created with the first clip."
        ),
    ] = Path("support"),
    port: Annotated[
        int,
        typer.Option(
            "--port",
            metavar="N",
            callback=_check_port,
            help="Port on this machine; 0: any free one.",
        ),
    ] = 8765,
    model: opt.ModelOption = None,
    engine: opt.EngineOption = "auto",
    device: opt.DeviceOption = "auto",
    precision: opt.PrecisionOption = "fp32",
    text: opt.TextOption = "auto",
    frames_pattern: opt.FramesPatternOption = None,
    no_cache: opt.NoCacheFlag = False,
    _verbose: opt.VerboseFlag = 0,
    _quiet: opt.QuietFlag = False,
) -> None:
    """Record, check and try support clips, and watch the camera, in a page on this machine."""
    from mafsar.cli.inputs import engine_choice, load_encoder
    from mafsar.cli.wording import worded
    from mafsar.runtime.studio import serving
    from mafsar.runtime.studio.studio_app import Studio
    from mafsar.runtime.studio.workshop import Workshop

    serving.require_packages("mafsar studio")
    token = serving.own_token()
    listening = serving.bind(HOST, port, "port")
    try:
        encoder = load_encoder(model, engine_choice(engine, device, precision, cache=not no_cache))
        text_use: Any = text
        workshop = Workshop(
            support,
            encoder,
            text=text_use,
            cache=not no_cache,
            words=worded,
            frames_pattern=frames_pattern,
        )
    except BaseException:
        listening.close()
        raise
    made = Studio(workshop, words=worded)
    number = int(listening.getsockname()[1])
    server = serving.Server(made.app(token, cookie=f"mafsar-{number}"), listening)
    sys.stdout.write(plain(f"http://{HOST}:{number}/?token={token}") + "\n")
    sys.stdout.flush()
    voice.tell(f"studio of {support}: open the address above in a browser; Ctrl-C ends")
    _wait(server)
    made.close()
    server.close()


def _wait(server: Any) -> None:
    """Until the user ends it."""
    ended = threading.Event()
    before = {
        kind: signal.signal(kind, lambda *_: ended.set())
        for kind in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        while server.is_alive and not ended.wait(0.5):
            pass
    finally:
        for kind, old in before.items():
            signal.signal(kind, old)
