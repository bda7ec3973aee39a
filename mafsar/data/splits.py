"""Splits: which classes are for training, validation and testing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mafsar.data.labels import nfc
from mafsar.documents import parse_json, parse_toml, read_text
from mafsar.errors import InputError, MissingError, option
from mafsar.files import is_file

Part = Literal["train", "val", "test"]
PARTS: tuple[Part, ...] = ("train", "val", "test")
_LAYOUT = 'expected JSON (or the same in TOML) {"train": [class, …], "val": […], "test": […]}'


@dataclass(frozen=True)
class Split:
    """Class labels by part, disjoint.

    Attributes:
        path: File it was read from.
        train: Training classes.
        val: Validation classes.
        test: Test classes.
    """

    path: Path
    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]

    def classes(self, part: Part) -> tuple[str, ...]:
        """Labels of a part."""
        return {"train": self.train, "val": self.val, "test": self.test}[part]


def read_split(path: str | Path) -> Split:
    """Reads a split: a JSON object or TOML table whose parts are lists of classes, or `{"classes": […]}`.

    Raises:
        MissingError: The file does not exist.
        InputError: The file cannot be read, or a class is in two parts.
    """
    path = Path(path)
    if not is_file(path):
        raise MissingError(f"{path}: no such split; {_LAYOUT}")
    kind = "TOML" if path.suffix.lower() == ".toml" else "JSON"
    try:
        parse = parse_toml if kind == "TOML" else parse_json
        data = parse(read_text(path), str(path))
    except InputError as error:
        raise InputError(error, f"; {_LAYOUT}") from error
    if not isinstance(data, dict) or not any(part in data for part in PARTS):
        raise InputError(f"{path}: no part train, val or test; {_LAYOUT}")
    parts: dict[str, tuple[str, ...]] = {}
    for part in PARTS:
        value = data.get(part, [])
        labels = value.get("classes") if isinstance(value, dict) else value
        if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            raise InputError(f"{path}: {part} must be a list of class names; {_LAYOUT}")
        parts[part] = tuple(labels)
    split = Split(path, parts["train"], parts["val"], parts["test"])
    _check_disjoint(split)
    return split


def labels_of_part(split: Split, part: Part, labels: Iterable[str]) -> tuple[str, ...]:
    """The labels of the data that belong to a part, compared in NFC, in the data's order.

    Raises:
        InputError: The part has no class, or one of its classes is not in the data.
    """
    wanted = {nfc(label) for label in split.classes(part)}
    if not wanted:
        raise InputError(f"{split.path}: part {part} has no class; choose another ", option("part"))
    here = {nfc(label): label for label in labels}
    missing = sorted(wanted - set(here))
    if missing:
        raise InputError(
            f"{split.path}: {len(missing)} classes of part {part} are not in the data: "
            f"{', '.join(missing[:5])}{', …' if len(missing) > 5 else ''}; add them or fix ",
            option("split"),
        )
    return tuple(label for key, label in here.items() if key in wanted)


def _check_disjoint(split: Split) -> None:
    part_of: dict[str, str] = {}
    for part in PARTS:
        for label in split.classes(part):
            first = part_of.setdefault(nfc(label), part)
            if first != part:
                raise InputError(
                    f"{split.path}: class {label!r} is in both {first} and {part}; parts must be "
                    "disjoint"
                )
