"""``mafsar cache info|clear``: the feature cache."""

from __future__ import annotations

from mafsar.cli import options as opt
from mafsar.cli import outputs


def show(
    out: opt.ResultsOption = None,
    overwrite: opt.OverwriteFlag = False,
    json_lines: opt.JsonFlag = False,
    _verbose: opt.VerboseFlag = 0,
    _quiet: opt.QuietFlag = False,
) -> None:
    """Where the cache is, how much it holds, how much it may hold (MAFSAR_CACHE sets its place)."""


def clear(
    json_lines: opt.JsonFlag = False,
    _verbose: opt.VerboseFlag = 0,
    _quiet: opt.QuietFlag = False,
) -> None:
    """Empties the feature cache; banks are no part of it."""
