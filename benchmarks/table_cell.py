"""Prints a cell of a table of a page: `table_cell.py PAGE 'BEGINNING OF THE ROW' NUMBER`, from 1 on."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    page, beginning, number = sys.argv[1:]
    for line in Path(page).read_text(encoding="utf-8").splitlines():
        if line.startswith(beginning):
            print(line.split("|")[int(number)].strip())
            break
    else:
        sys.exit(f"{page}: no row begins with {beginning!r}")
