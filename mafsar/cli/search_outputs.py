"""What ``mafsar search`` writes: a table or JSON Lines, and CSV."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from mafsar.cli import table
from mafsar.cli.outputs import CsvWriter, print_json

if TYPE_CHECKING:
    from mafsar.runtime.archive.search import Found

COLUMNS = [
    "schema", "found", "bank", "label", "rank", "source", "t_start", "t_end", "score", "distance",
    "p_none", "none",
]  # fmt: skip


class SearchOutputs:
    """Sends all that is found where it is wanted; the table is printed at the end.

    Args:
        stream: For results.
        json_lines: JSON Lines instead of a table.
        csv_path: File for a row each, or None.
        overwrite: Whether the file may be replaced.
    """

    def __init__(
        self, stream: TextIO, *, json_lines: bool, csv_path: Path | None, overwrite: bool
    ) -> None:
        self.found: list[Found] = []
        self._stream, self._json_lines = stream, json_lines
        self._csv = None if csv_path is None else CsvWriter(csv_path, COLUMNS, overwrite=overwrite)

    def add(self, found: Found) -> None:
        """One more moment or event."""
        self.found.append(found)
        row = found.to_json()
        if self._json_lines:
            print_json(self._stream, row)
        if self._csv is not None:
            self._csv.write(row | {"none": str(found.none).lower()})

    def finish(self, *, several_banks: bool, whole: bool) -> None:
        """Closes the CSV, and prints the table unless JSON Lines were asked for.

        Args:
            several_banks: Whether the table names the bank.
            whole: Whether the search has come to its end; else an empty table is not printed.
        """
        if self._csv is not None:
            self._csv.close()
        if self._json_lines or not (whole or self.found):
            return
        from mafsar.runtime.archive.search import clock

        bank = ["bank"] if several_banks else []
        rows = table.new_table(
            *bank, ("class", "fold"), "found", ("from", "right"), ("to", "right"),
            ("share", "right"), ("p none", "right"), ("file", "fold"),
        )  # fmt: skip
        for each in self.found:
            cells = [Path(each.bank).stem] if several_banks else []
            what = "event" if each.rank is None else f"moment {each.rank}"
            none = "" if each.p_none is None else f"{each.p_none:.2f}{' none' * each.none}"
            cells += [each.label, what, clock(each.t_start), clock(each.t_end)]
            table.add_row(rows, *cells, f"{each.score:.2f}", none, each.source)
        after = [] if self.found else ["nothing found"]
        table.show(self._stream, rows, after=after)
