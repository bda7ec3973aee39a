"""The options that several verbs share (docs/cli.md explains them)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal, get_args

import typer

from mafsar import choices
from mafsar.choices import METRICS, PRECISIONS, ViewsUse
from mafsar.cli import usage, voice

ENGINES = ("auto", *choices.ENGINES)
TEXTS: tuple[str, ...] = get_args(choices.TextUse)
PARTS = ("test", "val", "train")
FITS = ("crop", "pad")
ROTATIONS = ("0", "90", "180", "270")


def one_of(choices: Sequence[str]) -> Callable[[str | None], str | None]:
    """A callback that accepts one of `choices` and hints at the nearest one otherwise."""

    def check(value: str | None) -> str | None:
        if value is None or value in choices:
            return value
        meant = usage.suggest_value(value, choices)
        hint = f"; did you mean {meant}?" if meant else ""
        raise typer.BadParameter(f"{value!r} is not one of {', '.join(choices)}{hint}")

    return check


def complete(choices: Sequence[str]) -> Callable[[str], list[str]]:
    """Shell completion over `choices`."""

    def matching(incomplete: str) -> list[str]:
        return [choice for choice in choices if choice.startswith(incomplete)]

    return matching


def check_device(value: str) -> str:
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N``."""
    head, colon, index = value.partition(":")
    if value in ("auto", "cpu", "cuda") or (head == "cuda" and colon and index.isdigit()):
        return value
    meant = usage.suggest_value(value, ("auto", "cpu", "cuda"))
    hint = f"; did you mean {meant}?" if meant else ""
    raise typer.BadParameter(f"{value!r} is not auto, cpu, cuda or cuda:N{hint}")


def check_threshold(value: str | None) -> str | None:
    """``auto``, ``off`` or a probability."""
    if value is None or value in ("auto", "off"):
        return value
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0.0 <= number <= 1.0:
        raise typer.BadParameter(f"{value!r} is not auto, off or a number from 0 to 1")
    return value


def threshold_of(value: str) -> float | Literal["auto", "off"]:
    """The value of ``--threshold`` as the Python interface takes it."""
    if value in ("auto", "off"):
        return "auto" if value == "auto" else "off"
    return float(value)


def check_far(value: float | None) -> float | None:
    """A false-accept rate: above 0 and below 1."""
    if value is not None and not 0.0 < value < 1.0:
        raise typer.BadParameter(f"{value} is not a number between 0 and 1")
    return value


def check_views(value: str | None) -> str | None:
    """``--views``: auto, raw or a number from 0 to 1."""
    if value is not None:
        views_of(value)
    return value


def views_of(value: str) -> ViewsUse:
    """The value of ``--views`` as the Python interface takes it."""
    if value in ("auto", "raw"):
        return "auto" if value == "auto" else "raw"
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0.0 <= number <= 1.0:
        raise typer.BadParameter(f"{value!r} is not auto, raw or a number from 0 to 1")
    return number


def check_unit(value: float | None) -> float | None:
    """A number from 0 to 1."""
    if value is not None and not 0.0 <= value <= 1.0:
        raise typer.BadParameter(f"{value} is not a number from 0 to 1")
    return value


