"""Reading a bank file, with every way in which it can be wrong said in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mafsar.data.support import SupportClass
from mafsar.errors import InputError
from mafsar.runtime.bank.bank import SCHEMA, Bank, BankClip, BankModel, TextChoice, missing_bank
from mafsar.runtime.scoring.scores import Scoring
from mafsar.video.geometry import Geometry

_MEND = "make it again with: mafsar enroll SUPPORT -o BANK --overwrite"


def read_bank(path: Path) -> Bank:
    """Reads and checks a bank.

    Raises:
        MissingError: No such file.
        InputError: It is no bank, is damaged, or a newer mafsar wrote it.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise missing_bank(path)
    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get("mafsar")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: damaged or no safetensors file ({error}); {_MEND}") from error
    if text is None:
        raise InputError(f"{path}: a safetensors file, but no bank; {_MEND}")
    try:
        data = json.loads(text)
        if data["kind"] != "bank":
            raise InputError(f"{path}: holds {data['kind']}, not a bank; {_MEND}")
        if data["schema"] != SCHEMA:
            raise InputError(
                f"{path}: written by mafsar {data['made_by']} in schema {data['schema']}, this "
                f"version reads {SCHEMA}; pip install -U mafsar, or {_MEND}"
            )
        bank = _from_json(path, data, tensors)
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: damaged bank ({error!r}); {_MEND}") from error
    _check_shapes(path, bank)
    return bank


def _from_json(path: Path, data: dict[str, Any], tensors: dict[str, NDArray[Any]]) -> Bank:
    model = dict(data["model"])
    model["prompts"] = tuple(model["prompts"])
    model["scoring"] = Scoring(**model["scoring"])
    return Bank(
        classes=tuple(SupportClass(item["label"], item["text"]) for item in data["classes"]),
        words_known=tuple(bool(item["words_known"]) for item in data["classes"]),
        clips=tuple(BankClip(**clip) for clip in data["clips"]),
        query=tensors["query"],
        pooled=tensors["pooled"],
        support=tensors.get("support"),
        text=tensors.get("text"),
        model=BankModel(**model),
        geometry=Geometry.from_json(data["geometry"]),
        text_choice=TextChoice(**data["text"]),
        images=tensors.get("images"),
        path=path,
    )


def _check_shapes(path: Path, bank: Bank) -> None:
    """Refuses tensors that do not fit the lists beside them."""
    n, classes = len(bank.clips), len(bank.classes)
    width = bank.query.shape[-1] if bank.query.ndim == 3 else -1
    whole = (n, bank.query.shape[1] if bank.query.ndim == 3 else -1, width)
    wanted: list[tuple[str, NDArray[Any] | None, tuple[int, ...]]] = [
        ("query", bank.query, whole),
        ("pooled", bank.pooled, (n, width)),
        ("support", bank.support, whole),
        ("text", bank.text, (classes, width)),
    ]
    for name, tensor, shape in wanted:
        if tensor is None:
            continue
        if tensor.dtype != np.float32 or tensor.shape != shape or not np.isfinite(tensor).all():
            raise InputError(
                f"{path}: damaged bank: {name} is {tensor.dtype} {tensor.shape}, expected finite "
                f"float32 {shape}; {_MEND}"
            )
    owners = {clip.owner for clip in bank.clips}
    if not set(range(classes)) <= owners <= set(range(-1, classes)) or classes == 0:
        raise InputError(f"{path}: damaged bank: a class without clips; {_MEND}")
