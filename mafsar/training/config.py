"""The configuration of a training run: frozen dataclasses, read from TOML or `key=value`.

Every [choice] of METHOD is a field here. None stands for the data set's own value (see `resolved`).
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mafsar.choices import Metric
from mafsar.data.presets import Preset
from mafsar.documents import parse_toml, read_text, shortened
from mafsar.errors import ArgumentTypeError, InputError, MafsarError, MissingError
from mafsar.files import is_file
from mafsar.model.names import parse_model_name
from mafsar.model.open_clip_config import config_of
from mafsar.training.fields import DataFields, ModelFields, OptimFields, RunFields, ValFields
from mafsar.training.ranges import LONGEST_TEXT, MOST_DRAWN, MOST_PROMPTS, RANGES
from mafsar.training.values import checked, typed
from mafsar.video.rates import check_clock

OWN_DATA_EPISODES = 1_000
"""Training episodes where no preset gives a number: enough for Kinetics (paper, table 9)."""


@dataclass(frozen=True, init=False)
class TrainConfig:
    """The configuration of a training run: what to train on which clips, and how."""

    way: int
    shot: int
    query: int | None
    episodes: int | None
    seed: int
    text: bool
    alpha: float | None
    metric: Metric
    lam: float
    visual_scale: float
    smooth: float
    text_dropout: float
    model: ModelFields
    data: DataFields
    optim: OptimFields
    val: ValFields
    run: RunFields

    def __init__(
        self,
        *,
        data: DataFields | Mapping[str, Any] | str | os.PathLike[str] | None = None,
        model: ModelFields | Mapping[str, Any] | str | None = None,
        way: int = 5,
        shot: int = 1,
        query: int | None = None,
        episodes: int | None = None,
        seed: int = 0,
        text: bool = True,
        alpha: float | None = None,
        metric: Metric = "otam",
        lam: float = 0.5,
        visual_scale: float = 1.0,
        smooth: float = 0.1,
        text_dropout: float = 0.2,
        optim: OptimFields | Mapping[str, Any] | None = None,
        val: ValFields | Mapping[str, Any] | None = None,
        run: RunFields | Mapping[str, Any] | None = None,
    ) -> None:
        """Checks every value.

        Args:
            data: The clips: own clips by path, or `DataFields`, or a mapping of its fields.
            model: The model to start from by name, or `ModelFields`, or a mapping of its fields.
            way: N, classes of an episode.
            shot: K, support clips of a class.
            query: Query clips of a class. None: as the data set's preset says; 1 for own clips.
            episodes: Training episodes. None: as the preset says; 1000 for own clips.
            seed: Draws the parts that are tuned, the episodes, the crops and text dropout.
            text: False uses class names nowhere.
            alpha: α, weight of the text terms of the loss. None: as the preset says; 0.5 for own
                clips.
            metric: Distance between two sequences of frames.
            lam: λ of OTAM.
            visual_scale: Factor on the visual logits.
            smooth: Label smoothing of the text losses.
            text_dropout: Share of the episodes without class names.
            optim: `OptimFields`, or a mapping of its fields.
            val: `ValFields`, or a mapping of its fields.
            run: `RunFields`, or a mapping of its fields.

        Raises:
            InputError: An unknown field, or a value of another kind or out of range.
            ArgumentTypeError: A section that is neither its dataclass nor a mapping.
        """
        if isinstance(data, (str, os.PathLike)):
            data = {"folder": os.fspath(data)}
        if isinstance(model, str):
            model = {"name": model}
        given = {
            "way": way, "shot": shot, "query": query, "episodes": episodes, "seed": seed,
            "text": text, "alpha": alpha, "metric": metric, "lam": lam,
            "visual_scale": visual_scale, "smooth": smooth, "text_dropout": text_dropout,
            "model": _section("model", ModelFields, model),
            "data": _section("data", DataFields, data),
            "optim": _section("optim", OptimFields, optim),
            "val": _section("val", ValFields, val),
            "run": _section("run", RunFields, run),
        }  # fmt: skip
        hints = typing.get_type_hints(TrainConfig)
        for name, value in given.items():
            if name not in _SECTIONS:
                value = checked(name, value, hints[name])
            object.__setattr__(self, name, value)
        self._check_ranges()

    def _check_ranges(self) -> None:
        values = flat(self)
        for name, value in values.items():
            if name in RANGES and value is not None:
                RANGES[name].check(name, value)
            elif isinstance(value, str) and (len(value) > LONGEST_TEXT or "\0" in value):
                raise InputError(
                    f"{name} must be a text of up to {LONGEST_TEXT} characters without NUL, got "
                    f"{shortened(value)}"
                )
        if len(self.model.prompts) > MOST_PROMPTS:
            raise InputError(
                f"model.prompts must be up to {MOST_PROMPTS} texts, got {len(self.model.prompts)}"
            )
        drawn = (self.episodes or 1) * self.way * (1 + self.shot + (self.query or 1))
        if drawn > MOST_DRAWN:
            raise InputError(
                f"episodes × way × (1 + shot + query) must be ≤ {MOST_DRAWN:,}, got {drawn:,}; "
                "lower episodes"
            )
        check_clock(self.data.ignore_clock)

    @property
    def steps(self) -> int:
        """Optimiser steps; the last one has the episodes that remain."""
        return -(-(self.episodes or 0) // self.optim.batch)


def resolved(config: TrainConfig, preset: Preset | None) -> TrainConfig:
    """A configuration with a value in every field.

    Args:
        config: Where a field is None, the data set's own value is taken.
        preset: The standard data set; None for own clips.
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
    """The same with a value in every field, as suits the tower of the named model."""
    try:
        resnet = not config_of(parse_model_name(fields.name)).has_tokens
    except MafsarError:
        resnet = False  # loading the model explains what is wrong with its name
    tune: Literal["adapters", "full"] = fields.tune or ("full" if resnet else "adapters")
    tpcm = fields.tpcm
    if tpcm is None:
        # In the paper a tuned ResNet is the method itself; a fully tuned transformer is the
        # baseline that the method is compared with.
        tpcm = tune == "adapters" or resnet
    return dataclasses.replace(fields, tune=tune, tpcm=tpcm)


