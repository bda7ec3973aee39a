"""csrc for aarch64: its plain tests under qemu, and the module for CPython 3.10 linked and looked at.

Run by `make test-aarch64`, which says what has to be installed.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.aarch64
ROOT = Path(__file__).parents[2]
CSRC = ROOT / "csrc"
CXX = "aarch64-linux-gnu-g++"
# JetPack 6 is Ubuntu 22.04.
NEWEST = {"GLIBC": (2, 35), "GLIBCXX": (3, 4, 30), "CXXABI": (1, 3, 13)}
# What pyconfig.h says of the machine; everything else in Python's headers is the same everywhere.
FACTS = """
#include <Python.h>
static_assert(sizeof(int) == SIZEOF_INT && sizeof(long) == SIZEOF_LONG, "");
static_assert(sizeof(void*) == SIZEOF_VOID_P && sizeof(size_t) == SIZEOF_SIZE_T, "");
static_assert(sizeof(long long) == SIZEOF_LONG_LONG && sizeof(short) == SIZEOF_SHORT, "");
static_assert(sizeof(float) == SIZEOF_FLOAT && sizeof(double) == SIZEOF_DOUBLE, "");
static_assert(sizeof(wchar_t) == SIZEOF_WCHAR_T && sizeof(off_t) == SIZEOF_OFF_T, "");
static_assert(sizeof(time_t) == SIZEOF_TIME_T && sizeof(pthread_t) == SIZEOF_PTHREAD_T, "");
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "");
"""


def run(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=900, check=False, cwd=cwd
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory, kernel_build: ModuleType) -> list[str]:
    """The kernels' object files."""
    flags = ["-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror"]
    return kernel_build.compile_kernels(CXX, flags, tmp_path_factory.mktemp("objects"), "aarch64")


@pytest.mark.timeout(1800)
def test_the_kernels_under_qemu(objects: list[str], tmp_path: Path) -> None:
    program = str(tmp_path / "test_golden")
    source = str(CSRC / "tests" / "test_golden.cpp")
    run(CXX, "-std=c++17", "-O2", f"-I{CSRC}", source, *objects, "-static", "-o", program)
    assert "AArch64" in run("aarch64-linux-gnu-readelf", "-h", program)
    assert "neon right" in run("qemu-aarch64", program, str(CSRC / "tests" / "golden.txt"))


@pytest.fixture(scope="module")
def python() -> str:
    """The Python whose headers are taken: 3.10, as on JetPack 6, where there is one."""
    return os.environ.get("PYTHON310") or sys.executable


@pytest.fixture(scope="module")
def module(python: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The native module, by the project's own build file."""
    import pybind11

    folder = tmp_path_factory.mktemp("module")
    ask = (
        "import sysconfig; print(sysconfig.get_path('include'), sysconfig.get_config_var('SOABI'))"
    )
    include, abi = run(python, "-c", ask).split()
    facts = folder / "facts.cpp"
    facts.write_text(FACTS)
    run(CXX, "-std=c++17", f"-I{include}", "-c", str(facts), "-o", str(folder / "facts.o"))
    suffix = "." + abi.replace("x86_64", "aarch64") + ".so"
    told = run(
        "cmake", "-S", str(ROOT), "-B", str(folder), "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release",
        f"-DCMAKE_TOOLCHAIN_FILE={CSRC / 'tests' / 'aarch64.cmake'}",
        "-DSKBUILD=1", "-DSKBUILD_PROJECT_NAME=mafsar", "-DSKBUILD_PROJECT_VERSION=0",
        "-DMAFSAR_WERROR=ON", f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
        f"-DPython_EXECUTABLE={python}", f"-DPython_INCLUDE_DIR={include}",
        f"-DPYTHON_MODULE_EXTENSION={suffix}",
    )  # fmt: skip
    assert "MAFSAR_CUDA: OFF" in told, "nothing asked for CUDA, and aarch64 does without"
    run("cmake", "--build", str(folder))
    (made,) = folder.glob("_native*.so")
    assert made.name.endswith(suffix)
    return made


@pytest.mark.timeout(1800)
def test_the_module_is_linked_for_the_device(module: Path, python: str) -> None:
    header = run("aarch64-linux-gnu-readelf", "-h", str(module))
    assert "AArch64" in header
    assert "DYN (Shared object file)" in header
    needed = set(
        re.findall(r"NEEDED.*\[(.*)\]", run("aarch64-linux-gnu-readelf", "-d", str(module)))
    )
    system = {"libstdc++.so.6", "libm.so.6", "libgcc_s.so.1", "libc.so.6", "libpthread.so.0",
              "ld-linux-aarch64.so.1"}  # fmt: skip
    assert needed <= system, "no CUDA, no libpython: what every JetPack has"
    symbols = run("aarch64-linux-gnu-readelf", "-W", "--dyn-syms", str(module))
    assert re.search(r"GLOBAL DEFAULT +\d+ PyInit__native\b", symbols)
    for library, newest in NEWEST.items():
        for found in re.findall(rf"@{library}_([\d.]+)", symbols):
            assert tuple(map(int, found.split("."))) <= newest, f"{library}_{found}"
    asked = sorted(set(re.findall(r"UND (_?Py\w+)", symbols)))
    assert len(asked) > 50
    # Every function of Python that it calls is in that Python.
    code = "import ctypes, sys; [getattr(ctypes.pythonapi, name) for name in sys.argv[1:]]"
    run(python, "-c", code, *asked)


def test_extras_that_a_jetson_has_already() -> None:
    """TensorRT comes with JetPack: a package would hide it."""
    from importlib.metadata import requires

    from packaging.requirements import Requirement

    board = {"platform_machine": "aarch64", "sys_platform": "linux", "python_version": "3.10"}
    wanted: dict[str, set[str]] = {}
    for extra in ("", "trt", "trt-rtx", "cuda"):
        parsed = [Requirement(line) for line in requires("mafsar") or []]
        wanted[extra] = {
            item.name
            for item in parsed
            if item.marker is None or item.marker.evaluate(board | {"extra": extra})
        }
    assert wanted["trt"] == wanted["trt-rtx"] == wanted["cuda"] == wanted[""]
    assert "onnxruntime" in wanted[""]
    assert "onnxruntime-gpu" not in wanted[""]
    assert not wanted[""] & {"torch", "torchvision", "open_clip_torch", "tensorrt"}
