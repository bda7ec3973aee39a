"""``mafsar train``: episodic training into a run folder that eval, info and match take."""

from __future__ import annotations

import dataclasses
import os
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, TextIO

import typer

from mafsar.cli import options as opt
from mafsar.cli import outputs, targets, voice
from mafsar.cli.group import EXIT_FAILED
from mafsar.cli.wording import worded
from mafsar.errors import LostProcessError
from mafsar.plain import say

if TYPE_CHECKING:
    from mafsar.training.config import TrainConfig
    from mafsar.training.dry_run import DryRun
    from mafsar.training.loop import StepReport, TrainResult

QUIET_LINES_SECONDS = 10.0
"""Without a terminal a line is printed this often."""


def train(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="key=value", help="Configuration fields, as optim.learning_rate=1e-4."
        ),
    ] = None,
    model: opt.TopModel = None,
    dataset: opt.DatasetOption = None,
    root: opt.RootOption = None,
    lists: opt.ListsOption = None,
    data: opt.DataOption = None,
    split: opt.SplitOption = None,
    frames_pattern: opt.FramesPatternOption = None,
    ignore_clock: opt.IgnoreClockOption = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="F.toml", help="TOML file with configuration fields."),
    ] = None,
    episodes: Annotated[
        int | None,
        typer.Option("--episodes", metavar="N", help="Training tasks. Default: the data set's."),
    ] = None,
    way: Annotated[
        int | None, typer.Option("--way", metavar="N", help="Classes in each episode. Default: 5.")
    ] = None,
    shot: Annotated[
        int | None,
        typer.Option("--shot", metavar="N", help="Support clips of each class. Default: 1."),
    ] = None,
    query: Annotated[
        int | None,
        typer.Option(
            "--query", metavar="N", help="Queries of each class. Default: the data set's."
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option("--seed", metavar="S", help="Seed of weights and episodes. Default: 0."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Print the configuration, the clips found, and time and memory of measured steps.",
        ),
    ] = False,
    device: opt.DeviceOption = "auto",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="RUN", help="Folder of the run. Default: runs/NAME."),
    ] = None,
    overwrite: opt.OverwriteFlag = False,
    json_lines: opt.JsonFlag = False,
    _verbose: opt.VerboseFlag = 0,
    _quiet: opt.QuietFlag = False,
) -> None:
    """Train the adapters of a CLIP on few-shot episodes; needs the train extra."""
    from mafsar.extras import require

    require("train", "torch")
    from mafsar.training.config import build_config, parse_pairs
    from mafsar.training.run_folder import free_folder, resumed_config

    flags = {
        "model.name": model, "data.dataset": dataset, "data.root": _text(root),
        "data.lists": _text(lists), "data.folder": _text(data), "data.split": _text(split),
        "data.frames_pattern": frames_pattern, "data.ignore_clock": ignore_clock,
        "episodes": episodes, "way": way, "shot": shot, "query": query, "seed": seed,
    }  # fmt: skip
    given = {name: value for name, value in flags.items() if value is not None}
    given |= parse_pairs(overrides or [])
    if resume:
        if out is None:
            raise typer.BadParameter("--resume: name the run to go on with: --out RUN (-o)")
        wanted = resumed_config(out, config, given)
    else:
        wanted = build_config(config, given)
        if out is not None:
            targets.refuse_places([("--out", out)])
        out = out or free_folder(wanted)
    leads = os.environ.get("RANK", "0") == "0"
    if dry_run:
        from mafsar.training.dry_run import dry_run as measure

        measured = measure(wanted, device=device)
        _show_dry_run(measured, json_lines)
        return
    from mafsar.training.loop import train as run

    watch = _Watch(out)
    try:
        result = run(wanted, out, device=device, resume=resume, overwrite=overwrite, report=watch)
    except LostProcessError as error:
        watch.close()
        _leave(error)
    finally:
        watch.close()
    if leads:
        outputs.say_written(result.run)
        _show(result, wanted, json_lines)


def _leave(error: LostProcessError) -> NoReturn:
    """End at once: threads of a broken process group may abort an interpreter that shuts down."""
    voice.error(worded(error))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(EXIT_FAILED)


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


