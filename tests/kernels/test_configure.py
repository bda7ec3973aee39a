"""CMake's choice of CUDA chips, with compilers that know fewer of them or do not work at all."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OLD = "compute_35 compute_50 compute_52 compute_60 compute_70 compute_75 compute_80 compute_86 compute_87"
FUTURE = (
    "compute_80 compute_86 compute_87 compute_89 compute_90 compute_100 compute_120 compute_130"
)
ALIEN = "compute_130 compute_140"

Configure = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def configure(tmp_path: Path) -> Configure:
    """Runs CMake on the project with a shell script in place of nvcc; `real` is the real one."""
    cmake, real = shutil.which("cmake"), shutil.which("nvcc")
    cmake = cmake or shutil.which("cmake", path=str(Path(sys.executable).parent))
    if cmake is None:
        pytest.skip("no cmake on PATH")
    found = subprocess.run(
        [sys.executable, "-m", "pybind11", "--cmakedir"],
        capture_output=True,
        text=True,
        check=False,
    )
    if found.returncode != 0:
        pytest.skip("pybind11 is not installed")

    def run(script: str | None, mode: str = "AUTO") -> subprocess.CompletedProcess[str]:
        environment = {k: v for k, v in os.environ.items() if k not in ("CUDACXX", "CUDAARCHS")}
        if script is None:
            environment["CUDACXX"] = ""
            script = ""
        if "$REAL" in script and real is None:
            pytest.skip("no nvcc on PATH")
        nvcc = tmp_path / "bin" / "nvcc"
        nvcc.parent.mkdir()
        nvcc.write_text(f"#!/bin/sh\nREAL={real}\n{textwrap.dedent(script)}\n")
        nvcc.chmod(0o755)
        environment["PATH"] = f"{nvcc.parent}{os.pathsep}{environment['PATH']}"
        words = [
            cmake, "-S", str(ROOT), "-B", str(tmp_path / "build"), f"-DMAFSAR_CUDA={mode}",
            "-DSKBUILD_PROJECT_NAME=mafsar", "-DSKBUILD_PROJECT_VERSION=0",
            f"-DPython_EXECUTABLE={sys.executable}", f"-Dpybind11_DIR={found.stdout.strip()}",
        ]  # fmt: skip
        return subprocess.run(
            words, env=environment, capture_output=True, text=True, check=False, cwd=tmp_path
        )

    return run


def knows(chips: str) -> str:
    """A script that knows these chips and compiles as the real one does."""
    return f'''
        if [ "$1" = --list-gpu-arch ]; then printf '%s\\n' {chips}; exit; fi
        case "$*" in *compute_*)
          for word in "$@"; do case "$word" in *compute_*)
            chip=compute_${{word##*compute_}}; chip=${{chip%%[!a-z0-9_]*}}
            case " {chips} " in *" $chip "*) ;; *)
              echo "nvcc fatal: Unsupported gpu architecture '$chip'" >&2; exit 1 ;; esac ;;
          esac; done ;;
        esac
        exec "$REAL" "$@"'''


@pytest.mark.parametrize(
    ("chips", "want"),
    [
        (OLD, "75-real;80-real;86-real;87"),
        (FUTURE, "80-real;86-real;87-real;89-real;90;120-real"),
    ],
    ids=["as CUDA 11.5", "without 7.5"],
)
def test_builds_for_the_chips_that_nvcc_knows(configure: Configure, chips: str, want: str) -> None:
    # The real compiler has to take them too, or CMake's own trial fails.
    done = configure(knows(chips))
    assert done.returncode == 0, done.stderr
    assert f"CUDA kernels for {want}\n" in done.stdout
    assert "Building without" not in done.stdout + done.stderr


CANNOT_LIST = """
    if [ "$1" = --list-gpu-arch ]; then echo 'unknown option' >&2; exit 1; fi
    exec "$REAL" "$@"
"""
CANNOT_COMPILE = """
    if [ "$1" = --list-gpu-arch ]; then echo compute_80; exit; fi
    echo 'unsupported GNU version' >&2; exit 1
"""


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (knows(ALIEN), "knows the chips 130 140 and none of 75 80 86 87 89 90 120"),
        (CANNOT_LIST, "--list-gpu-arch fails (1 unknown option)"),
        (CANNOT_COMPILE, "cannot compile here"),
    ],
    ids=["none of them", "cannot list", "does not work"],
)
def test_builds_for_the_cpu_alone_and_says_why(
    configure: Configure, script: str, reason: str
) -> None:
    done = configure(script)
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stderr.split())
    assert "CMake Warning" in said
    assert re.search(r"Building without CUDA kernels: \S+nvcc ", said)
    assert reason in said


def test_no_nvcc_is_no_reason_to_warn(configure: Configure) -> None:
    done = configure(None)
    assert done.returncode == 0, done.stderr
    assert "Building without CUDA kernels: no CUDA compiler was found" in done.stdout
    assert "CUDA" not in done.stderr


def test_an_nvcc_that_was_asked_for_has_to_work(configure: Configure) -> None:
    done = configure("exit 1", "ON")
    assert done.returncode != 0
    assert "MAFSAR_CUDA=ON, but" in done.stderr
