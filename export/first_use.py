"""Makes the bundle of a model in the cache when the model is first used.

Only the export loads torch; the second use of the model needs neither torch nor an export.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from mafsar.errors import MafsarError, option
from mafsar.export.bundle_folder import locked, unwritable
from mafsar.export.job import export_locked
from mafsar.extras import require
from mafsar.model.names import SHIPPED
from mafsar.runtime.cache.bundles import find_kept, kept_path, make_room

_NEEDS = ("torch", "open_clip", "onnx", "onnxscript")
Say = Callable[[str], None]


def make_kept(name: str, *, say: Say = lambda _: None, step: Say = lambda _: None) -> Path:
    """The cached bundle of a model, which is made and verified where there is none yet.

    Several processes may call this at once: one makes the bundle, the others wait for it. The
    bundle is renamed into place when it is complete, so an interrupted one is never found.

    Args:
        name: A CLIP's name, a run folder or trained adapters.
        say: Called with one line when a bundle was made: its path, how long it took, its size.
        step: Called with a line when a step begins.

    Raises:
        UnavailableError: The packages that an export needs are not installed, or it failed.
        InputError: No such model, or the cache cannot be written.
    """
    kept = find_kept(name)
    if kept is not None:
        return kept
    require(
        f"{name}: making its bundle at first use",
        *_NEEDS,
        otherwise=("use ", option(model=SHIPPED)),
    )
    path = kept_path(name)
    try:
        with locked(path):
            kept = find_kept(name)
            if kept is not None:
                return kept
            began = time.perf_counter()
            try:
                result = export_locked(name, path, say=step)
            except MafsarError as error:
                raise type(error)(
                    error, f" (first use of {name}; ", option(engine="torch"), " needs no bundle)"
                ) from error
            removed = make_room(path)
    except OSError as error:
        remedy = (
            "set MAFSAR_CACHE to a folder that you can write, or use ",
            option(engine="torch"),
        )
        raise unwritable(path.parent, error, *remedy) from error
    size = sum(file.stat().st_size for file in path.iterdir())
    also = f"; removed {', '.join(removed)} to keep the cache under its cap" if removed else ""
    say(
        f"first use of {name}: made its bundle {path} in {time.perf_counter() - began:.0f} s "
        f"({size / 1e6:.0f} MB, {len(result.artefacts)} precisions verified); from now on without "
        f"torch{also}"
    )
    return path