class _Watch:
    """Shows the progress of a run: a bar on a terminal, else a line now and then."""

    def __init__(self, out: Path) -> None:
        self._bar = voice.ProgressBar("training", None, lines=False)
        self._out = out
        self._said = time.monotonic()
        self._validated = ""

    def __call__(self, report: StepReport) -> None:
        voice.note(f"run: {self._out}")
        found = report.validation
        if found is not None:
            self._validated = f" · validation {found.accuracy:.1f} % at step {report.step}"
        line = (
            f"mean of {opt.count(report.window, 'step')}: loss {report.loss:.3f}, accuracy"
            f" {report.accuracy:.0f} %{self._validated} · {report.episodes_per_second:.1f} episodes/s"
            f" · {_size(report.memory_bytes)}"
        )
        left = f" · {_duration(report.seconds_left)} left" if report.step < report.steps else ""
        self._bar(report.step, report.steps, line)
        due = time.monotonic() - self._said > QUIET_LINES_SECONDS
        if due or found is not None or report.step == report.steps:
            self._said = time.monotonic()
            if not self._bar.is_shown:
                voice.note(f"step {report.step}/{report.steps}: {line}{left}")

    def close(self) -> None:
        """Removes the bar."""
        self._bar.close()


def _show(result: TrainResult, config: TrainConfig, json_lines: bool) -> None:
    if json_lines:
        outputs.print_json(
            sys.stdout,
            {
                "schema": 1,
                "run": str(result.run),
                "steps": result.steps,
                "episodes": result.episodes,
                "best_step": result.best_step,
                "val_accuracy": result.val_accuracy,
                "match": dataclasses.replace(result.match, view_prior=None).to_json(),
                "seconds": round(result.seconds, 3),
            },
        )
        return
    stream: TextIO = sys.stdout
    kept = "the last weights (no validation)"
    if result.val_accuracy is not None:
        kept = f"step {result.best_step} (validation {result.val_accuracy:.2f} %)"
    say(
        stream,
        f"{result.run}: {opt.count(result.steps, 'step')}, {opt.count(result.episodes, 'episode')}"
        f" in {result.seconds:.0f} s; kept {kept}, alpha {result.match.alpha:g},"
        f" visual scale {result.match.visual_scale:g}\n",
    )
    from mafsar.training.choose_views import table

    stream.writelines(f"{line}\n" for line in table(result.candidates))
    sizes = f"--way {config.way} --shot {config.shot}"
    words = _data_words(config, result.run)
    say(stream, f"test it: mafsar eval {result.run} {words} {sizes}\n")


def _data_words(config: TrainConfig, run: Path) -> str:
    """The flags that name the same clips to `eval`."""
    from mafsar.data.auto_split import AUTO, SPLIT_FILE

    data = config.data
    read = f" --frames-pattern {shlex.quote(data.frames_pattern)}" if data.frames_pattern else ""
    read += f" --ignore-clock {data.ignore_clock:g}" if data.ignore_clock else ""
    if data.dataset:
        lists = f" --lists {data.lists}" if data.lists else ""
        return f"--dataset {data.dataset} --root {data.root}{lists}{read}"
    split = run / SPLIT_FILE if data.split == AUTO else data.split
    return f"--data {data.folder}" + (f" --split {split}" if split else "") + read


def _show_dry_run(found: DryRun, json_lines: bool) -> None:
    if json_lines:
        outputs.print_json(sys.stdout, {"schema": 1, **found.to_json()})
        return
    stream: TextIO = sys.stdout
    say(stream, found.config_toml)
    say(stream, f"\n# {found.title}\n")
    stream.writelines(
        f"# {part}: {opt.count(classes, 'class')}, {opt.count(clips, 'clip')}\n"
        for part, (classes, clips) in found.parts.items()
    )
    say(
        stream,
        f"# tuned: {found.tuned:,} parameters of {found.parameters:,}\n"
        f"# measured {opt.count(found.measured, 'step')}: {found.seconds_step:.2f} s a step of"
        f" {opt.count(found.batch, 'episode')}, {100 * found.wait_share:.0f} % of it waiting for"
        f" clips, {_size(found.memory_bytes)} on {found.device}\n"
        f"# all {found.steps:,} steps: about {_duration(found.seconds_all)} without validation\n",
    )


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
