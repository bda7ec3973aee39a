"""What a search through folders says while it goes on, and of folders that it must leave out."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path

FIRST_SECONDS, EVERY_SECONDS = 5.0, 10.0
_SHOWN = 3
_log = logging.getLogger("mafsar")


class Walk:
    """Counts what a search has looked at, and warns now and then where it takes long.

    Args:
        root: The folder that is searched.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._count = 0
        self._began = time.monotonic()
        self._next = self._began + FIRST_SECONDS

    def step(self, count: int = 1) -> None:
        """Some more files or folders were looked at."""
        self._count += count
        now = time.monotonic()
        if now >= self._next:
            self._next = now + EVERY_SECONDS
            _log.warning(
                "%s: still looking for clips after %.0f s, %s files and folders so far; name a "
                "smaller folder if this is not meant",
                self._root,
                now - self._began,
                f"{self._count:,}",
            )


def warn_of_unlisted(root: Path, unlisted: Sequence[Path]) -> None:
    """Warns of folders that this user cannot list, whose clips are left out."""
    if unlisted:
        names = ", ".join(map(str, unlisted[:_SHOWN])) + (", …" if len(unlisted) > _SHOWN else "")
        folders = "folder" if len(unlisted) == 1 else "folders"
        _log.warning(
            "%s: left out %d %s that cannot be listed (%s)", root, len(unlisted), folders, names
        )
