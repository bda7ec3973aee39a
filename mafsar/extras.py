"""Packages of an extra that something needs and a user may not have installed."""

from __future__ import annotations

import importlib.util

from mafsar.errors import UnavailableError


def require(what: str, *packages: str, extra: str = "train", otherwise: str = "") -> None:
    """Refuses where a package is not installed.

    Args:
        what: Who needs them, as `export runs/h:`; the line begins with it.
        packages: Names to import.
        extra: The extra of mafsar that brings them.
        otherwise: What the user can do instead, as `use --model tiny`.

    Raises:
        UnavailableError: Names those that are missing and the command that installs them.
    """
    missing = [package for package in packages if not importlib.util.find_spec(package)]
    if missing:
        instead = f", or {otherwise}" if otherwise else ""
        raise UnavailableError(
            f"{what} needs {' and '.join(missing)}, not installed; "
            f"pip install 'mafsar[{extra}]'{instead}"
        )
