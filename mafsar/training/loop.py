"""A training run, from its first step or its last checkpoint to its last step."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import safe_open

from mafsar.choices import Scoring, check_device
from mafsar.data.auto_split import SPLIT_FILE, split_line, write_split
from mafsar.data.catalogue import Catalogue
from mafsar.errors import InputError, option
from mafsar.files import write_text
from mafsar.model.names import ADAPTERS_FILE
from mafsar.training.checkpoint import (
    RunState,
    last_checkpoint,
    load_checkpoint,
    load_tuned,
    save_checkpoint,
    save_tuned,
)
from mafsar.training.choose_views import Candidate
from mafsar.training.config import TrainConfig, build_config, flat, resolved, to_toml
from mafsar.training.processes import open_processes
from mafsar.training.run_folder import (
    CONFIG_FILE,
    check_folder,
    check_same,
    free_folder,
    resumed_config,
)
from mafsar.training.run_log import RunLog
from mafsar.training.run_split import run_split
from mafsar.training.trainer import StepResult, Trainer, open_clips
from mafsar.training.validate import ValResult
from mafsar.training.window import Window

log = logging.getLogger(__name__)

VIEWS_FILE = "views.json"


@dataclass(frozen=True)
class StepReport:
    """How far a run is, after every step.

    Attributes:
        step: Steps done.
        steps: Steps of the whole run.
        result: What this step gave.
        window: Number of steps, the last ones, that the next four are taken over.
        loss: Mean loss.
        accuracy: Mean accuracy on the training queries, %.
        episodes_per_second: Validations included.
        seconds_left: Time that the remaining steps take at this pace.
        memory_bytes: The most memory used.
        wait_share: Share of the time spent waiting for clips, 0–1.
        validation: What validation found after this step, or None.
    """

    step: int
    steps: int
    result: StepResult
    window: int
    loss: float
    accuracy: float
    episodes_per_second: float
    seconds_left: float
    memory_bytes: int
    wait_share: float
    validation: ValResult | None


@dataclass(frozen=True)
class TrainResult:
    """What a run leaves.

    Attributes:
        run: Its folder, which is a model for `load_model`, `evaluate` and the others.
        steps: Optimiser steps.
        episodes: Training episodes.
        best_step: Step of the weights that were kept; the last one without validation.
        val_accuracy: Accuracy of these weights on the validation classes, %; None without
            validation.
        match: α and scales that are kept with the weights.
        seconds: Training time, all resumptions included.
        candidates: Raw features and views as tried on the validation classes, one of them chosen;
            empty without validation.
    """

    run: Path
    steps: int
    episodes: int
    best_step: int
    val_accuracy: float | None
    match: Scoring
    seconds: float
    candidates: tuple[Candidate, ...] = ()


def train(
    config: TrainConfig | str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    *,
    data: str | os.PathLike[str] | None = None,
    split: str | os.PathLike[str] | None = None,
    dataset: str | None = None,
    root: str | os.PathLike[str] | None = None,
    lists: str | os.PathLike[str] | None = None,
    model: str | None = None,
    episodes: int | None = None,
    way: int | None = None,
    shot: int | None = None,
    query: int | None = None,
    seed: int | None = None,
    fields: Mapping[str, Any] | None = None,
    device: str = "auto",
    resume: bool = False,
    overwrite: bool = False,
    report: Callable[[StepReport], None] | None = None,
) -> TrainResult:
    """Trains a model on labelled clips, or resumes a run.

    The clips are either the user's own (`data`, `split`) or a standard data set (`dataset`, `root`,
    `lists`). Arguments that are None leave the configuration as it is.

    Args:
        config: A configuration, or the path of one in TOML. None: the defaults, or the run's own
            configuration with `resume`.
        out: The run's folder. None: `runs/NAME`, after the data, with a number if it exists.
        data: The user's own clips: class folders, a CSV or a packed data set.
        split: JSON with the train, val and test classes of `data`, or "auto": drawn by the seed
            and kept in the run's folder.
        dataset: Name of a standard data set.
        root: Folder of its videos.
        lists: Folder of its train, val and test lists.
        model: Name of the model to start from.
        episodes: Training episodes.
        way: N, classes of an episode.
        shot: K, support clips of a class.
        query: Query clips of a class.
        seed: Draws the parts that are tuned, the episodes, the crops and text dropout.
        fields: More fields of the configuration by dotted name, as
            ``{"optim.learning_rate": 1e-4, "model.gta": False}``.
        device: "auto", "cpu", "cuda" or "cuda:N".
        resume: Go on from the last checkpoint in `out`; from the start if it has none.
        overwrite: Replace the run in `out`.
        report: Called after every step, in a distributed run by its first process only.

    Returns:
        What the run leaves: its folder is a model for `load_model`, `evaluate` and the others.

    Raises:
        MissingError: There is no run to resume, or no such file.
        InputError: `out` exists, or the configuration is wrong or does not fit the data.
        MismatchError: The run in `out` was started with another configuration.
        TrainingError: A loss is not a finite number, or another process has ended.
    """
    named = {
        "data.folder": data, "data.split": split, "data.dataset": dataset, "data.root": root,
        "data.lists": lists, "model.name": model, "episodes": episodes, "way": way, "shot": shot,
        "query": query, "seed": seed,
    }  # fmt: skip
    given = {name: value for name, value in named.items() if value is not None}
    config = _configured(config, given | dict(fields or {}), out, resume=resume)
    folder = free_folder(config) if out is None else Path(out)
    check_device(device)
    with open_processes(device) as processes:
        drawn = run_split(config, folder if resume else None)
        catalogue = open_clips(config, drawn)
        config = resolved(config, catalogue.preset)
        if resume:
            check_same(folder, config)
        elif processes.leads:
            read = (config.model.name, config.data.folder, config.data.split, config.data.lists)
            check_folder(folder, overwrite, read)
        run = Trainer(config, catalogue, processes)
        if processes.leads:
            _warn(run, catalogue)
        if processes.leads and not resume:
            if folder.is_dir():
                shutil.rmtree(folder)
            write_text(folder / CONFIG_FILE, to_toml(config))
            if drawn is not None:
                drawn = replace(drawn, path=folder / SPLIT_FILE)
                write_split(drawn)
                log.warning("%s: drawn by seed %d: %s", drawn.path, config.seed, split_line(drawn))
        return _run(run, folder, resume=resume, report=report)


def _configured(
    config: TrainConfig | str | os.PathLike[str] | None,
    given: Mapping[str, Any],
    out: str | os.PathLike[str] | None,
    *,
    resume: bool,
) -> TrainConfig:
    if resume and out is None:
        raise InputError(option(resume=True), ": name the run's folder with ", option("out"))
    if isinstance(config, TrainConfig):
        return build_config(None, {**flat(config), **given})
    file = None if config is None else Path(config)
    if resume and out is not None:
        return resumed_config(Path(out), file, given)
    return build_config(file, given)


def _warn(run: Trainer, catalogue: Catalogue) -> None:
    """Logs what a user may not expect."""
    if catalogue.missing:
        log.warning(
            "%s: %d clips are missing and will not be used; mafsar data check lists them",
            catalogue.title,
            len(catalogue.missing),
        )
    if run.validator is not None and run.validator.way < run.config.way:
        way = run.validator.way
        log.warning("validation has %d classes, so its episodes are %d-way", way, way)


def _run(
    run: Trainer, out: Path, *, resume: bool, report: Callable[[StepReport], None] | None
) -> TrainResult:
    done = RunState()
    last = last_checkpoint(out) if resume else None
    if last is not None:
        done = load_checkpoint(last, run.tuned, run.optimizer, run.base_sha256)
    if run.processes.leads:
        records = RunLog(out, step=done.step, tensorboard=run.config.run.tensorboard)
        with contextlib.closing(records):
            done = _steps(run, out, done, records, report)
    else:
        done = _steps(run, out, done, None, None)
    return _result(run, out, done)


def _steps(
    run: Trainer,
    out: Path,
    done: RunState,
    records: RunLog | None,
    report: Callable[[StepReport], None] | None,
) -> RunState:
    config = run.config
    loader = run.episodes_from(done.step)
    batches = iter(loader)
    before, began = done.seconds, time.perf_counter()
    window = Window(began)
    for step in range(done.step, config.steps):
        result = run.step(step, batches)
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
            records.write("val", done.step, asdict(found) | {"match": found.match.to_json()})
            done = _keep_best(run, out, done, found)
        run.say_repairs(loader)
        if found or is_last:
            records.draw()
        if done.step % config.run.save_every == 0 or found or is_last:
            records.sync()
            _save(run, out, done)
        if report is not None:
            window.add(result.loss, result.accuracy, time.perf_counter())
            report(
                StepReport(
                    step=done.step,
                    steps=config.steps,
                    result=result,
                    window=len(window),
                    loss=window.loss,
                    accuracy=window.accuracy,
                    episodes_per_second=config.optim.batch / window.seconds_step,
                    seconds_left=(config.steps - done.step) * window.seconds_step,
                    memory_bytes=run.memory_bytes(),
                    wait_share=loader.wait_share,
                    validation=found,
                )
            )
    return done


def _keep_best(run: Trainer, out: Path, done: RunState, found: ValResult) -> RunState:
    """Keeps the weights if they are the best so far; at a tie the earlier ones stay."""
    if done.best_accuracy is not None and found.accuracy <= done.best_accuracy:
        return done
    config = dataclasses.replace(run.network.config, match=found.match)
    save_tuned(out / ADAPTERS_FILE, run.tuned, config, run.base_sha256)
    return dataclasses.replace(done, best_step=done.step, best_accuracy=found.accuracy)


def _save(run: Trainer, out: Path, done: RunState) -> None:
    save_checkpoint(out, done, run.tuned, run.optimizer, run.network.config, run.base_sha256)


def _result(run: Trainer, out: Path, done: RunState) -> TrainResult:
    config, match = run.config, run.network.config.match
    candidates: list[Candidate] = []
    if run.processes.leads:
        if done.best_step is None:
            save_tuned(out / ADAPTERS_FILE, run.tuned, run.network.config, run.base_sha256)
        else:
            candidates = _choose_views(run, out)
        match = kept_match(out)
    return TrainResult(
        run=out,
        steps=done.step,
        episodes=config.episodes or 0,
        best_step=done.best_step or done.step,
        val_accuracy=done.best_accuracy,
        match=match,
        seconds=done.seconds,
        candidates=tuple(candidates),
    )


def _choose_views(run: Trainer, out: Path) -> list[Candidate]:
    """Chooses between raw features and views, from the kept weights, and keeps the choice.

    The grid is written to `views.json`, too.
    """
    load_tuned(out / ADAPTERS_FILE, run.tuned)
    tried = run.choose_views(run.network.config.match)
    if not tried:
        return []
    rows = [candidate.to_json() for candidate in tried]
    write_text(out / VIEWS_FILE, json.dumps({"schema": 1, "candidates": rows}, indent=1) + "\n")
    match = next(candidate.match for candidate in tried if candidate.chosen)
    config = dataclasses.replace(run.network.config, match=match)
    save_tuned(out / ADAPTERS_FILE, run.tuned, config, run.base_sha256)
    return tried


def kept_match(run: Path) -> Scoring:
    """α and scales of the weights that a run kept."""
    with safe_open(run / ADAPTERS_FILE, framework="pt") as file:
        return Scoring.from_json(json.loads(file.metadata()["config"])["match"])
