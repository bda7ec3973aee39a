"""Wires the verbs into the ``mafsar`` command."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from mafsar.cli import bank, cache, doctor, enroll, evaluate, info, later, match
from mafsar.cli.group import PairVerb, Verb, VerbGroup
from mafsar.cli.options import QuietFlag, VerboseFlag


def _examples(*lines: str) -> str:
    return "Examples:\n\n" + "\n\n".join(f"  {line}" for line in lines)


class _Root(VerbGroup):
    order = ("match", "enroll", "bank", "eval", "info", "doctor", "cache", "train", "export")


def _group(cls: type[VerbGroup] = VerbGroup, **settings: Any) -> typer.Typer:
    return typer.Typer(
        cls=cls,
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["--help", "-h"]},
        **settings,
    )


def _print_version(wanted: bool) -> None:
    if wanted:
        from mafsar import __version__

        typer.echo(f"mafsar {__version__}")
        raise typer.Exit


app = _group(
    _Root,
    name="mafsar",
    epilog=_examples("mafsar match support/ query.mp4", "mafsar enroll support/ -o my.safetensors"),
)


@app.callback()
def _root(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Print the version."
        ),
    ] = False,
    _verbose: VerboseFlag = 0,
    _quiet: QuietFlag = False,
) -> None:
    """Few-shot action recognition: names the action in a clip from a few examples of each."""


def _add(
    group: typer.Typer,
    name: str,
    function: Callable[..., None],
    examples: tuple[str, str],
    *,
    cls: type[Verb] = Verb,
    panel: str | None = None,
) -> None:
    group.command(
        name,
        cls=cls,
        epilog=_examples(*examples),
        no_args_is_help=False,
        rich_help_panel=panel,
    )(function)


_add(
    app,
    "match",
    match.match,
    (
        "mafsar match support/ query.mp4",
        "mafsar match my.safetensors clips/ --json --plot plots/",
    ),
)
_add(
    app,
    "enroll",
    enroll.enroll,
    (
        "mafsar enroll support/ -o my.safetensors",
        "mafsar enroll more/ --add my.safetensors --report quality.html",
    ),
)
_bank = _group(
    help="List, remove from and merge banks: what needs no clips.",
    epilog=_examples(
        "mafsar bank list my.safetensors",
        "mafsar bank merge a.safetensors b.safetensors -o all.safetensors",
    ),
)
_add(
    _bank,
    "list",
    bank.list_banks,
    ("mafsar bank list my.safetensors", "mafsar bank list my.safetensors --class wave --json"),
)
_add(
    _bank,
    "remove",
    bank.remove,
    (
        "mafsar bank remove my.safetensors --class wave",
        "mafsar bank remove my.safetensors --clip support/wave/3.mp4 -o smaller.safetensors",
    ),
)
_add(
    _bank,
    "merge",
    bank.merge,
    (
        "mafsar bank merge a.safetensors b.safetensors -o all.safetensors",
        "mafsar bank merge a.safetensors b.safetensors --class wave,jump -o two.safetensors",
    ),
)
app.add_typer(_bank, name="bank")
_add(
    app,
    "eval",
    evaluate.evaluate,
    (
        "mafsar eval tiny --data clips/",
        "mafsar eval tiny --data clips/ --split split.json --shot 5 --confusion confusion.png",
    ),
)
_add(
    app,
    "info",
    info.info,
    ("mafsar info tiny", "mafsar info my.safetensors --json"),
)
_add(app, "doctor", doctor.doctor, ("mafsar doctor", "mafsar doctor --json"))
_cache = _group(
    help="What the feature cache holds, and emptying it.",
    epilog=_examples("mafsar cache info", "mafsar cache clear"),
)
_add(_cache, "info", cache.show, ("mafsar cache info", "mafsar cache info --json"))
_add(_cache, "clear", cache.clear, ("mafsar cache clear", "mafsar cache clear --json"))
app.add_typer(_cache, name="cache")

_add(
    app,
    "train",
    later.train,
    (
        "mafsar train --dataset hmdb51 --root DIR --model vit-b-16 -o runs/h",
        "mafsar train --data clips/ --split split.json episodes=1000",
    ),
    cls=PairVerb,
    panel=later.PANEL,
)
_add(
    app,
    "export",
    later.export,
    ("mafsar export --engine trt", "mafsar export runs/h --engine trt --precision fp16"),
    panel=later.PANEL,
)
_add(
    app,
    "watch",
    later.watch,
    (
        "mafsar watch my.safetensors 0",
        "mafsar watch support/ rtsp://camera/stream --jsonl events.jsonl",
    ),
    panel=later.PANEL,
)
_add(
    app,
    "record",
    later.record,
    ("mafsar record 0 support/wave", "mafsar record 0 support/wave --seconds 2 --count 10"),
    panel=later.PANEL,
)
_data = _group(
    help="Check a data set, decode it once. Not in this version.",
    epilog=_examples(
        "mafsar data check --dataset hmdb51 --root DIR", "mafsar data pack --data clips/ -o packed/"
    ),
)
_add(
    _data,
    "check",
    later.data_check,
    ("mafsar data check --dataset hmdb51 --root DIR", "mafsar data check --data clips/"),
)
_add(
    _data,
    "pack",
    later.data_pack,
    (
        "mafsar data pack --data clips/ -o packed/",
        "mafsar data pack --dataset ucf101 --root DIR -o p/",
    ),
)
app.add_typer(_data, name="data", rich_help_panel=later.PANEL)
_add(
    app,
    "bench",
    later.bench,
    ("mafsar bench tiny", "mafsar bench tiny --engine onnx,trt --markdown bench.md"),
    panel=later.PANEL,
)
_add(
    app,
    "synth",
    later.synth,
    ("mafsar synth clips/", "mafsar synth clips/ --classes 5 --clips 8 --set motions"),
    panel=later.PANEL,
)


def main() -> None:
    """Entry point of the ``mafsar`` script."""
    for stream in (sys.stdout, sys.stderr):
        # A label or a file name that the terminal cannot show must not end the run.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    app(prog_name="mafsar")
