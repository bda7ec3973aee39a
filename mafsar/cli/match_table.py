"""The table and the CSV of ``mafsar match``: query, answer, its share, other classes, seconds."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from mafsar.cli import options as opt
from mafsar.cli import table
from mafsar.cli.wording import worded
from mafsar.plain import plain, say

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from mafsar.runtime.bank.bank import Bank
    from mafsar.runtime.encoder import Encoder
    from mafsar.runtime.match.answers import Match, QueryError

CSV_COLUMNS = (
    "schema", "query", "label", "score", "p_none", "none", "seconds.decode", "seconds.preprocess",
    "seconds.encode", "seconds.match", "seconds.total", "clip.duration_seconds",
    "clip.frames_seconds", "clip.fps", "clip.repairs", "model", "adapters", "engine", "precision",
    "device", "views", "warning", "error",
)  # fmt: skip
_TOPK_COLUMNS = ("label", "score", "distance", "text_score")


@dataclass(frozen=True)
class _Layout:
    """What the table shows; less of it on a narrow terminal."""

    reasons: bool = True
    bar: bool = True
    others: bool = True
    seconds: bool = True


# In this order columns give way, before any name is broken into two lines.
_LAYOUTS = (
    _Layout(),
    _Layout(reasons=False),
    _Layout(reasons=False, bar=False),
    _Layout(reasons=False, bar=False, others=False),
    _Layout(reasons=False, bar=False, others=False, seconds=False),
)


def show_table(
    stream: TextIO,
    answers: Sequence[Match | QueryError],
    bank: Bank,
    encoder: Encoder,
    *,
    listed: int = 2,
) -> None:
    """Prints the answers, one a row, why queries failed, and a summary.

    Args:
        stream: Where to print.
        answers: One an asked query.
        bank: The bank that they were compared with.
        encoder: What encoded them.
        listed: Classes shown of each query, best first.
    """
    from mafsar.runtime.match.answers import Match, QueryError

    encoding = getattr(stream, "encoding", None)
    above, names = "", [answer.query for answer in answers]
    layout = _LAYOUTS[0]
    rows = _rows(answers, names, layout, listed, encoding)
    room = table.room(stream)
    if table.natural_width(rows) > room:
        above, names = _shorter(names)
        for layout in _LAYOUTS:
            rows = _rows(answers, names, layout, listed, encoding)
            if table.natural_width(rows) <= room:
                break
    if above:
        say(stream, f"queries in {above}\n\n")
    after = [""] if layout.reasons else ["", *_reasons(answers)]
    if len(answers) > sum(isinstance(answer, QueryError) for answer in answers):
        classes = len(bank.classes)
        among = f"the {classes} given classes" if classes > 1 else "the one given class"
        after.append(f"share: among {among} (they sum to 1), not the chance of being right")
    if any(isinstance(answer, Match) and answer.label is None for answer in answers):
        after.append(
            "none: p_none, the probability of none of these classes, is over the threshold;"
            " --threshold off answers always"
        )
    after.append(_summary(answers, bank, encoder))
    table.show(stream, rows, after=after)


def error_of(failed: QueryError) -> str:
    """The error of a query that failed, with the flags and commands of the command line."""
    return worded(failed.cause)


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
        if any(isinstance(item, str) for item in value):
            return "; ".join(value)
        return " ".join(f"{item:.6g}" for item in value)
    return value


def _rows(
    answers: Sequence[Match | QueryError],
    names: Sequence[str],
    layout: _Layout,
    listed: int,
    encoding: str | None,
) -> Table:
    from rich.text import Text

    from mafsar.runtime.match.answers import QueryError

    titles: list[str | tuple[str, str]] = [("query", "fold"), ("action", "fold"), "share"]
    if layout.others:
        titles.append(("runner-up" if listed <= 2 else "then", "fold"))
    if layout.seconds:
        titles.append(("s", "right"))
    failed = layout.reasons and any(isinstance(answer, QueryError) for answer in answers)
    if failed:
        titles.append(("why", "fold"))
    rows = table.new_table(*titles)
    for answer, name in zip(answers, names, strict=True):
        cells: list[str | Text] = [name]
        dash = Text("–", "dim")
        if isinstance(answer, QueryError):
            cells += [Text("failed", "bold red"), dash]
            cells += [dash] * layout.others + [""] * layout.seconds
            cells += [_reason(answer)] * failed
            table.add_row(rows, *cells)
            continue
        cells.append(
            Text("none", "dim") if answer.label is None else Text(plain(answer.label), "bold")
        )
        if answer.label is None and answer.p_none is not None:
            cells.append(Text(f"p_none {answer.p_none:.2f}", "dim"))
        else:
            share = table.bar(answer.score, encoding=encoding) if layout.bar else None
            cells.append(share or f"{answer.score:.2f}")
        if layout.others:
            others = [
                Text.assemble(plain(row.label), (f" {row.score:.2f}", "dim"))
                for row in answer.topk[answer.label is not None : listed]
            ]
            cells.append(Text("\n").join(others) if others else dash)
        if layout.seconds:
            cells.append(f"{answer.seconds.total:.2f}")
        cells += [""] * failed
        table.add_row(rows, *cells)
    return rows


def _reasons(answers: Sequence[Match | QueryError]) -> list[str]:
    """A line for each query that failed, and an empty one after them."""
    from mafsar.runtime.match.answers import QueryError

    lines = [
        f"{answer.query}: {_reason(answer)}" for answer in answers if isinstance(answer, QueryError)
    ]
    return [*lines, ""] if lines else []


def _reason(failed: QueryError) -> str:
    """Why a query failed, without its name, which stands beside."""
    return error_of(failed).removeprefix(f"{failed.query}: ")


def _shorter(names: Sequence[str]) -> tuple[str, list[str]]:
    """The folder that all lie in and their names there; else file names, where these differ."""
    above = _common_folder(names)
    if above:
        return above, [name.removeprefix(above) for name in names]
    last = [os.path.basename(name) or name for name in names]  # noqa: PTH119 - names may be no paths
    distinct = len(set(last)) == len(set(names))
    return "", last if distinct else list(names)


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
    from mafsar.runtime.match.answers import Match

    good = [answer for answer in answers if isinstance(answer, Match)]
    seconds = sum(answer.seconds.total for answer in good)
    failed = len(answers) - len(good)
    return (
        opt.count(len(good), "query")
        + (f" answered, {failed} failed" if failed else "")
        + f" · {opt.count(len(bank.classes), 'class')}, {opt.count(len(bank.clips), 'support clip')}"
        f" · {seconds:.2f} s · {encoder.spec.shown}, {encoder.engine} on {encoder.device},"
        f" {encoder.precision}"
    )
