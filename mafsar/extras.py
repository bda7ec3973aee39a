"""Packages of an extra that something needs and a user may not have installed."""

from __future__ import annotations

import importlib.util

from mafsar.errors import UnavailableError


def require(
    what: object, *packages: str, extra: str = "train", otherwise: object | None = None
) -> None:
    """Refuses where a package is not installed.

    Args:
        what: Who needs them; a part of the message, which begins with it.
        packages: Names to import.
        extra: The extra of mafsar that brings them.
        otherwise: Arguments to use instead, a part of the message.

    Raises:
        UnavailableError: Names those that are missing and the command that installs them.
    """
    missing = [package for package in packages if not importlib.util.find_spec(package)]
    if missing:
        instead = () if otherwise is None else (", or use ", otherwise)
        raise UnavailableError(
            what,
            f": needs {' and '.join(missing)}, not installed; pip install 'mafsar[{extra}]'",
            *instead,
        )
