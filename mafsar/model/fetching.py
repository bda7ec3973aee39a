"""Whether weights may be downloaded: only for a model that the user named."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

_ALLOWED: ContextVar[bool] = ContextVar("allowed", default=True)


@contextlib.contextmanager
def nothing_fetched() -> Iterator[None]:
    """Opens models from what is on this machine only, as long as the block runs.

    For names of models that a file gives: a bank, or a run folder that stands beside it.
    """
    token = _ALLOWED.set(False)
    try:
        yield
    finally:
        _ALLOWED.reset(token)


def may_fetch() -> bool:
    """Whether weights may be downloaded now."""
    return _ALLOWED.get()
