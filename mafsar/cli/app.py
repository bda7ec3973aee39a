"""Assembles the verbs into the ``mafsar`` command."""

from __future__ import annotations

import importlib
import io
import sys
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from mafsar.cli.group import PairVerb, Verb, VerbGroup
from mafsar.cli.options import QuietFlag, VerboseFlag


@dataclass(frozen=True)
class _Entry:
    """One verb: its words, the place of its function, two examples."""

    words: str
    home: str
    examples: tuple[str, str]
    cls: type[Verb] = Verb


VERBS = (
    _Entry(
        "match",
        "match.match",
        (
            "mafsar match support/ query.mp4",
            "mafsar match my.safetensors clips/ --json --plot out/",
        ),
    ),
    _Entry(
        "enroll",
        "enroll.enroll",
        (
            "mafsar enroll support/ -o my.safetensors",
            "mafsar enroll more/ --add my.safetensors --report quality.html",
        ),
    ),
    _Entry(
        "bank list",
        "bank.list_banks",
        ("mafsar bank list my.safetensors", "mafsar bank list my.safetensors --class wave --json"),
    ),
    _Entry(
        "bank remove",
        "bank.remove",
        (
            "mafsar bank remove my.safetensors --class wave",
            "mafsar bank remove my.safetensors --clip support/wave/3.mp4 -o smaller.safetensors",
        ),
    ),
    _Entry(
        "bank merge",
        "bank.merge",
        (
            "mafsar bank merge a.safetensors b.safetensors -o all.safetensors",
            "mafsar bank merge a.safetensors b.safetensors --class wave,jump -o two.safetensors",
        ),
    ),
    _Entry(
        "eval",
        "evaluate.evaluate",
        (
            "mafsar eval tiny --data clips/",
            "mafsar eval tiny --data clips/ --split split.json --shot 5 --confusion confusion.png",
        ),
    ),
    _Entry("info", "info.info", ("mafsar info tiny", "mafsar info my.safetensors --json")),
    _Entry("doctor", "doctor.doctor", ("mafsar doctor", "mafsar doctor --json")),
    _Entry("cache info", "cache.show", ("mafsar cache info", "mafsar cache info --json")),
    _Entry("cache clear", "cache.clear", ("mafsar cache clear", "mafsar cache clear --json")),
    _Entry(
        "train",
        "train.train",
        (
            "mafsar train --dataset hmdb51 --root DIR --model vit-b-16 -o runs/h",
            "mafsar train --data clips/ --split split.json --episodes 1000",
        ),
        PairVerb,
    ),
    _Entry(
        "export",
        "export.export",
        ("mafsar export --engine trt", "mafsar export runs/h --engine trt --precision fp16"),
    ),
    _Entry(
        "watch",
        "watch.watch",
        ("mafsar watch my.safetensors 0", "mafsar watch support/ rtsp://camera/1 --jsonl e.jsonl"),
    ),
    _Entry(
        "record",
        "record.record",
        ("mafsar record 0 support/wave", "mafsar record 0 support/wave --seconds 2 --trim"),
    ),
    _Entry(
        "studio",
        "studio.studio",
        ("mafsar studio", "mafsar studio support/ --port 8800"),
    ),
    _Entry(
        "index",
        "index.index",
        (
            "mafsar index videos/ -o archive --bank my.safetensors",
            "mafsar index videos/ more/*.mp4 -o archive --window 2,4 --resume",
        ),
    ),
    _Entry(
        "search",
        "search.search",
        (
            "mafsar search my.safetensors archive",
            "mafsar search my.safetensors archive --topk 50 --report found.html",
        ),
    ),
    _Entry(
        "data check",
        "data.check",
        (
            "mafsar data check --dataset hmdb51 --root DIR",
            "mafsar data check --data clips/ -o all.csv",
        ),
    ),
    _Entry(
        "data pack",
        "data.pack",
        (
            "mafsar data pack --dataset hmdb51 --root DIR -o hmdb51.sqlite",
            "mafsar data pack --data clips/ --split split.json -o clips.sqlite",
        ),
    ),
    _Entry(
        "bench",
        "bench.bench",
        ("mafsar bench tiny", "mafsar bench tiny --engine onnx,trt --markdown bench.md"),
    ),
    _Entry(
        "synth",
        "synth.synth",
        ("mafsar synth clips/ --classes 20 --clips 20", "mafsar synth watched/ --set stream"),
    ),
)
GROUPS = {
    "bank": "List, reduce and merge banks; needs no clips.",
    "cache": "Show or empty the cache of features and bundles.",
    "data": "Check a data set, or decode it once for training.",
}


class _Root(VerbGroup):
    order = tuple(dict.fromkeys(entry.words.split()[0] for entry in VERBS))


def build_app(only: str | None = None) -> typer.Typer:
    """The command, with all verbs or with one.

    Args:
        only: Build only this verb (or group of verbs): building all of them takes a tenth of the
            time that a whole match may take.
    """
    app = _typer(
        _Root,
        name="mafsar",
        epilog=_examples(
            "mafsar match support/ query.mp4", "mafsar enroll support/ -o my.safetensors"
        ),
    )
    app.callback()(_root)
    groups: dict[str, typer.Typer] = {}
    for entry in VERBS:
        first, _, second = entry.words.partition(" ")
        if only not in (None, first):
            continue
        parent = app
        if second:
            if first not in groups:
                groups[first] = _typer(help=GROUPS[first], epilog=_examples(*_of_group(first)))
                app.add_typer(groups[first], name=first)
            parent = groups[first]
        module, name = entry.home.split(".")
        parent.command(
            second or first,
            cls=entry.cls,
            epilog=_examples(*entry.examples),
        )(getattr(importlib.import_module(f"mafsar.cli.{module}"), name))
    return app


def main() -> None:
    """Entry point of the ``mafsar`` script."""
    for stream in (sys.stdout, sys.stderr):
        # A label or a file name that the terminal cannot show must not end the run.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    first = sys.argv[1] if len(sys.argv) > 1 else ""
    build_app(first if first in _Root.order else None)(prog_name="mafsar")


def _print_version(wanted: bool) -> None:
    if wanted:
        from mafsar.version import __version__

        typer.echo(f"mafsar {__version__}")
        raise typer.Exit


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


def _typer(cls: type[VerbGroup] = VerbGroup, **settings: Any) -> typer.Typer:
    return typer.Typer(
        cls=cls,
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["--help", "-h"]},
        **settings,
    )


def _of_group(group: str) -> tuple[str, str]:
    """The first examples of a group's first and last verb."""
    members = [entry for entry in VERBS if entry.words.startswith(f"{group} ")]
    return members[0].examples[0], members[-1].examples[0]


def _examples(*lines: str) -> str:
    return "Examples:\n\n" + "\n\n".join(f"  {line}" for line in lines)
