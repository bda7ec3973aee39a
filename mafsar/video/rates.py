"""The frame rates that are taken from users and files of settings."""

from __future__ import annotations

from mafsar.choices import is_finite
from mafsar.errors import InputError, option

LOWEST_FPS = 1e-6
"""Frames per second; below it the clock of a clip leaves what float64 tells apart."""

HIGHEST_FPS = 1e6


def check_clock(ignore_clock: float | None) -> None:
    """Checks what replaces a file's clock.

    Raises:
        InputError: It is no rate, or too low or high to be one.
    """
    if ignore_clock is None:
        return
    if not (is_finite(ignore_clock) and ignore_clock > 0):
        raise InputError(option(ignore_clock=ignore_clock), ": must be frames per second, > 0")
    if not LOWEST_FPS <= ignore_clock <= HIGHEST_FPS:
        raise InputError(
            option(ignore_clock=ignore_clock), f": must be from {LOWEST_FPS:g} to {HIGHEST_FPS:g}"
        )
