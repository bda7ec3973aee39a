"""``mafsar synth``: renders a labelled action data set."""

from __future__ import annotations

import shlex
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mafsar.cli import options as opt
from mafsar.cli import outputs, targets, voice
from mafsar.plain import say

if TYPE_CHECKING:
    from mafsar.synthetic.sets.recipe import Recipe

SETS = ("motions", "people", "objects", "stream")
CLIPS, STREAMS = 20, 2
"""Clips a class and long videos, where ``--clips`` does not say."""
CLIP_SECONDS, STREAM_SECONDS = 2.0, 120.0
USUAL_WAY = 5
"""Classes of an episode in `eval` and `train`, where ``--way`` does not say."""


def synth(
    out: Annotated[
        Path | None, typer.Argument(metavar="OUT", help="Folder to write the clips to.")
    ] = None,
    classes: Annotated[
        int | None,
        typer.Option(
            "--classes", min=1, metavar="N", help="Number of classes. Default: 20; 5 for a stream."
        ),
    ] = None,
    clips: Annotated[
        int | None,
        typer.Option(
            "--clips",
            min=1,
            metavar="N",
            help=f"Clips of each class, or long videos of a stream. Default: {CLIPS}; {STREAMS} for a"
            " stream.",
        ),
    ] = None,
    size: Annotated[
        int,
        typer.Option(
            "--size", metavar="PX", help="Side of the pictures, an even number of pixels."
        ),
    ] = 112,
    seed: Annotated[
        int, typer.Option("--seed", metavar="S", help="The same seed gives the same pixels.")
    ] = 0,
    kind: Annotated[
        str,
        typer.Option(
            "--set",
            metavar="|".join(SETS),
            callback=opt.one_of(SETS),
            autocompletion=opt.complete(SETS),
            help="All actions; those of people; those of hands and things; or long videos with"
            " actions at known times.",
        ),
    ] = "motions",
    seconds: Annotated[
        float | None,
        typer.Option(
            "--seconds",
            metavar="X",
            help=f"Usual length of a clip. Default: {CLIP_SECONDS:g}; {STREAM_SECONDS:g} for a stream.",
        ),
    ] = None,
    fps: Annotated[float, typer.Option("--fps", metavar="X", help="Frames per second.")] = 12.0,
    photos: Annotated[
        bool,
        typer.Option(
            "--photos",
            help="Use photographs of scikit-image and scikit-learn for some places.",
        ),
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, metavar="N", help="Processes. Default: one per core."),
    ] = None,
    out_option: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="OUT", help="The same as OUT.")
    ] = None,
    overwrite: opt.OverwriteFlag = False,
    json_lines: opt.JsonFlag = False,
    _verbose: opt.VerboseFlag = 0,
    _quiet: opt.QuietFlag = False,
) -> None:
    """Render a labelled action data set; half of the actions are others played backwards."""
    from mafsar.synthetic.sets.files import clear
    from mafsar.synthetic.sets.recipe import Recipe, choose_classes

    folder = _target(out, out_option)
    streamed = kind == "stream"
    recipe = Recipe(
        kind=kind,  # type: ignore[arg-type]
        classes=classes or (5 if streamed else 20),
        clips=clips or (STREAMS if streamed else CLIPS),
        size=size,
        seed=seed,
        seconds=seconds or (STREAM_SECONDS if streamed else CLIP_SECONDS),
        fps=fps,
        photos=photos,
    )
    choose_classes(recipe)  # refuses what cannot be, before anything is removed
    if not overwrite:
        targets.refuse_existing({"OUT": folder})
    clear(folder)
    outputs.make_folder("OUT", folder)
    (_render_streams if streamed else _render_clips)(folder, recipe, workers, json_lines)
    outputs.say_written(folder)


def _target(out: Path | None, option: Path | None) -> Path:
    if (out is None) == (option is None):
        raise typer.BadParameter("name one folder to render into, e.g. mafsar synth clips/")
    return out or option or Path()


def _render_clips(folder: Path, recipe: Recipe, workers: int | None, json_lines: bool) -> None:
    from dataclasses import asdict

    from mafsar.data.splits import PARTS
    from mafsar.synthetic.sets.dataset import write_dataset

    began = time.perf_counter()
    parts: dict[str, str] = {}
    count = 0
    with voice.progress("rendering") as bar:
        for clip in write_dataset(folder, recipe, workers=workers, progress=bar):
            count += 1
            parts[clip.label] = clip.part
            if json_lines:
                outputs.print_json(sys.stdout, {"schema": 1, **asdict(clip)})
    sizes = Counter(parts.values())
    taken = time.perf_counter() - began
    if json_lines:
        outputs.print_json(
            sys.stdout,
            _summary(folder, recipe, taken)
            | {"classes": {part: sizes[part] for part in PARTS}, "clips": count},
        )
        return
    shares = ", ".join(f"{sizes[part]} {part}" for part in PARTS)
    say(
        sys.stdout,
        f"{folder}: {opt.count(len(parts), 'class')} ({shares}), {opt.count(count, 'clip')} of "
        f"{recipe.size}×{recipe.size} · {taken:.1f} s\n"
        + "".join(f"  {line}\n" for line in _next_commands(folder, sizes, recipe)),
    )


def _next_commands(folder: Path, sizes: Mapping[str, int], recipe: Recipe) -> list[str]:
    """Commands that take this very set: with as many classes as its parts have."""
    if recipe.clips < 2:
        return []  # an episode needs a support clip and a query of each class
    data = f"--data {shlex.quote(str(folder))}"
    split = f"{data} --split {shlex.quote(str(folder / 'split.json'))}"
    lines = []
    if sizes["test"] >= 2:
        lines.append(f"mafsar eval tiny {split}{_way(sizes['test'])}")
    elif sum(sizes.values()) >= 2:
        lines.append(f"mafsar eval tiny {data}{_way(sum(sizes.values()))}")
    if sizes["train"] >= 2:
        without = "" if sizes["val"] >= 2 else " val.every=0"
        lines.append(f"mafsar train {split}{_way(sizes['train'])}{without}")
    return lines


def _way(classes: int) -> str:
    """The flag for episodes of fewer classes than the usual five."""
    return f" --way {classes}" if classes < USUAL_WAY else ""


def _render_streams(folder: Path, recipe: Recipe, workers: int | None, json_lines: bool) -> None:
    from mafsar.synthetic.sets.dataset import write_streams

    began = time.perf_counter()
    count, events = 0, 0
    with voice.progress("rendering") as bar:
        for stream in write_streams(folder, recipe, workers=workers, progress=bar):
            count += 1
            events += len(stream.events)
            if json_lines:
                outputs.print_json(
                    sys.stdout,
                    {
                        "schema": 1,
                        "path": stream.path,
                        "truth": stream.truth,
                        "seconds": stream.seconds,
                        "events": len(stream.events),
                    },
                )
    taken = time.perf_counter() - began
    if json_lines:
        outputs.print_json(
            sys.stdout, _summary(folder, recipe, taken) | {"streams": count, "events": events}
        )
        return
    say(
        sys.stdout,
        f"{folder}: {opt.count(count, 'long video')} of {recipe.seconds:g} s with "
        f"{opt.count(events, 'event')} in streams/, clips of {opt.count(recipe.classes, 'class')} "
        f"in support/ · {taken:.1f} s\n",
    )


def _summary(folder: Path, recipe: Recipe, seconds: float) -> dict[str, Any]:
    return {
        "schema": 1,
        "out": str(folder),
        "set": recipe.kind,
        "size": recipe.size,
        "seed": recipe.seed,
        "seconds": seconds,
    }
