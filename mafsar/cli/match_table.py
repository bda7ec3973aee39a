"""The table of ``mafsar match``: query, answer with a confidence bar, runner-up, seconds."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from mafsar.cli import options as opt
from mafsar.cli import table

if TYPE_CHECKING:
    from mafsar.runtime.bank.bank import Bank
    from mafsar.runtime.encoder import Encoder
    from mafsar.runtime.match.matcher import Match, QueryError

CSV_COLUMNS = (
    "schema", "query", "label", "score", "p_none", "none", "seconds.decode", "seconds.preprocess",
    "seconds.encode", "seconds.match", "seconds.total", "clip.duration_seconds",
    "clip.frames_seconds", "clip.fps", "model", "adapters", "engine", "precision", "device",
    "warning", "error",
)  # fmt: skip
_TOPK_COLUMNS = ("label", "score", "distance", "text_score")
_OTHER_COLUMNS = 45  # width of the confidence, the runner-up's score, the seconds and the gaps
_MOST_WIDE = 240


def show_table(
    stream: TextIO, answers: Sequence[Match | QueryError], bank: Bank, encoder: Encoder
) -> None:
    """Prints the answers, one a row, and a summary line."""
    from rich.text import Text

    from mafsar.runtime.match.matcher import QueryError

    rows = table.new_table(
        ("query", "fold"), ("action", "fold"), "confidence", ("runner-up", "fold"), ("s", "right")
    )
    encoding = getattr(stream, "encoding", None)
    longest = max(len(answer.query) for answer in answers)
    widest = longest + 2 * max(len(label) for label in bank.labels) + _OTHER_COLUMNS
    above = ""
    if widest > table.console_for(stream, widest=min(widest, _MOST_WIDE)).width:
        above = _common_folder([answer.query for answer in answers])
    for answer in answers:
        name = Text(answer.query.removeprefix(above))
        if isinstance(answer, QueryError):
            reason = answer.error.removeprefix(f"{answer.query}: ")
            table.add_row(
                rows, name, Text("failed", "bold red"), Text("–", "dim"), Text(reason, "red"), ""
            )
            continue
        label = Text("none", "dim") if answer.label is None else Text(answer.label, "bold")
        second = answer.topk[1] if len(answer.topk) > 1 else None
        runner_up = Text("–", "dim")
        if second is not None:
            runner_up = Text.assemble(second.label, (f" {second.score:.2f}", "dim"))
        table.add_row(
            rows,
            name,
            label,
            table.bar(answer.score, encoding=encoding),
            runner_up,
            f"{answer.seconds.total:.2f}",
        )
    if above:
        stream.write(f"queries in {above}\n\n")
    table.show(
        stream, rows, after=["", _summary(answers, bank, encoder)], widest=min(widest, _MOST_WIDE)
    )


def _common_folder(names: Sequence[str]) -> str:
    """The folder that all names start with, with its last slash; empty where there is none."""
    folders = [os.path.dirname(name) for name in names]  # noqa: PTH120 - names may be no paths
    try:
        common = os.path.commonpath(folders)
    except ValueError:
        return ""
    prefix = f"{common}/"
    return prefix if common and all(name.startswith(prefix) for name in names) else ""


def _summary(answers: Sequence[Match | QueryError], bank: Bank, encoder: Encoder) -> str:
    from mafsar.runtime.match.matcher import Match

    good = [answer for answer in answers if isinstance(answer, Match)]
    seconds = sum(answer.seconds.total for answer in good)
    failed = len(answers) - len(good)
    return (
        opt.count(len(good), "query")
        + (f" answered, {failed} failed" if failed else "")
        + f" · {opt.count(len(bank.classes), 'class')}, {opt.count(len(bank.clips), 'support clip')}"
        f" · {seconds:.2f} s · {encoder.spec.name}, {encoder.engine} on {encoder.device},"
        f" {encoder.precision}"
    )


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
