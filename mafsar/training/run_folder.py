"""A run's folder: its configuration, and whether it may be resumed, replaced or made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mafsar.errors import InputError, MismatchError, MissingError, option
from mafsar.files import exists, foreign_entry
from mafsar.training.config import TrainConfig, build_config, flat, read_toml

CONFIG_FILE = "config.toml"
_OWN = (
    r"config\.toml|split\.json|views\.json|metrics\.jsonl|curves\.png|adapters\.safetensors|tensorboard/.*"
    r"|checkpoints/\.?step-\d+(\.\d+\.part)?/(adapters\.safetensors|optimizer\.safetensors|state\.json)"
    r"|(.*/)?\.[^/]*\.(part|lock)"
)
"""Files of a run by their path in its folder."""
FREE_ON_RESUME = ("data.workers", "run.save_every", "run.tensorboard", "run.recompute")
"""Fields that do not affect the weights; a resumed run may change them."""


_BEFORE = {"optim.decay": "all"}
"""What a field means in a run that was started before there was such a field."""


def free_folder(config: TrainConfig) -> Path:
    """The first of `runs/NAME`, `runs/NAME-2`, … that does not exist; NAME is that of the data.

    Raises:
        InputError: There are 10 000 already.
    """
    name = config.data.dataset or Path(config.data.folder or "run").resolve().stem
    for number in range(1, 10_000):
        folder = Path("runs") / (name if number == 1 else f"{name}-{number}")
        if not folder.exists():
            return folder
    raise InputError(f"runs/{name}-…: no free name is left; name a folder with ", option("out"))


def check_folder(out: Path, overwrite: bool, inputs: Iterable[str | Path | None] = ()) -> None:
    """Refuses a folder that a new run may not have.

    Args:
        out: The folder.
        overwrite: Whether a run in it is replaced.
        inputs: What the new run reads; names that are no paths are passed over.

    Raises:
        InputError: It holds a run and `overwrite` is False, something else, more than a run, or what
            the new run reads.
    """
    if out.is_dir() and any(out.iterdir()):
        if not overwrite:
            raise InputError(
                f"{out}: exists already; resume it with ", option(resume=True),
                ", replace it with ", option(overwrite=True), ", or name another folder",
            )  # fmt: skip
        if not (out / CONFIG_FILE).is_file():
            raise InputError(f"{out}: is not a run, so it is not replaced; name another folder")
        foreign = foreign_entry(out, _OWN)
        if foreign is not None:
            raise InputError(
                f"{out}: holds {foreign!r}, which no run writes, so it is not replaced; move it, or name "
                "another folder"
            )
        whole = out.resolve()
        for each in inputs:
            if each is not None and exists(Path(each)):
                found = Path(each).resolve()
                if found == whole or whole in found.parents:
                    raise InputError(
                        f"{out}: {each} is read by the new run, so it is not replaced; name another folder"
                    )
    elif out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file; name a folder")


def saved_config(run: Path) -> TrainConfig:
    """The configuration that a run was started with.

    Raises:
        MissingError: There is no run.
    """
    if not (run / CONFIG_FILE).is_file():
        raise MissingError(
            option(resume=True), f": there is no run in {run}; start one without ", option("resume")
        )
    named = read_toml(run / CONFIG_FILE)
    older = {name: value for name, value in _BEFORE.items() if name not in named}
    return build_config(run / CONFIG_FILE, older)


def resumed_config(run: Path, file: Path | None, values: Mapping[str, Any]) -> TrainConfig:
    """A run's own configuration with the fields that a file and the user change.

    Args:
        run: The run's folder.
        file: TOML, or None; the fields that stand in it count.
        values: By dotted name, see `build_config`.

    Raises:
        MissingError: There is no run.
        InputError: See `build_config`.
    """
    started = {name: value for name, value in flat(saved_config(run)).items() if value is not None}
    if file is not None:
        named = flat(build_config(file))
        started |= {name: named[name] for name in read_toml(file)}
    return build_config(None, started | dict(values))


def check_same(run: Path, config: TrainConfig) -> None:
    """Refuses to resume a run with another configuration than it was started with.

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
