"""What does the work of each matching op here, and why not something faster."""

from __future__ import annotations

import functools
import importlib
import logging
import os
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

_log = logging.getLogger("mafsar.kernels")

# Each op, and what of it goes to the twin though there are kernels: on a CPU, and on a GPU.
_TWIN_FOR = {
    "otam": ("float64", "float64, more than 64 frames"),
    "bimhm": ("float64", "float64, more than 64 frames"),
    "otam_match": ("float64", "float64, more than 64 frames"),
    "bimhm_match": ("float64", "float64, more than 64 frames"),
    "temporal_adapter": ("float64, more than 32 frames", "float64, more than 32 frames"),
}


@dataclass(frozen=True)
class OpStatus:
    """Who does the work of one op on this machine."""

    name: str
    backend: Literal["native", "twin"]
    detail: str  # one line: who works on a CPU and on a GPU, and why it is the twin where it is


@functools.cache
def _load() -> tuple[Any, str]:
    """The native module (or None) and the reason why it is not there."""
    try:
        module: ModuleType = importlib.import_module("mafsar._native")
        if not hasattr(module, "align_forward"):
            raise ImportError("it is of another version")
    except ImportError as error:
        reason = f"mafsar._native cannot be imported ({error})"
        _log.warning(
            "%s; matching uses the slower numpy and torch twins. "
            "Reinstall mafsar where a C++17 compiler is present to mend this.",
            reason,
        )
        return None, reason
    threads = _threads_of_environment()
    if threads is not None:
        module.set_num_threads(threads)
    return module, ""


def _threads_of_environment() -> int | None:
    """OMP_NUM_THREADS, which torch and numpy obey too; its first number, or None."""
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(first) if first.isdigit() and int(first) > 0 else None


def native() -> Any:
    """The native module, or None where it is not installed (said once in the log)."""
    return _load()[0]


def has_cuda() -> bool:
    """True where the native module was built with kernels for NVIDIA GPUs."""
    module = native()
    return module is not None and hasattr(module, "cuda_architectures")


@functools.cache
def log_once(message: str) -> None:
    """Say `message` in the log the first time only."""
    _log.info(message)


def set_num_threads(count: int) -> None:
    """Set how many threads one matching call may use, the calling thread among them.

    The twins do not heed it: they follow torch's and numpy's own settings.

    Args:
        count: Number of threads, ≥ 1.

    Raises:
        ValueError: If `count` is less than 1.
    """
    if count < 1:
        raise ValueError(f"count must be ≥ 1, got {count}")
    module = native()
    if module is not None:
        module.set_num_threads(count)


def get_num_threads() -> int:
    """How many threads one matching call may use; 1 without the native module."""
    module = native()
    return 1 if module is None else int(module.get_num_threads())


def status() -> list[OpStatus]:
    """Who does the work of each op on which device: the native module, or a twin and why."""
    module, reason = _load()
    if module is None:
        return [OpStatus(name, "twin", reason) for name in _TWIN_FOR]
    threads = module.get_num_threads()
    states = []
    for name, (on_cpu, on_gpu) in _TWIN_FOR.items():
        cpu = f"CPU native ({module.isa()}, up to {threads} threads; twin for {on_cpu})"
        if has_cuda():
            gpu = f"CUDA native (for {module.cuda_architectures()}; twin for {on_gpu})"
        else:
            gpu = "CUDA twin (built without nvcc)"
        states.append(OpStatus(name, "native", f"{cpu}; {gpu}"))
    return states
