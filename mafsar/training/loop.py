"""A training run from its first step, or from its last checkpoint, to its last."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import safe_open

from mafsar.choices import Scoring
from mafsar.data.catalogue import Catalogue
from mafsar.errors import InputError, MismatchError, MissingError
from mafsar.files import write_text
from mafsar.model.names import ADAPTERS_FILE
from mafsar.training.checkpoint import (
    Progress,
    last_checkpoint,
    load_checkpoint,
    save_checkpoint,
    save_tuned,
)
from mafsar.training.config import TrainConfig, build_config, flat, resolved, to_toml
from mafsar.training.processes import team
from mafsar.training.run_log import RunLog
from mafsar.training.trainer import StepResult, Trainer, open_clips
from mafsar.training.validate import ValResult

log = logging.getLogger(__name__)

CONFIG_FILE = "config.toml"
FREE_ON_RESUME = ("data.workers", "run.save_every", "run.tensorboard", "run.recompute")
"""Fields that change nothing about the weights; a resumed run may have others."""


@dataclass(frozen=True)
class StepReport:
    """Where a run is, after every step.

    Attributes:
        step: Steps done.
        steps: Of how many.
        result: Of this step.
        accuracy: Running mean of the training accuracy, %.
        episodes_per_second: Since this process started training.
        memory_bytes: The most memory used.
        wait_share: Share of the time spent waiting for clips, 0–1.
        validation: What validation found after this step, or None.
    """

    step: int
    steps: int
    result: StepResult
    accuracy: float
    episodes_per_second: float
    memory_bytes: int
    wait_share: float
    validation: ValResult | None


@dataclass(frozen=True)
class TrainResult:
    """What a run leaves.

    Attributes:
        run: Its folder, a model for `eval`, `match` and `info`.
        steps: Optimiser steps.
        episodes: Training tasks.
        best_step: Step of the weights that were kept; the last without validation.
        val_accuracy: Theirs on the validation classes, %; None without validation.
        match: α and scales that are kept with the weights.
        seconds: Training time, over all of the run's processes.
    """

    run: Path
    steps: int
    episodes: int
    best_step: int
    val_accuracy: float | None
    match: Scoring
    seconds: float


def train(
    config: TrainConfig,
    out: Path,
    *,
    device: str = "auto",
    resume: bool = False,
    overwrite: bool = False,
    report: Callable[[StepReport], None] | None = None,
) -> TrainResult:
    """Trains a model, or goes on with a run.

    Args:
        config: What to train on what; `resolved` fills what it leaves to the data set.
        out: The run's folder.
        device: "auto", "cpu", "cuda" or "cuda:N".
        resume: Go on from the last checkpoint in `out`; from the start where there is none.
        overwrite: Replace a run that is there.
        report: Called after every step by the process that leads.

    Returns:
        What the run leaves.

    Raises:
        MissingError: Nothing to resume.
        InputError: `out` exists, or the configuration does not fit the data.
        MismatchError: The run in `out` was started with another configuration.
        TrainingError: A loss that is no number, or another process has ended.
    """
    with team(device) as members:
        catalogue = open_clips(config)
        config = resolved(config, catalogue.preset)
        if resume:
            check_same(out, config)
        elif members.leads:
            _check_folder(out, overwrite)
        run = Trainer(config, catalogue, members)
        if members.leads:
            _warn(run, catalogue)
        if members.leads and not resume:
            if out.is_dir():
                shutil.rmtree(out)
            write_text(out / CONFIG_FILE, to_toml(config))
        return _run(run, out, resume=resume, report=report)


def _warn(run: Trainer, catalogue: Catalogue) -> None:
    """Says what is other than a user may think."""
    if catalogue.missing:
        log.warning(
            "%s: %d clips are missing and are done without; mafsar data check lists them",
            catalogue.title,
            len(catalogue.missing),
        )
    if run.validator is not None and run.validator.way < run.config.way:
        way = run.validator.way
        log.warning("validation has %d classes, so its episodes are %d-way", way, way)


def saved_config(run: Path) -> TrainConfig:
    """The configuration that a run was started with.

    Raises:
        MissingError: There is no run.
    """
    if not (run / CONFIG_FILE).is_file():
        raise MissingError(f"--resume {run}: no run there; start it without --resume")
    return build_config(run / CONFIG_FILE)


def check_same(run: Path, config: TrainConfig) -> None:
    """Refuses to go on with another configuration than the run was started with.

    Raises:
        MissingError: There is no run.
        MismatchError: Names the first field that differs.
    """
    started, now = flat(saved_config(run)), flat(config)
    for name, value in now.items():
        if value != started[name] and name not in FREE_ON_RESUME:
            raise MismatchError(
                f"{run}: was started with {name}={started[name]}, not {value}; resume it without "
                "that change, or start another run"
            )


def _check_folder(out: Path, overwrite: bool) -> None:
    if out.is_dir() and any(out.iterdir()):
        if not overwrite:
            raise InputError(
                f"--out {out}: exists already; go on with --resume, replace it with --overwrite "
                "(-y), or name another"
            )
        if not (out / CONFIG_FILE).is_file():
            raise InputError(f"--out {out}: is no run, so it is not replaced; name another folder")
    elif out.exists() and not out.is_dir():
        raise InputError(f"--out {out}: is a file; name a folder")


def _run(
    run: Trainer, out: Path, *, resume: bool, report: Callable[[StepReport], None] | None
) -> TrainResult:
    done = Progress()
    last = last_checkpoint(out) if resume else None
    if last is not None:
        done = load_checkpoint(last, run.tuned, run.optimizer, run.base_sha256)
    if run.team.leads:
        records = RunLog(out, step=done.step, tensorboard=run.config.run.tensorboard)
        with contextlib.closing(records):
            done = _steps(run, out, done, records, report)
    else:
        done = _steps(run, out, done, None, None)
    return _result(run, out, done)


def _steps(
    run: Trainer,
    out: Path,
    done: Progress,
    records: RunLog | None,
    report: Callable[[StepReport], None] | None,
) -> Progress:
    config = run.config
    loader = run.episodes_from(done.step)
    batches = iter(loader)
    before, began, first = done.seconds, time.perf_counter(), done.step
    running = math.nan
    for step in range(done.step, config.steps):
        result = run.step(step, batches)
        running = (
            result.accuracy if math.isnan(running) else 0.95 * running + 0.05 * result.accuracy
        )
        done = dataclasses.replace(
            done, step=step + 1, seconds=before + time.perf_counter() - began
        )
        if records is None:
            continue
        values = asdict(result) | {"wait_share": round(loader.wait_share, 4)}
        records.write("train", done.step, values | {"seconds": round(done.seconds, 3)})
        is_last = done.step == config.steps
        found = None
        if run.validator and (done.step % config.val.every == 0 or is_last):
            found = run.validator.run(run.network, run.autocast, run.device)
            records.write("val", done.step, asdict(found))
            done = _keep_best(run, out, done, found)
        if found or is_last:
            records.draw()
        if done.step % config.run.save_every == 0 or found or is_last:
            records.sync()
            _save(run, out, done)
        if report is not None:
            per_second = (done.step - first) * config.optim.batch / (done.seconds - before)
            report(
                StepReport(
                    done.step, config.steps, result, running, per_second, run.memory_bytes(),
                    loader.wait_share, found,
                )
            )  # fmt: skip
    return done


def _keep_best(run: Trainer, out: Path, done: Progress, found: ValResult) -> Progress:
    """Keeps the weights where they are the best so far; at a tie the earlier ones stay."""
    if done.best_accuracy is not None and found.accuracy <= done.best_accuracy:
        return done
    config = dataclasses.replace(run.network.config, match=found.match)
    save_tuned(out / ADAPTERS_FILE, run.tuned, config, run.base_sha256)
    return dataclasses.replace(done, best_step=done.step, best_accuracy=found.accuracy)


def _save(run: Trainer, out: Path, done: Progress) -> None:
    save_checkpoint(out, done, run.tuned, run.optimizer, run.network.config, run.base_sha256)


def _result(run: Trainer, out: Path, done: Progress) -> TrainResult:
    config, match = run.config, run.network.config.match
    if run.team.leads:
        if done.best_step is None:
            save_tuned(out / ADAPTERS_FILE, run.tuned, run.network.config, run.base_sha256)
        match = kept_match(out)
    return TrainResult(
        run=out,
        steps=done.step,
        episodes=config.episodes or 0,
        best_step=done.best_step or done.step,
        val_accuracy=done.best_accuracy,
        match=match,
        seconds=done.seconds,
    )


def kept_match(run: Path) -> Scoring:
    """α and scales of a run's best weights."""
    with safe_open(run / ADAPTERS_FILE, framework="pt") as file:
        return Scoring(**json.loads(file.metadata()["config"])["match"])
