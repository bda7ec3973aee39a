"""The error of a clip for an exception that nobody foresaw: one clip never ends a whole run."""

from __future__ import annotations

from mafsar.errors import VideoError


def unexpected(name: object, error: Exception) -> VideoError:
    """Makes an exception the error of one clip.

    Args:
        name: What messages call the clip: its path.
        error: What was raised; kept as the cause, for tracebacks.
    """
    reason = (str(error).splitlines() or [""])[0]
    found = VideoError(
        f"{name}: cannot be read ({type(error).__name__}{': ' if reason else ''}{reason})"
    )
    found.__cause__ = error
    return found
