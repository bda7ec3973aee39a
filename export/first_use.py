"""Makes the bundle of a model in the cache when the model is first used.

Only the export loads torch; the second use of the model needs neither torch nor an export.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from mafsar.choices import PRECISIONS, Precision
from mafsar.errors import InputError, MafsarError, MissingError, option
from mafsar.export.bundle_folder import locked, unwritable
from mafsar.export.job import export_locked
from mafsar.extras import require
from mafsar.files import is_file
from mafsar.model.config import ModelConfig, VisionConfig, parameter_counts
from mafsar.model.names import ADAPTERS_FILE, SHIPPED, graph_file, parse_model_name
from mafsar.model.open_clip_config import config_of
from mafsar.runtime.cache.bundles import (
    begun_path,
    find_kept,
    kept_path,
    make_room,
)
from mafsar.runtime.cache.room import discard_kept
from mafsar.runtime.engines.bundle import read_manifest

_NEEDS = ("torch", "open_clip", "onnx", "onnxscript")
Say = Callable[[str], None]

# Measured with vit-b-32:random and vit-b-16:random; see `expected_seconds`.
_CLIPS_VERIFIED = 44  # runs of a clip: the reference's, those of the graphs, and of the trace
_FIXED, _TRACE = 12.0, 8.0  # seconds: imports and the text tower; each visual branch
_SECONDS_A_PARAMETER = 5e-8  # writing, hashing and reading weights


def make_kept(
    name: str,
    precision: Precision = "fp32",
    *,
    say: Say = lambda _: None,
    step: Say = lambda _: None,
    begin: Callable[[float | None], None] = lambda _: None,
) -> Path:
    """The cached bundle of a model, which is made and verified where there is none yet.

    Several processes may call this at once: one makes the bundle, the others wait for it. The
    bundle is renamed into place when it is complete, so an interrupted one is never found; the next
    call goes on from the graphs that were traced.

    Args:
        name: A CLIP's name, a run folder or trained adapters.
        precision: "fp32", which every bundle has, or "fp16", whose graphs are added when they are
            first asked for.
        say: Called with one line when a bundle was made: its path, how long it took, its size.
        step: Called with a line when a step begins.
        begin: Called before anything is made, with the seconds that it will take, or None if
            they are not known.

    Raises:
        UnavailableError: The packages that an export needs are not installed, or it failed.
        InputError: No such model, or the cache cannot be written.
    """
    kept = find_kept(name)
    if kept is not None and _has(kept, precision):
        return kept
    require(
        f"{name}: making its bundle at first use",
        *_NEEDS,
        otherwise=("use ", option(model=SHIPPED)),
    )
    path = kept_path(name)
    try:
        with locked(path):
            kept = find_kept(name)
            if kept is not None and _has(kept, precision):
                return kept
            began = time.perf_counter()
            begin(expected_seconds(name) if kept is None else None)
            try:
                if kept is None:
                    _make(name, path, step)
                if not _has(path, precision):
                    export_locked(str(path), path, say=step, precision=precision)
            except InputError:
                raise  # about the user's file: another engine would not read it either
            except MafsarError as error:
                raise type(error)(
                    error, f" (first use of {name}; ", option(engine="torch"), " needs no bundle)"
                ) from error
            removed = make_room(path)
    except OSError as error:
        remedy = (
            "set MAFSAR_CACHE to a folder that you can write, or use ",
            option(engine="torch"),
        )
        raise unwritable(path.parent, error, *remedy) from error
    size = sum(file.stat().st_size for file in path.iterdir())
    also = f"; removed {', '.join(removed)} to keep the cache under its cap" if removed else ""
    say(
        f"first use of {name}: made its bundle {path} in {time.perf_counter() - began:.0f} s "
        f"({size / 1e6:.0f} MB, {' and '.join(_precisions(path))} verified); from now on without "
        f"torch{also}"
    )
    return path


def _precisions(path: Path) -> list[str]:
    """The precisions whose graphs a bundle lists."""
    return [
        each for each in PRECISIONS if graph_file("query", each) in read_manifest(path)["files"]
    ]


def _has(path: Path, precision: str) -> bool:
    """Whether nothing is to be added to a bundle; int8 graphs are not made at first use."""
    try:
        return precision != "fp16" or precision in _precisions(path)
    except MafsarError:
        return True  # damaged: opening it says so


def _make(name: str, path: Path, step: Say) -> None:
    """Makes the fp32 bundle; graphs that were traced are kept until it is verified."""
    begun = begun_path(path)
    with locked(begun):
        try:
            export_locked(name, path, say=step, precision="fp32", begun=begun)
        except MafsarError:
            discard_kept(begun)  # graphs that did not pass are not tried again
            raise
        discard_kept(begun)


def expected_seconds(name: str) -> float | None:
    """How long a first use takes here, about: from the model's size and this machine's speed.

    Args:
        name: A CLIP's name, a run folder or trained adapters.

    Returns:
        Seconds; None where only loading the model would say its size.
    """
    try:
        config = _config_of(name)
    except (MafsarError, SafetensorError, OSError, ValueError, KeyError, TypeError, RecursionError):
        return None  # what is wrong is said when it is loaded
    vision = config.vision
    if not isinstance(vision, VisionConfig):
        return None
    # Products of a block: 4 D² of attention and 2 · mlp_ratio · D², for each token.
    weights = vision.layers * vision.width**2 * (4 + 2 * vision.mlp_ratio)
    operations = 2 * weights * (vision.patches + 1) * config.frames
    branches = 1 if config.adapters is None else 2
    rate = _operations_a_second()
    total, _ = parameter_counts(config)
    return (
        _FIXED
        + branches * (_TRACE + _CLIPS_VERIFIED * operations / rate)
        + total * _SECONDS_A_PARAMETER
    )


def _config_of(name: str) -> ModelConfig:
    path = Path(name).expanduser()
    if not path.exists():
        return config_of(parse_model_name(name)).plain()
    file_path = path / ADAPTERS_FILE if path.is_dir() else path
    if not is_file(file_path):  # a pipe would be waited for
        raise MissingError(f"{file_path}: no such file")
    with safe_open(file_path, framework="np") as file:
        return ModelConfig.from_json(json.loads(file.metadata()["config"]))


def _operations_a_second() -> float:
    """The rate of this machine's matrix products, in float32."""
    size = 512
    a = np.full((size, size), 0.5, np.float32)
    best = math.inf
    for _ in range(6):
        began = time.perf_counter()
        np.dot(a, a)
        best = min(best, time.perf_counter() - began)
    return float(2 * size**3 / best)
