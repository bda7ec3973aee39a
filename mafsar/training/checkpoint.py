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

from mafsar.errors import MismatchError, MissingError
from mafsar.model.config import ModelConfig
from mafsar.model.names import ADAPTERS_FILE
from mafsar.model.weights import check_keys, read_safetensors

FOLDER = "checkpoints"
OPTIMIZER_FILE = "optimizer.safetensors"
STATE_FILE = "state.json"
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
    shutil.rmtree(folder, ignore_errors=True)
    beside.replace(folder)
    for other in folder.parent.iterdir():
        if other.name != folder.name:
            shutil.rmtree(other, ignore_errors=True)
    return folder


def last_checkpoint(run: Path) -> Path | None:
    """The newest checkpoint's folder, or None."""
    found = sorted((run / FOLDER).glob("step-*"))
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
    path = folder / STATE_FILE
    if not path.is_file():
        raise MissingError(f"{path}: missing; start the run again from the beginning")
    known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    state = RunState(**known)
    with torch.no_grad():
        for name, parameter in tuned.items():
            parameter.copy_(weights[name])
            optimizer.state[parameter] = {
                "step": torch.tensor(float(state.step)),
                **{m: moments[f"{m}.{name}"].to(parameter.device) for m in _MOMENTS},
            }
    torch.set_rng_state(moments[_RNG])
    return state


def _save(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Writes safetensors under another name, forces them to the disk and renames them."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        save_file({n: v.contiguous() for n, v in tensors.items()}, beside, metadata=metadata)
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