def build_config(file: Path | None = None, values: Mapping[str, Any] | None = None) -> TrainConfig:
    """Builds a configuration from the defaults, a TOML file and values by dotted name, in turn.

    Args:
        file: TOML, or None.
        values: Typed values, or their text as in `key=value`; a value of None is passed over.

    Raises:
        MissingError: No such file.
        InputError: An unknown key (with its nearest match), or a value of another kind.
    """
    given: dict[str, Any] = {}
    if file is not None:
        given |= {name: (value, f"{file}: ") for name, value in read_toml(file).items()}
    given |= {name: (value, "") for name, value in (values or {}).items() if value is not None}
    kinds = _kinds()
    fields: dict[str, Any] = {}
    for name, (value, where) in given.items():
        if name not in kinds:
            raise _unknown(name, where)
        section, _, key = name.rpartition(".")
        part = fields.setdefault(section, {}) if section else fields
        part[key] = typed(name, value, kinds[name], where)
    return TrainConfig(**fields)


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


def read_toml(file: Path) -> dict[str, Any]:
    """The values of a TOML file by dotted name, as they stand there.

    Raises:
        MissingError: No such file.
        InputError: It is not TOML.
    """
    if not is_file(file):
        raise MissingError(f"{file}: no such configuration file")
    document = parse_toml(read_text(file), str(file))
    values: dict[str, Any] = {}
    for name, value in document.items():
        if isinstance(value, dict):
            values |= {f"{name}.{key}": inner for key, inner in value.items()}
        else:
            values[name] = value
    return values


_SECTIONS = ("model", "data", "optim", "val", "run")


def _section(name: str, kind: type[Any], value: Any) -> Any:
    """A section's dataclass with checked values, from itself, a mapping or None."""
    if value is None:
        value = {}
    elif isinstance(value, kind):
        value = {item.name: getattr(value, item.name) for item in dataclasses.fields(kind)}
    elif not isinstance(value, Mapping):
        raise ArgumentTypeError(
            f"{name} must be {kind.__name__} or a mapping of its fields, got {type(value).__name__}"
        )
    hints = typing.get_type_hints(kind)
    for key in value:
        if key not in hints:
            raise _unknown(f"{name}.{key}")
    return kind(**{key: checked(f"{name}.{key}", v, hints[key]) for key, v in value.items()})


def _unknown(name: str, where: str = "") -> InputError:
    """The error about a field that does not exist, with the nearest one that does."""
    kinds = _kinds()
    near = difflib.get_close_matches(name, kinds, n=1, cutoff=0.5)
    ends = [known for known in kinds if known.rpartition(".")[2] == name.rpartition(".")[2]]
    hint = (ends or near or [""])[0]
    hint = f"did you mean {hint}?" if hint else "docs/training.md lists the fields"
    return InputError(f"{where}unknown field {name!r}; {hint}")


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
