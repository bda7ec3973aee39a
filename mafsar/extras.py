"""Optional packages, which a feature needs and which may not be installed."""

from __future__ import annotations

import importlib.util

from mafsar.errors import UnavailableError


def require(
    what: object | tuple[object, ...],
    *packages: str,
    extra: str = "train",
    otherwise: object | tuple[object, ...] = "",
) -> None:
    """Raises an error if an optional package is not installed.

    Args:
        what: The feature that needs the packages, as one or several parts of a message (see
            `mafsar.errors`); the message reads "WHAT needs PACKAGES, …".
        packages: Names as in `import`.
        extra: The extra of mafsar that installs them.
        otherwise: What the user can do instead, as one or several parts of a message.

    Raises:
        UnavailableError: Names the missing packages and the command that installs them.
    """
    missing = [package for package in packages if not importlib.util.find_spec(package)]
    if missing:
        raise UnavailableError(
            *_parts(what),
            f" needs {' and '.join(missing)}, not installed; pip install 'mafsar[{extra}]'",
            *((", or ", *_parts(otherwise)) if otherwise else ()),
        )


def _parts(message: object | tuple[object, ...]) -> tuple[object, ...]:
    return message if isinstance(message, tuple) else (message,)
