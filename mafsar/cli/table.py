"""Tables for people: on a terminal, in a pipe and in a log."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from mafsar.plain import plain

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

_EIGHTHS = " ▏▎▍▌▋▊▉█"
_LEAST_WIDTH = 20
_PIPE_WIDTH = 240


def console_for(stream: TextIO) -> Console:
    """A console on `stream`: as wide as the terminal or ``COLUMNS`` says, wide in a pipe."""
    from rich.console import Console

    if stream is sys.stdout and stream.isatty():
        return Console(file=stream, highlight=False)
    asked = os.environ.get("COLUMNS", "")
    width = max(int(asked), _LEAST_WIDTH) if asked.isdecimal() and int(asked) else _PIPE_WIDTH
    return Console(file=stream, width=width, highlight=False, no_color=True, force_terminal=False)


def room(stream: TextIO) -> int:
    """Characters in a line of `stream`."""
    return console_for(stream).width


def natural_width(table: Table) -> int:
    """Width of a table whose cells are not broken, characters."""
    from rich.console import Console
    from rich.measure import Measurement

    console = Console(file=io.StringIO(), width=100_000, height=100)
    return Measurement.get(console, console.options, table).maximum


def new_table(*columns: str | tuple[str, str]) -> Table:
    """An open table; a column is its title, or its title and ``left``, ``right`` or ``fold``."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", show_edge=False)
    for column in columns:
        title, kind = (column, "left") if isinstance(column, str) else column
        table.add_column(
            title,
            justify="right" if kind == "right" else "left",
            overflow="fold",
            no_wrap=kind != "fold",
        )
    return table


def add_row(table: Table, *cells: str | Text) -> None:
    """Adds a row; a string is shown as it is, whatever brackets a label has."""
    from rich.text import Text

    table.add_row(*(Text(plain(cell)) if isinstance(cell, str) else cell for cell in cells))


def bar(
    share: float, width: int = 10, *, encoding: str | None = "utf-8", number: bool = True
) -> Text:
    """A bar of `width` cells filled as far as `share` (0–1) goes, then the number."""
    from rich.text import Text

    share = min(max(share, 0.0), 1.0)
    if "utf" in (encoding or "").lower():
        eighths = round(share * width * 8)
        filled = "█" * (eighths // 8) + (_EIGHTHS[eighths % 8].strip() if eighths % 8 else "")
        rest = "·" * (width - len(filled))
    else:
        filled = "#" * round(share * width)
        rest = "." * (width - len(filled))
    style = "green" if share >= 0.6 else "yellow" if share >= 0.3 else "red"
    return Text.assemble((filled, style), (rest, "dim"), f" {share:.2f}" if number else "")


def show(stream: TextIO, table: Table, *, after: Sequence[str] = ()) -> None:
    """Prints a table and the lines after it."""
    console = console_for(stream)
    if console.is_terminal:
        console.print(table)
    else:
        with console.capture() as capture:
            console.print(table)
        # Cells are padded to their column's width; a file needs no blanks at the end of a line.
        stream.write("".join(f"{line.rstrip()}\n" for line in capture.get().splitlines()))
    stream.writelines(f"{plain(line)}\n" for line in after)
    stream.flush()
