"""Which backend computes each op on this machine, and why.

The backends are the native module (C++ and CUDA) and the twins (torch and numpy). Nothing here
imports torch.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from mafsar.errors import InputError

_log = logging.getLogger("mafsar.kernels")

# For each op, the inputs that its twin computes although there are kernels: on a CPU, on a GPU.
_TWIN_FOR = {
    "otam": ("float64", "float64, more than 64 frames"),
    "bimhm": ("float64", "float64, more than 64 frames"),
    "otam_match": ("float64", "float64, more than 64 frames"),
    "bimhm_match": ("float64", "float64, more than 64 frames"),
    "temporal_adapter": ("float64, more than 32 frames", "float64, more than 32 frames"),
}


@dataclass(frozen=True)
class OpStatus:
    """The backend of one op on this machine.

    Attributes:
        name: Name of the op.
        backend: "native", or "twin" where the native module cannot be used.
        detail: One line: what computes the op on a CPU and on a GPU, and why a twin does.
    """

    name: str
    backend: Literal["native", "twin"]
    detail: str


@functools.cache
def _load() -> tuple[Any, str]:
    """The native module, or None and the reason why it is missing."""
    try:
        module: ModuleType = importlib.import_module("mafsar._native")
        if not hasattr(module, "align_forward"):
            raise ImportError("it belongs to another version of mafsar")
    except ImportError as error:
        reason = f"mafsar._native cannot be imported ({error})"
        _log.warning(
            "%s; matching uses the slower numpy and torch twins. "
            "To fix this, install a C++17 compiler and reinstall mafsar.",
            reason,
        )
        return None, reason
    threads = _threads_of_environment()
    if threads is not None:
        module.set_num_threads(threads)
    return module, ""


def _threads_of_environment() -> int | None:
    """The first number of OMP_NUM_THREADS, which torch and numpy also follow, or None."""
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(first) if first.isdigit() and int(first) > 0 else None


def native() -> Any:
    """The native module, or None if it is not installed (logged once)."""
    return _load()[0]


def has_cuda() -> bool:
    """True if the native module was built with kernels for NVIDIA GPUs."""
    module = native()
    return module is not None and hasattr(module, "cuda_problem")


@functools.cache
def cuda_problem(index: int) -> str:
    """Why the CUDA kernels cannot run on a GPU; logged once.

    The first call for a GPU loads all kernels onto it, so that their first launch may be recorded
    in a CUDA graph.

    Args:
        index: Number of the GPU.

    Returns:
        One line, or "" if the kernels run there.
    """
    module = native()
    reason = str(module.cuda_problem(index))
    if not reason:
        return ""
    problem = f"the CUDA kernels (for {module.cuda_architectures()}) cannot run: {reason}"
    _log.warning("GPU %d: %s; the torch twins are used there", index, problem)
    return problem


def cuda_problems() -> dict[int, str]:
    """The GPUs of this machine on which the CUDA kernels cannot run, and why not."""
    module = native()
    if not has_cuda() or module.cuda_driver_version() == 0:
        return {}
    # A driver that is too old shows no GPU, so the first one is asked in any case.
    problems = {index: cuda_problem(index) for index in range(max(1, module.cuda_devices()))}
    return {index: problem for index, problem in problems.items() if problem}


@functools.cache
def log_once(message: str) -> None:
    """Log `message` the first time only."""
    _log.info(message)


def set_num_threads(count: int) -> None:
    """Set how many threads one call may use, the calling thread included.

    Only the native kernels follow this setting. The twins follow torch's and numpy's own settings.

    Args:
        count: Number of threads, ≥ 1.

    Raises:
        InputError: If `count` is less than 1.
    """
    if count < 1:
        raise InputError(f"count must be ≥ 1, got {count}")
    module = native()
    if module is not None:
        module.set_num_threads(count)


def get_num_threads() -> int:
    """How many threads one call may use; 1 without the native module."""
    module = native()
    return 1 if module is None else int(module.get_num_threads())


def share_openmp_threads(library: Path) -> None:
    """Run the native kernels on the OpenMP threads of another library.

    Threads of our own would wait for processors on which the library's idle threads spin for
    milliseconds; with shared threads, an op next to a torch product takes a third less time
    (benchmarks/kernels.py). Nothing changes if `library` does not exist or was built without
    OpenMP.

    Args:
        library: The library's shared object.
    """
    module = native()
    if module is None or not library.exists():
        return
    # Looked up through the library itself, to find the runtime that it is linked with.
    enter = getattr(ctypes.CDLL(str(library)), "GOMP_parallel", None)
    if enter is not None:
        module.use_team(ctypes.cast(enter, ctypes.c_void_p).value)


def status() -> list[OpStatus]:
    """The backend of each op on this machine: the native module, or a twin and why."""
    module, reason = _load()
    if module is None:
        return [OpStatus(name, "twin", reason) for name in _TWIN_FOR]
    threads = module.get_num_threads()
    states = []
    problems = "; ".join(f"twin on GPU {n}: {why}" for n, why in cuda_problems().items())
    for name, (on_cpu, on_gpu) in _TWIN_FOR.items():
        cpu = f"CPU native ({module.isa()}, up to {threads} threads; twin for {on_cpu})"
        if has_cuda():
            gpu = f"CUDA native (for {module.cuda_architectures()}; twin for {on_gpu})"
            if problems:
                gpu = f"{gpu}; {problems}"
        else:
            gpu = "CUDA twin (built without nvcc)"
        states.append(OpStatus(name, "native", f"{cpu}; {gpu}"))
    return states
