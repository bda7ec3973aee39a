"""``mafsar cache info|clear``: the feature cache."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mafsar.cli import options as opt
from mafsar.cli import outputs

if TYPE_CHECKING:
    from mafsar.runtime.cache import CacheInfo


def show(
    out: opt.ResultsOption = None,
    overwrite: opt.OverwriteFlag = False,
    json_lines: opt.JsonFlag = False,
    _verbose: opt.VerboseFlag = 0,
    _quiet: opt.QuietFlag = False,
) -> None:
    """Where the cache is, how much it holds and may hold (MAFSAR_CACHE sets its place)."""
    from mafsar.runtime.cache import FeatureCache

    state = FeatureCache().info()
    with outputs.results_to(out, overwrite=overwrite) as stream:
        if json_lines:
            outputs.print_json(stream, _json(state))
        else:
            stream.write(
                f"{state.path}: {_count(state)}, {_megabytes(state.size_bytes)} of"
                f" {_megabytes(state.cap_bytes)}\n"
            )


def clear(
    out: opt.ResultsOption = None,
    overwrite: opt.OverwriteFlag = False,
    json_lines: opt.JsonFlag = False,
    _verbose: opt.VerboseFlag = 0,
    _quiet: opt.QuietFlag = False,
) -> None:
    """Empty the feature cache; banks are no part of it."""
    from mafsar.runtime.cache import FeatureCache

    with outputs.results_to(out, overwrite=overwrite) as stream:
        removed = FeatureCache().clear()
        if json_lines:
            outputs.print_json(stream, _json(removed))
        else:
            stream.write(
                f"{removed.path}: removed {_count(removed)}, {_megabytes(removed.size_bytes)}\n"
            )


def _json(state: CacheInfo) -> dict[str, Any]:
    return {
        "schema": 1,
        "path": str(state.path),
        "entries": state.entries,
        "size_bytes": state.size_bytes,
        "cap_bytes": state.cap_bytes,
    }


def _count(state: CacheInfo) -> str:
    return f"{state.entries:,} entr{'y' if state.entries == 1 else 'ies'}"


def _megabytes(size_bytes: int) -> str:
    if size_bytes >= 1e9:
        return f"{size_bytes / 1e9:.2f} GB"
    return f"{size_bytes / 1e6:.1f} MB"
