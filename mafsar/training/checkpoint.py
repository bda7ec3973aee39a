"""Checkpoints: the tuned weights and the state of the optimiser and the generator, without pickle.

A checkpoint is a folder that is written under another name and renamed, so that it is complete or
does not exist. Its tuned weights have the format of a run folder's `adapters.safetensors`, so a
checkpoint is a model, too.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from mafsar.documents import number, optional, parse_json, read_text, record, whole
from mafsar.errors import InputError, MismatchError, MissingError
from mafsar.files import is_file, own_folders
from mafsar.model.config import ModelConfig
from mafsar.model.names import ADAPTERS_FILE
from mafsar.model.weights import check_keys, read_safetensors

FOLDER = "checkpoints"
OPTIMIZER_FILE = "optimizer.safetensors"
STATE_FILE = "state.json"
_NAME = r"step-\d{8,}"
_STATE = record(
    {
        "step": whole(1, 1_000_000_000),
        "best_step": optional(whole(1, 1_000_000_000)),
        "best_accuracy": optional(number(least=0.0, most=100.0)),
        "seconds": number(least=0.0),
    }
)
_MOMENTS = ("exp_avg", "exp_avg_sq")
_RNG = "rng.cpu"


@dataclass(frozen=True)
class RunState:
    """How far a run is.

    Attributes:
        step: Optimiser steps done.
        best_step: Step of the best weights on the validation classes; None before the first
            validation.
        best_accuracy: Accuracy of these weights, %; None before the first validation.
        seconds: Training time so far.
    """

    step: int = 0
    best_step: int | None = None
    best_accuracy: float | None = None
    seconds: float = 0.0


def save_tuned(
    path: Path, tuned: Mapping[str, Tensor], config: ModelConfig, base_sha256: str
) -> None:
    """Writes the tuned weights; the towers are not stored but named by their hash.

    Args:
        path: The file, `.safetensors`.
        tuned: Tensors by name.
        config: The whole model's configuration, with the α and scales that belong to the weights.
        base_sha256: Hash of the towers that the run started from.
    """
    metadata = {
        "format": "mafsar-weights-1",
        "config": json.dumps(config.to_json(), sort_keys=True),
        "base_sha256": base_sha256,
    }
    _save(path, {name: value.detach().cpu() for name, value in tuned.items()}, metadata)


def load_tuned(path: Path, tuned: Mapping[str, Tensor]) -> None:
    """Fills the tuned weights from a file of `save_tuned`."""
    weights, _ = read_safetensors(path)
    with torch.no_grad():
        for name, parameter in tuned.items():
            parameter.copy_(weights[name])


def save_checkpoint(
    run: Path,
    state: RunState,
    tuned: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    config: ModelConfig,
    base_sha256: str,
) -> Path:
    """Writes a checkpoint and removes the older ones.

    Args:
        run: The run's folder.
        state: How far the run is.
        tuned: The optimiser's parameters by name, in its order.
        optimizer: AdamW, after at least one step.
        config: See `save_tuned`.
        base_sha256: See `save_tuned`.

    Returns:
        Its folder.
    """
    folder = run / FOLDER / f"step-{state.step:08d}"
    beside = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    save_tuned(beside / ADAPTERS_FILE, tuned, config, base_sha256)
    moments = {
        f"{moment}.{name}": optimizer.state[parameter][moment].detach().cpu()
        for name, parameter in tuned.items()
        for moment in _MOMENTS
    }
    _save(beside / OPTIMIZER_FILE, moments | {_RNG: torch.get_rng_state()}, {})
    (beside / STATE_FILE).write_text(json.dumps(asdict(state)) + "\n", encoding="utf-8")
    _to_disk(beside / STATE_FILE, beside)
    shutil.rmtree(folder, ignore_errors=True)
    beside.replace(folder)
    _to_disk(folder.parent)  # before the older ones are removed: a power cut leaves one of them
    for other in own_folders(folder.parent, rf"{_NAME}|\.{_NAME}\.\d+\.part"):
        if other.name != folder.name:
            shutil.rmtree(other, ignore_errors=True)
    return folder


def last_checkpoint(run: Path) -> Path | None:
    """The newest checkpoint's folder, or None; other files and folders are passed over."""
    found = sorted(own_folders(run / FOLDER, _NAME))
    return found[-1] if found else None


def load_checkpoint(
    folder: Path,
    tuned: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    base_sha256: str,
) -> RunState:
    """Fills the tuned weights and the optimiser, and returns how far the run was.

    Raises:
        MissingError: A file of the checkpoint is missing.
        InputError: A file is damaged.
        MismatchError: It belongs to another model or to other towers.
    """
    weights, metadata = read_safetensors(folder / ADAPTERS_FILE)
    check_keys(weights, {n: v.shape for n, v in tuned.items()}, what=str(folder / ADAPTERS_FILE))
    if metadata.get("base_sha256") != base_sha256:
        raise MismatchError(
            f"{folder}: trained on other towers than the model has here; restore the weights that "
            "the run started from"
        )
    moments, _ = read_safetensors(folder / OPTIMIZER_FILE)
    _check_moments(folder / OPTIMIZER_FILE, moments, tuned)
    path = folder / STATE_FILE
    if not is_file(path):
        raise MissingError(f"{path}: missing; start the run again from the beginning")
    known: dict[str, Any] = parse_json(read_text(path), str(path))
    try:
        _STATE(known, "")
        torch.set_rng_state(moments[_RNG])
    except (InputError, RuntimeError) as error:
        raise InputError(
            f"{path}: damaged ({str(error).splitlines()[0]}); start the run again from the beginning"
        ) from error
    state = RunState(**known)
    with torch.no_grad():
        for name, parameter in tuned.items():
            parameter.copy_(weights[name])
            optimizer.state[parameter] = {
                "step": torch.tensor(float(state.step)),
                **{m: moments[f"{m}.{name}"].to(parameter.device) for m in _MOMENTS},
            }
    return state


def _check_moments(path: Path, moments: Mapping[str, Tensor], tuned: Mapping[str, Tensor]) -> None:
    """Refuses the state of an optimiser of other tensors, or with values that no step gives."""
    shapes = {f"{moment}.{name}": v.shape for name, v in tuned.items() for moment in _MOMENTS}
    check_keys(moments, shapes | {_RNG: torch.get_rng_state().shape}, what=str(path))
    wrong = [
        n for n in shapes if not (moments[n].is_floating_point() and moments[n].isfinite().all())
    ]
    if wrong or moments[_RNG].dtype != torch.uint8:
        raise InputError(
            f"{path}: {(wrong or [_RNG])[0]} is damaged; start the run again from the beginning"
        )


def _save(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Writes safetensors under another name, forces them to the disk and renames them."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        save_file({n: v.contiguous() for n, v in tensors.items()}, beside, metadata=metadata)
        _to_disk(beside)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _to_disk(*paths: Path) -> None:
    """Waits until files, or the names in folders, are on the disk."""
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