VerboseFlag = Annotated[
    int,
    typer.Option(
        "--verbose", "-v", count=True, metavar="", show_default=False, callback=voice.louder,
        help="Print more on stderr; -vv prints still more.",
    ),
]  # fmt: skip
QuietFlag = Annotated[
    bool,
    typer.Option("--quiet", "-q", callback=voice.quieter, help="Print only results and errors."),
]
JsonFlag = Annotated[
    bool,
    typer.Option("--json", help="Print JSON Lines: one object per line, as soon as it is known."),
]
OverwriteFlag = Annotated[
    bool, typer.Option("--overwrite", "-y", help="Replace outputs that exist.")
]
ResultsOption = Annotated[
    Path | None,
    typer.Option("--out", "-o", metavar="F", help="Write the results to F instead of stdout."),
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="M",
        help="tiny (shipped), vit-b-32, vit-b-16, vit-l-14, NAME:random, NAME:/path/weights, a run"
        " folder or a NAME.mafsar folder. Default: the bank's own model, else tiny.",
    ),
]
EngineOption = Annotated[
    str,
    typer.Option(
        "--engine",
        metavar="|".join(ENGINES),
        callback=one_of(ENGINES),
        autocompletion=complete(ENGINES),
        help="Which engine runs the encoder.",
    ),
]
DeviceOption = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="auto|cpu|cuda[:N]",
        callback=check_device,
        autocompletion=complete(("auto", "cpu", "cuda")),
        help="Where the encoder runs.",
    ),
]
PrecisionOption = Annotated[
    str,
    typer.Option(
        "--precision",
        metavar="|".join(PRECISIONS),
        callback=one_of(PRECISIONS),
        autocompletion=complete(PRECISIONS),
        help="Precision of the graphs that run.",
    ),
]
TextOption = Annotated[
    str,
    typer.Option(
        "--text",
        metavar="|".join(TEXTS),
        callback=one_of(TEXTS),
        autocompletion=complete(TEXTS),
        help="Use class names in the scores; auto decides by leave-one-out over the support.",
    ),
]
MetricOption = Annotated[
    str | None,
    typer.Option(
        "--metric",
        metavar="|".join(METRICS),
        callback=one_of(METRICS),
        autocompletion=complete(METRICS),
        help="How the frames of two clips are compared. Default: the model's.",
    ),
]
ViewsOption = Annotated[
    str,
    typer.Option(
        "--views",
        metavar="auto|raw|W",
        callback=check_views,
        autocompletion=complete(("auto", "raw")),
        help="What features are matched by: as they are (raw), or two views of them, the change view"
        " with the weight W from 0 to 1. auto: the bank's or the model's choice.",
    ),
]
AlphaOption = Annotated[
    float | None,
    typer.Option(
        "--alpha",
        metavar="X",
        callback=check_unit,
        help="Weight of the class names, from 0 to 1. Default: the bank's.",
    ),
]
CsvOption = Annotated[Path | None, typer.Option("--csv", metavar="F", help="Also write a CSV.")]
FarOption = Annotated[
    float | None,
    typer.Option(
        "--far",
        metavar="X",
        callback=check_far,
        help="Share of clips of unknown actions that --threshold auto may take for a class, from 0"
        " to 1. Default: the bank's, else 0.05.",
    ),
]
DatasetOption = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        metavar="NAME",
        help="A standard data set: hmdb51, ucf101, kinetics100, ssv2_small or ssv2_full.",
    ),
]
RootOption = Annotated[
    Path | None, typer.Option("--root", metavar="DIR", help="Folder with the videos of --dataset.")
]
ListsOption = Annotated[
    Path | None,
    typer.Option(
        "--lists", metavar="DIR", help="Folder with the train, val and test lists of --dataset."
    ),
]
DataOption = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", help="Class folders, a CSV or a packed data set."),
]
SplitOption = Annotated[
    Path | None,
    typer.Option(
        "--split", metavar="F", help="JSON or TOML with the train, val and test classes of --data."
    ),
]
TopModel = Annotated[
    str | None,
    typer.Option("--model", metavar="M", help="The model; mafsar match --help lists the names."),
]
SkipBadFlag = Annotated[
    bool,
    typer.Option("--skip-bad", help="Go on without support clips that cannot be read."),
]
FramesPatternOption = Annotated[
    str | None,
    typer.Option(
        "--frames-pattern",
        metavar="P",
        help="Which pictures are frames in folders that hold several kinds, as img_%05d.jpg;"
        " ?start=N&fps=N after it sets the first number and the clock.",
    ),
]
IgnoreClockOption = Annotated[
    float | None,
    typer.Option(
        "--ignore-clock",
        metavar="FPS",
        help="Set the timestamps of video files aside: their frames are equally spaced, FPS a second.",
    ),
]
NoCacheFlag = Annotated[
    bool, typer.Option("--no-cache", help="Neither read nor write cached features and bundles.")
]
RoiOption = Annotated[
    str | None,
    typer.Option(
        "--roi", metavar="X,Y,W,H", help="Use only this region: pixels, or fractions from 0 to 1."
    ),
]
FitOption = Annotated[
    str | None,
    typer.Option(
        "--fit",
        metavar="crop|pad",
        callback=one_of(FITS),
        autocompletion=complete(FITS),
        help="Take the centre square, or the whole picture with bars. Default: crop.",
    ),
]
RotateOption = Annotated[
    str | None,
    typer.Option(
        "--rotate",
        metavar="0|90|180|270",
        callback=one_of(ROTATIONS),
        autocompletion=complete(ROTATIONS),
        help="Rotate the picture clockwise, degrees. Default: 0.",
    ),
]
HflipFlag = Annotated[
    bool | None,
    typer.Option("--hflip", help="Mirror the picture left to right.", show_default=False),
]


RayOption = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="[ADDRESS]",
        help="Work on a Ray cluster: auto, HOST:PORT or ray://HOST:PORT; without an address on this"
        " machine. Needs mafsar with the extra ray.",
    ),
]


def window_lengths(value: str) -> list[float] | None:
    """The value of ``--window``: lengths in seconds, or None for auto."""
    if value == "auto":
        return None
    try:
        return [float(word) for word in listed(value)]
    except ValueError:
        raise typer.BadParameter(f"--window {value!r} is not auto or seconds, as 1,3") from None


def seconds_or_auto(flag: str, value: str) -> float | None:
    """The value of a flag in seconds, or None for auto."""
    if value == "auto":
        return None
    try:
        return float(value)
    except ValueError:
        raise typer.BadParameter(f"{flag} {value!r} is not auto or seconds") from None


def listed(value: str | None) -> list[str]:
    """The items of a comma-separated list."""
    return [item.strip() for item in (value or "").split(",") if item.strip()]


def count(number: int, noun: str) -> str:
    """``1 class``, ``2 classes``, ``2 queries``."""
    if number == 1:
        return f"1 {noun}"
    plural = (
        f"{noun[:-1]}ies"
        if noun.endswith("ry")
        else f"{noun}es"
        if noun.endswith("s")
        else f"{noun}s"
    )
    return f"{number:,} {plural}"
