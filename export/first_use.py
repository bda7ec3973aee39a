"""The first use of a model that is no bundle: makes its bundle in the cache, once.

torch is loaded by the export only, and by nothing from the second use on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from mafsar.errors import MafsarError, Message, option
from mafsar.export.bundle_folder import alone, unwritable
from mafsar.export.job import export_held
from mafsar.extras import require
from mafsar.runtime.cache.bundles import find_kept, kept_path, make_room

_NEEDS = ("torch", "open_clip", "onnx", "onnxscript")
Say = Callable[[str], None]


def make_kept(name: str, *, say: Say = lambda _: None, step: Say = lambda _: None) -> Path:
    """The cache's bundle of a model, made and verified where it is not there yet.

    Several processes may ask at once: one makes it, the others wait for it. A bundle is renamed
    into place when it is whole, so one that was interrupted is never found.

    Args:
        name: A CLIP's name, a run folder or trained adapters.
        say: Called with one line when a bundle was made: of what, where, how long, how large.
        step: Called with a line when a step begins.

    Raises:
        UnavailableError: What makes bundles is not installed, or the export failed.
        InputError: No such model, or the cache cannot be written.
    """
    kept = find_kept(name)
    if kept is not None:
        return kept
    what = Message.of(option(model=name), " (its first use makes a bundle)")
    require(what, *_NEEDS, otherwise=option(model="tiny"))
    path = kept_path(name)
    try:
        with alone(path):
            kept = find_kept(name)
            if kept is not None:
                return kept
            began = time.perf_counter()
            try:
                result = export_held(name, path, say=step)
            except MafsarError as error:
                raise type(error)(
                    error, f" (first use of {name}; ", option(engine="torch"), " does without)"
                ) from error
            gone = make_room(path)
    except OSError as error:
        instead = "set MAFSAR_CACHE to a folder of yours, or use --engine torch"
        raise unwritable(path.parent, error, instead) from error
    size = sum(file.stat().st_size for file in path.iterdir())
    also = f"; removed {', '.join(gone)} to keep the cache's cap" if gone else ""
    say(
        f"first use of {name}: made its bundle {path} in {time.perf_counter() - began:.0f} s "
        f"({size / 1e6:.0f} MB, {len(result.artefacts)} precisions verified); from now on without "
        f"torch{also}"
    )
    return path
