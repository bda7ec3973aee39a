"""Compiles the kernels for the CPU without CMake, for test programs (standard library only)."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path

CSRC = Path(__file__).resolve().parents[1]
_AVX2 = ("-mavx2", "-mfma")
_ONLY_X86_64 = {
    "isa_avx2": _AVX2,
    "isa_avx512": (*_AVX2, *(f"-mavx512{part}" for part in ("f", "dq", "bw", "vl"))),
}


def common_flags(machine: str = "") -> list[str]:
    """What every file is compiled with for a machine: "x86_64", "aarch64" …; empty: this one."""
    x86_64 = (machine or platform.machine()) == "x86_64"
    return [f"-I{CSRC}", *(["-DMAFSAR_X86_64"] if x86_64 else [])]


def compile_kernels(
    compiler: str, flags: Sequence[str], folder: Path, machine: str = ""
) -> list[str]:
    """The object files, in `folder`; `flags` come before those of a machine and of a file.

    Raises:
        subprocess.CalledProcessError: The compiler failed; it has said why.
    """
    objects = []
    common = common_flags(machine)
    for source in sorted((CSRC / "cpu").glob("*.cpp")):
        if source.stem in _ONLY_X86_64 and "-DMAFSAR_X86_64" not in common:
            continue
        objects.append(str(folder / f"{source.stem}.o"))
        own = _ONLY_X86_64.get(source.stem, ())
        command = [compiler, *flags, *common, *own, "-c", str(source), "-o", objects[-1]]
        subprocess.run(command, check=True, timeout=900)
    return objects
