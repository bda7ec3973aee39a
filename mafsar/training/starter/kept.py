"""Results of finished phases in a folder, so that a stopped run goes on with the next one."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

log = logging.getLogger(__name__)


class KeptPhases:
    """Keeps what phases return, by name and by what they depend on."""

    def __init__(self, folder: Path | None, key: str) -> None:
        """Opens the folder.

        Args:
            folder: Where results are kept; it is made if it is missing. None keeps nothing.
            key: All that the results depend on: sizes, seed, versions.
        """
        self._folder = folder
        self._key = hashlib.sha256(key.encode()).hexdigest()[:12]
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def phase(self, name: str, run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return what the phase returned before, or run it and keep what it returns.

        Args:
            name: Of the phase.
            run: Returns tensors, numbers, texts, and lists and dictionaries of them.
        """
        if self._folder is None:
            return run()
        path = self._folder / f"{name}-{self._key}.pt"
        if path.is_file():
            log.info("%s: kept in %s", name, path)
            found: dict[str, Any] = torch.load(path, weights_only=True)
            return found
        found = run()
        beside = path.with_suffix(".tmp")
        torch.save(found, beside)
        beside.replace(path)  # a run that is killed leaves no half of a file
        return found
