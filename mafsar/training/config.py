"""Everything a training run can be told: frozen dataclasses, TOML in and out, `key=value`.

Every [choice] of METHOD is a field here. None means: what suits the data set (see `resolved`).
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mafsar.data.presets import Preset
from mafsar.errors import InputError, MafsarError, MissingError
from mafsar.model.names import parse_model_name
from mafsar.model.open_clip_config import config_of

OWN_DATA_EPISODES = 1_000
"""Training tasks where no preset says how many: what suffices on Kinetics (paper, table 9)."""


@dataclass(frozen=True)
class ModelFields:
    """`model.…`: what is tuned, and its sizes."""

    name: str = "tiny"
    fresh: bool = False  # adapters that the weights bring are not used but started anew
    # full: the vision tower itself, no adapters; None: adapters, full with a ResNet, which has none
    tune: Literal["adapters", "full"] | None = None
    gta: bool = True  # temporal token and Adapter_T
    lma: bool = True  # Adapter_M after the attention inside a frame
    lma_text: bool = True  # text token of the support branch
    joint: bool = True  # Adapter_J parallel to the MLP
    temporal: bool = True  # learned temporal embedding
    tpcm: bool | None = None  # prototype module; None: but for a fully tuned transformer
    ratio: float = 0.25  # adapter width / tower width
    joint_scale: float = 0.5  # s
    frames: int = 8  # T
    prompts: tuple[str, ...] = ()  # empty: the model's own


@dataclass(frozen=True)
class DataFields:
    """`data.…`: which clips, and how they are loaded."""

    dataset: str | None = None
    root: str | None = None
    lists: str | None = None
    folder: str | None = None  # --data
    split: str | None = None
    flip: bool | None = None  # mirror half of the clips; None: the preset's, off for own data
    workers: int = 2  # processes that decode ahead; 0: none


@dataclass(frozen=True)
class OptimFields:
    """`optim.…`: AdamW on a cosine schedule with warm-up."""

    learning_rate: float = 2e-4
    weight_decay: float = 0.05
    beta1: float = 0.9
    beta2: float = 0.999
    warm_up: float = 0.05  # share of the steps
    batch: int = 8  # episodes a step, over all processes
    clip_norm: float = 1.0  # of the gradient; 0: never


@dataclass(frozen=True)
class ValFields:
    """`val.…`: selection on the validation classes."""

    every: int = 100  # steps; 0: never, the last weights are kept
    episodes: int = 1_000
    clips: int = 20  # of each class at most, chosen by the seed; 0: all
    fit: bool = True  # α and visual_scale; off: as configured


@dataclass(frozen=True)
class RunFields:
    """`run.…`: how it is computed and kept."""

    precision: Literal["auto", "fp32", "bf16"] = "auto"  # auto: bf16 on CUDA, fp32 on a CPU
    recompute: bool = False  # blocks are computed again in the backward pass: less memory
    compile: bool = False  # torch.compile the encoder
    save_every: int = 25  # steps
    tensorboard: bool = True


@dataclass(frozen=True)
class TrainConfig:
    """A training run."""

    way: int = 5  # N
    shot: int = 1  # K
    query: int | None = None  # queries a class
    episodes: int | None = None  # training tasks
    seed: int = 0  # of the adapters, the episodes and text dropout
    text: bool = True  # off: class names are used nowhere
    alpha: float | None = None  # weight of the text terms of the loss
    metric: Literal["otam", "bimhm", "mean"] = "otam"
    lam: float = 0.5  # λ of OTAM
    visual_scale: float = 1.0
    smooth: float = 0.1  # label smoothing of the text losses
    text_dropout: float = 0.2  # share of episodes without class names
    model: ModelFields = field(default_factory=ModelFields)
    data: DataFields = field(default_factory=DataFields)
    optim: OptimFields = field(default_factory=OptimFields)
    val: ValFields = field(default_factory=ValFields)
    run: RunFields = field(default_factory=RunFields)

    def __post_init__(self) -> None:
        least = {
            "way": 2, "shot": 1, "query": 1, "episodes": 1, "seed": 0, "model.frames": 1,
            "data.workers": 0, "optim.batch": 1, "optim.learning_rate": 0, "optim.warm_up": 0,
            "optim.weight_decay": 0, "optim.clip_norm": 0, "val.every": 0, "val.episodes": 1,
            "val.clips": 0, "run.save_every": 1,
        }  # fmt: skip
        values = flat(self)
        for name, bound in least.items():
            if values[name] is not None and not values[name] >= bound:
                raise InputError(f"{name} must be ≥ {bound}, got {values[name]}")
        for name in ("alpha", "smooth", "text_dropout", "optim.warm_up"):
            if values[name] is not None and not 0 <= values[name] <= 1:
                raise InputError(f"{name} must be in 0–1, got {values[name]}")
        for name in ("lam", "visual_scale"):
            if not values[name] > 0:
                raise InputError(f"{name} must be > 0, got {values[name]}")

    @property
    def steps(self) -> int:
        """Optimiser steps; the last has fewer episodes where they do not divide."""
        return -(-(self.episodes or 0) // self.optim.batch)


def resolved(config: TrainConfig, preset: Preset | None) -> TrainConfig:
    """With a value for every field: the data set's own where the user said nothing.

    Args:
        config: What the user said.
        preset: The standard data set, or None for own data.
    """
    suits: dict[str, Any] = {
        "query": preset.query if preset else 1,
        "episodes": preset.training_tasks if preset else OWN_DATA_EPISODES,
        "alpha": preset.alpha if preset else 0.5,
    }
    chosen = {name: value for name, value in suits.items() if getattr(config, name) is None}
    chosen["model"] = resolved_model(config.model)
    if config.data.flip is None:
        flip = preset.flip if preset else False
        chosen["data"] = dataclasses.replace(config.data, flip=flip)
    return dataclasses.replace(config, **chosen)


def resolved_model(fields: ModelFields) -> ModelFields:
    """With a value for every field: what suits the tower that the name says."""
    try:
        resnet = not config_of(parse_model_name(fields.name)).has_tokens
    except MafsarError:
        resnet = False  # what is wrong with the name is said when it is loaded
    tune: Literal["adapters", "full"] = fields.tune or ("full" if resnet else "adapters")
    tpcm = fields.tpcm
    if tpcm is None:
        # The paper's ResNet is the method with a tower that is tuned; its fully tuned transformer
        # is the baseline that the method is compared with.
        tpcm = tune == "adapters" or resnet
    return dataclasses.replace(fields, tune=tune, tpcm=tpcm)


def build_config(file: Path | None = None, values: Mapping[str, Any] | None = None) -> TrainConfig:
    """Defaults, then a TOML file, then values by dotted name.

    Args:
        file: TOML, or None.
        values: Typed values, or their text as in `key=value`; None values count as not given.

    Raises:
        MissingError: No such file.
        InputError: An unknown key (with its nearest match), or a value of another kind.
    """
    given: dict[str, Any] = {}
    if file is not None:
        given |= {name: (value, f"{file}: ") for name, value in _read_toml(file).items()}
    given |= {name: (value, "") for name, value in (values or {}).items() if value is not None}
    kinds = _kinds()
    parts: dict[str, dict[str, Any]] = {}
    for name, (value, where) in given.items():
        if name not in kinds:
            near = difflib.get_close_matches(name, kinds, n=1, cutoff=0.5)
            ends = [known for known in kinds if known.rpartition(".")[2] == name]
            hint = (ends or near or [""])[0]
            hint = f"did you mean {hint}?" if hint else "docs/training.md lists the fields"
            raise InputError(f"{where}unknown field {name!r}; {hint}")
        section, _, key = name.rpartition(".")
        parts.setdefault(section, {})[key] = _typed(name, value, kinds[name], where)
    own = parts.pop("", {})
    default = TrainConfig()
    sections = {
        name: dataclasses.replace(getattr(default, name), **fields)
        for name, fields in parts.items()
    }
    return TrainConfig(**own, **sections)


def parse_pairs(words: Sequence[str]) -> dict[str, str]:
    """Reads `key=value` words.

    Raises:
        InputError: A word without `=`.
    """
    pairs = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise InputError(f"{word!r}: expected key=value, as in optim.learning_rate=1e-4")
        pairs[name.strip()] = value.strip()
    return pairs


def flat(config: TrainConfig) -> dict[str, Any]:
    """All fields by dotted name."""
    values: dict[str, Any] = {}
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if dataclasses.is_dataclass(value):
            inner = dataclasses.fields(value)
            values |= {f"{item.name}.{sub.name}": getattr(value, sub.name) for sub in inner}
        else:
            values[item.name] = value
    return values


def to_toml(config: TrainConfig) -> str:
    """As TOML that `build_config` reads back; fields without a value are left out."""
    lines, section = [], ""
    for name, value in flat(config).items():
        part, _, key = name.rpartition(".")
        if part != section:
            lines += ["", f"[{part}]"]
            section = part
        if value is not None:
            # JSON's strings, lists, booleans and numbers are TOML's too.
            lines.append(f"{key} = {json.dumps(value, ensure_ascii=False)}")
    return "\n".join(lines) + "\n"


def _read_toml(file: Path) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    if not file.is_file():
        raise MissingError(f"{file}: no such configuration")
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise InputError(f"{file}: not TOML ({error})") from error
    values: dict[str, Any] = {}
    for name, value in document.items():
        if isinstance(value, dict):
            values |= {f"{name}.{key}": inner for key, inner in value.items()}
        else:
            values[name] = value
    return values


def _kinds() -> dict[str, Any]:
    """The type of each field by dotted name."""
    kinds: dict[str, Any] = {}
    for name, kind in typing.get_type_hints(TrainConfig).items():
        if dataclasses.is_dataclass(kind):
            hints = typing.get_type_hints(kind)
            kinds |= {f"{name}.{key}": inner for key, inner in hints.items()}
        else:
            kinds[name] = kind
    return kinds


def _typed(name: str, value: Any, kind: Any, where: str) -> Any:
    """A value of a field's type, from TOML or from text."""
    options = typing.get_args(kind)
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        kind = next(option for option in options if option is not type(None))
        options = typing.get_args(kind)
    wrong = f"{where}{name} must be {{}}, got {value!r}"
    if typing.get_origin(kind) is Literal:
        if value in options:
            return value
        near = difflib.get_close_matches(str(value), options, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise InputError(wrong.format(f"one of {', '.join(options)}") + hint)
    if typing.get_origin(kind) is tuple:
        items = value.split("|") if isinstance(value, str) else value
        if not isinstance(items, list | tuple) or not all(isinstance(item, str) for item in items):
            raise InputError(wrong.format("a list of strings (in key=value joined by |)"))
        return tuple(item for item in items if item)
    if kind is bool:
        words = {"true": True, "on": True, "1": True, "false": False, "off": False, "0": False}
        found = value if isinstance(value, bool) else words.get(str(value).lower())
        if found is None:
            raise InputError(wrong.format("true or false"))
        return found
    if kind is str:
        return str(value)
    if isinstance(value, bool) or (kind is int and isinstance(value, float)):
        raise InputError(wrong.format("a whole number" if kind is int else "a number"))
    try:
        return kind(value)
    except (TypeError, ValueError):
        raise InputError(wrong.format("a whole number" if kind is int else "a number")) from None
