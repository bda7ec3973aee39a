"""Everything that goes to stderr: notes, warnings and progress; `-q` and `-v` set how much.

Results belong to stdout; everything else passes through here, so that ``-q`` and ``-v`` mean
the same in every verb.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TextIO

from mafsar.plain import plain

PROGRESS_AFTER_SECONDS = 1.0
LINE_EVERY_SECONDS = 10.0
"""Without a terminal, a line of progress is printed this often."""
REPAIRS_SHOWN = 20


@dataclass
class _State:
    verbose: int = 0
    quiet: bool = False
    said: set[str] = field(default_factory=set)


_state = _State()


def reset() -> None:
    """Restore the defaults; called when a command line starts."""
    _state.verbose, _state.quiet = 0, False
    _state.said.clear()
    _set_level()


def louder(count: int) -> int:
    """``-v`` shows what the library logs, ``-vv`` its details too."""
    _state.verbose = max(_state.verbose, count)
    _set_level()
    return count


def quieter(quiet: bool) -> bool:
    """``-q`` leaves only results and errors."""
    _state.quiet = _state.quiet or quiet
    _set_level()
    return quiet


def is_verbose() -> bool:
    """Whether details are wanted."""
    return _state.verbose > 0


def is_quiet() -> bool:
    """Whether only results and errors are wanted."""
    return _state.quiet


def note(text: str | None, stream: TextIO | None = None) -> None:
    """Print `text` once on stderr, or on `stream`, unless ``-q``."""
    if not text or _state.quiet or text in _state.said:
        return
    _state.said.add(text)
    stream = stream or sys.stderr
    stream.write(f"{plain(text)}\n")
    stream.flush()


def tell(text: str) -> None:
    """Print `text` on stderr each time, unless ``-q``: what happens again is news again."""
    if not _state.quiet:
        sys.stderr.write(f"{plain(text)}\n")
        sys.stderr.flush()


def warn(text: str) -> None:
    """Print a warning once on stderr in one line, unless ``-q``."""
    note(f"warning: {' '.join(text.split())}")


def warn_of_repairs(lines: Sequence[str], where: str = "") -> None:
    """Print what was repaired in reading clips, of very many only the first.

    Args:
        lines: A sentence a clip.
        where: What lists the others, as ``; F.csv has all``.
    """
    for line in lines[:REPAIRS_SHOWN]:
        warn(line)
    if len(lines) > REPAIRS_SHOWN:
        warn(f"{len(lines) - REPAIRS_SHOWN:,} more clips were repaired in reading{where}")


def error(text: str) -> None:
    """Print an error in one line on stderr, always."""
    line = plain(" ".join(text.split()))
    if sys.stderr.isatty() and not os.environ.get("NO_COLOR"):
        sys.stderr.write(f"\x1b[1;31merror:\x1b[0m {line}\n")
    else:
        sys.stderr.write(f"error: {line}\n")
    sys.stderr.flush()


class ProgressBar:
    """A progress bar after a second of work; without a terminal a line now and then.

    Args:
        label: What is being done.
        total: Number of steps, or None if it is not known yet.
        lines: Whether lines are printed without a terminal.
    """

    def __init__(self, label: str, total: int | None, *, lines: bool = True) -> None:
        self._label = plain(label)
        self._total = total
        self._done = 0
        self._started = time.monotonic()
        self._bar: Any = None
        self._wanted = sys.stderr.isatty() and not _state.quiet
        self._lines = lines and not self._wanted
        # Held, because torch's exporter is run with another `sys.stderr`.
        self._stream = sys.stderr
        self._line_at = self._started

    def __call__(
        self, done: int | None = None, total: int | None = None, label: str | None = None
    ) -> None:
        """One step further, or at `done` of `total`."""
        self._done = self._done + 1 if done is None else done
        self._total = self._total if total is None else total
        self._label = plain(label) if label else self._label
        if self._lines:
            self._print_line()
        if not self._wanted:
            return
        if self._bar is None:
            if time.monotonic() - self._started < PROGRESS_AFTER_SECONDS:
                return
            self._open()
        self._bar.update(
            self._task, completed=self._done, total=self._total, description=self._label
        )

    def tick(self) -> None:
        """Prints a line if one is due, without a step."""
        if self._lines:
            self._print_line()

    @property
    def is_shown(self) -> bool:
        """Whether the bar is there, or will be: on a terminal."""
        return self._wanted

    def close(self) -> None:
        """Remove the bar and free its line."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _print_line(self) -> None:
        now = time.monotonic()
        if now - self._line_at < 0.99 * LINE_EVERY_SECONDS:  # a clock of the same period is late
            return
        self._line_at = now
        steps = "" if self._total is None else f" {self._done} of {self._total},"
        note(f"{self._label}:{steps} {now - self._started:.0f} s", self._stream)

    def _open(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task(self._label, total=self._total)
        self._bar.start()


@contextmanager
def progress(
    label: str, total: int | None = None, *, by_clock: bool = False
) -> Iterator[ProgressBar]:
    """A `ProgressBar` that is removed at the end, also after an error.

    Args:
        label: See `ProgressBar`.
        total: See `ProgressBar`.
        by_clock: Print lines also while a single step takes long.
    """
    bar = ProgressBar(label, total)
    ended = threading.Event()

    def tick() -> None:
        while not ended.wait(LINE_EVERY_SECONDS):
            bar.tick()

    clock = threading.Thread(target=tick, daemon=True)
    if by_clock:
        clock.start()
    try:
        yield bar
    finally:
        ended.set()
        if by_clock:
            clock.join()
        bar.close()


def _set_level() -> None:
    logger = logging.getLogger("mafsar")
    if not any(isinstance(h, _StderrHandler) for h in logger.handlers):
        logger.addHandler(_StderrHandler())
    if _state.quiet:
        logger.setLevel(logging.ERROR)
    else:
        levels = (logging.WARNING, logging.INFO, logging.DEBUG)
        logger.setLevel(levels[min(_state.verbose, 2)])


class _StderrHandler(logging.Handler):
    """Writes to whatever ``sys.stderr`` is at that moment (tests replace it)."""

    def emit(self, record: logging.LogRecord) -> None:
        text = " ".join(record.getMessage().split())
        if record.levelno >= logging.WARNING:
            text = f"{record.levelname.lower()}: {text}"
        sys.stderr.write(f"{plain(text)}\n")
