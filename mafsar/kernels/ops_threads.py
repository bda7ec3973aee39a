"""One team of threads for torch's products and the native kernels between them."""

from __future__ import annotations

import ctypes
from pathlib import Path

import torch

from mafsar.kernels.dispatch import native


def work_on_torchs_threads() -> None:
    """Have the native module work on the OpenMP threads that torch's products run on.

    Threads of its own would wait for processors on which torch's, idle, spin for milliseconds. An
    op beside a product takes a third of the time less (benchmarks/kernels.py). A torch built
    without OpenMP has no team to share.
    """
    module = native()
    library = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    if module is None or not library.exists():
        return
    # Looked up among what that library was linked with: the very runtime that it uses.
    enter = getattr(ctypes.CDLL(str(library)), "GOMP_parallel", None)
    if enter is not None:
        module.use_team(ctypes.cast(enter, ctypes.c_void_p).value)
