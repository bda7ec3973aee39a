"""Callbacks of TensorRT's builder: a logger that keeps the last error, progress on stderr."""

from __future__ import annotations

import sys
from typing import Any

from mafsar.export.engines.layers import member_name


def make_logger(trt: Any) -> Any:
    """A logger that prints nothing and keeps the last error in `last`, for the message."""
    base = getattr(trt, "ILogger", trt.Logger)

    class Kept(base):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            base.__init__(self)
            self.last = "no reason given"

        def log(self, severity: Any, message: str) -> None:
            if member_name(severity) in ("ERROR", "INTERNAL_ERROR"):
                self.last = " ".join(message.split())

    return Kept()


def make_monitor(trt: Any, title: str, *, quiet: bool) -> Any:
    """Progress on stderr; None when quiet, off a terminal or where TensorRT reports none."""
    if quiet or not sys.stderr.isatty() or not hasattr(trt, "IProgressMonitor"):
        return None

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            del parent_phase
            self._steps[phase_name] = num_steps

        def step_complete(self, phase_name: str, step: int) -> bool:
            of = self._steps.get(phase_name, 0)
            sys.stderr.write(f"\r\x1b[K{title}: {phase_name} {step + 1}/{of}")
            sys.stderr.flush()
            return True

        def phase_finish(self, phase_name: str) -> None:
            self._steps.pop(phase_name, None)
            if not self._steps:
                sys.stderr.write("\r\x1b[K")
                sys.stderr.flush()

    return Monitor()
