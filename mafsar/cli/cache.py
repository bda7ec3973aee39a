"""``mafsar cache info|clear``: cached features, and cached bundles of other models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mafsar.cli import options as opt
from mafsar.cli import outputs
from mafsar.plain import say

if TYPE_CHECKING:
    from mafsar.runtime.cache.bundles import KeptBundles
    from mafsar.runtime.cache.features import CacheInfo


def show(
    out: opt.ResultsOption = None,
    overwrite: opt.OverwriteFlag = False,
    json_lines: opt.JsonFlag = False,
    _verbose: opt.VerboseFlag = 0,
    _quiet: opt.QuietFlag = False,
) -> None:
    """Show where the cache is and how full it is (MAFSAR_CACHE sets its folder)."""
    from mafsar.runtime.cache.bundles import kept_bundles
    from mafsar.runtime.cache.features import FeatureCache

    state, kept = FeatureCache().info(), kept_bundles()
    with outputs.results_to(out, overwrite=overwrite) as stream:
        if json_lines:
            outputs.print_json(stream, _json(state, kept))
        else:
            say(stream, f"{state.path}: {_count(state)}, {_megabytes(state.size_bytes)}\n")
            say(stream, f"{kept.path}: {_bundles(kept)}, {_megabytes(kept.size_bytes)}\n")
            for name in kept.names:
                say(stream, f"  {name}\n")
            total = state.size_bytes + kept.size_bytes
            say(stream, f"{_megabytes(total)} of {_megabytes(state.cap_bytes)}\n")


def clear(
    out: opt.ResultsOption = None,
    overwrite: opt.OverwriteFlag = False,
    json_lines: opt.JsonFlag = False,
    _verbose: opt.VerboseFlag = 0,
    _quiet: opt.QuietFlag = False,
) -> None:
    """Empty the cache of features, bundles and measured times; banks are not in it."""
    from mafsar.runtime.cache.bundles import clear_kept
    from mafsar.runtime.cache.features import FeatureCache
    from mafsar.runtime.cache.speeds import clear_measured

    with outputs.results_to(out, overwrite=overwrite) as stream:
        removed, bundles = FeatureCache().clear(), clear_kept()
        clear_measured()
        if json_lines:
            outputs.print_json(stream, _json(removed, bundles))
        else:
            say(
                stream,
                f"{removed.path}: removed {_count(removed)}, {_megabytes(removed.size_bytes)}\n",
            )
            say(
                stream,
                f"{bundles.path}: removed {_bundles(bundles)}, {_megabytes(bundles.size_bytes)}\n",
            )


def _json(state: CacheInfo, kept: KeptBundles) -> dict[str, Any]:
    return {
        "schema": 1,
        "path": str(state.path),
        "entries": state.entries,
        "size_bytes": state.size_bytes,
        "cap_bytes": state.cap_bytes,
        "bundles": {
            "path": str(kept.path),
            "names": list(kept.names),
            "size_bytes": kept.size_bytes,
        },
    }


def _count(state: CacheInfo) -> str:
    return f"{state.entries:,} entr{'y' if state.entries == 1 else 'ies'}"


def _bundles(kept: KeptBundles) -> str:
    return f"{len(kept.names):,} bundle{'' if len(kept.names) == 1 else 's'}"


def _megabytes(size_bytes: int) -> str:
    if size_bytes >= 1e9:
        return f"{size_bytes / 1e9:.2f} GB"
    return f"{size_bytes / 1e6:.1f} MB"
