"""The CSV of ``mafsar match``: the JSON's names as columns, nested ones joined by dots."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CSV_COLUMNS = (
    "schema", "query", "label", "score", "p_none", "none", "seconds.decode", "seconds.preprocess",
    "seconds.encode", "seconds.match", "seconds.total", "clip.duration_seconds",
    "clip.frames_seconds", "clip.fps", "model", "adapters", "engine", "precision", "device",
    "warning", "error",
)  # fmt: skip
_TOPK_COLUMNS = ("label", "score", "distance", "text_score")


def csv_columns(topk: int) -> list[str]:
    """The CSV's columns: the JSON's names, nested ones joined by dots."""
    top = [f"topk.{rank}.{name}" for rank in range(1, topk + 1) for name in _TOPK_COLUMNS]
    before = CSV_COLUMNS.index("seconds.decode")
    return [*CSV_COLUMNS[:before], *top, *CSV_COLUMNS[before:]]


def csv_row(answer: Mapping[str, Any]) -> dict[str, Any]:
    """One JSON object as a row."""
    row: dict[str, Any] = {}
    for name, value in answer.items():
        if name == "topk":
            for rank, item in enumerate(value, start=1):
                row |= {f"topk.{rank}.{key}": item[key] for key in _TOPK_COLUMNS}
        elif isinstance(value, Mapping):
            row |= {f"{name}.{key}": _cell(item) for key, item in value.items()}
        else:
            row[name] = _cell(value)
    return row


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return " ".join(f"{item:.6g}" for item in value)
    return value
