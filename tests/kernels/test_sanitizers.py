"""The native code under the address, undefined behaviour and thread sanitizers of the compiler."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
CSRC = ROOT / "csrc"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CSRC.is_dir(), reason="the C++ sources are not next to the tests"),
]


def run(*command: str, **environment: str) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=1500, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-3000:]}{done.stderr[-6000:]}"
    return done.stdout + done.stderr


def built(
    kernel_build: ModuleType,
    folder: Path,
    sanitizer: str,
    *more: str | Path,
    out: Path,
    shared: bool = False,
) -> Path:
    """The kernels with a sanitizer, linked with a program or into the module."""
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("c++")
    if not compiler:
        pytest.skip("no C++ compiler on PATH")
    flags = ["-std=c++17", "-O1", "-g", f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all"]
    flags += ["-fno-omit-frame-pointer", "-pthread", *(["-fPIC"] if shared else [])]
    objects = kernel_build.compile_kernels(compiler, flags, folder)
    kind = ["-shared"] if shared else []
    run(
        compiler,
        *flags,
        *kernel_build.common_flags(),
        *kind,
        *map(str, more),
        *objects,
        "-o",
        str(out),
    )
    return out


def test_threads_give_the_bits_of_a_lone_caller_without_a_race(
    kernel_build: ModuleType, tmp_path: Path
) -> None:
    source, out = CSRC / "tests" / "threads.cpp", tmp_path / "threads"
    program = built(kernel_build, tmp_path, "thread", source, out=out)
    # ThreadSanitizer knows only the usual places of memory.
    command = ["setarch", platform.machine(), "-R"] if shutil.which("setarch") else []
    said = run(*command, str(program), "16", "32", TSAN_OPTIONS="halt_on_error=1")
    assert "512 calls, 0 of them wrong" in said


@pytest.mark.parametrize("source", ["threads.cpp", "test_golden.cpp", "fuzz.cpp"])
def test_the_kernels_touch_only_their_memory(
    kernel_build: ModuleType, tmp_path: Path, source: str
) -> None:
    more = ["-DMAFSAR_FUZZ_MAIN"] if source == "fuzz.cpp" else []
    program = built(
        kernel_build,
        tmp_path,
        "address,undefined",
        *more,
        CSRC / "tests" / source,
        out=tmp_path / "program",
    )
    words = {"threads.cpp": ["4", "32"], "fuzz.cpp": ["2000"]}
    assert run(str(program), *words.get(source, [str(CSRC / "tests" / "golden.txt")]))


@pytest.mark.parametrize("target", ["native code", "bank", "manifest", "clip list", "store"])
def test_fuzzers_led_by_coverage_find_nothing(target: str) -> None:
    """A part of `make fuzz`: libFuzzer on the launchers, atheris on parsers."""
    script = ROOT / "tests" / "fuzz" / "guided.py"
    said = run(sys.executable, str(script), target, "--runs", "500", "--seconds", "60")
    if "not available" in said or "no libFuzzer" in said:
        pytest.skip(said.strip())
    assert "'failures': []" in said


def test_the_module_takes_any_shape_under_the_address_sanitizer(
    kernel_build: ModuleType, tmp_path: Path
) -> None:
    """The native part of `make fuzz` against a module that the sanitizers watch."""
    pybind11 = pytest.importorskip("pybind11")
    numpy = pytest.importorskip("numpy")
    tree = tmp_path / "tree" / "mafsar"
    tree.mkdir(parents=True)
    for entry in (ROOT / "mafsar").iterdir():
        if entry.name != "__pycache__":
            (tree / entry.name).symlink_to(entry)
    (tree / "export").symlink_to(ROOT / "export")
    name = f"_native{sysconfig.get_config_var('EXT_SUFFIX')}"
    includes = [f"-I{pybind11.get_include()}", f"-I{sysconfig.get_path('include')}"]
    built(
        kernel_build, tmp_path, "address,undefined", *includes, CSRC / "bindings.cpp",
        out=tree / name, shared=True,
    )  # fmt: skip
    libraries = [
        subprocess.run(
            ["g++", f"-print-file-name=lib{each}.so"], capture_output=True, text=True, check=True
        ).stdout.strip()
        for each in ("asan", "ubsan")
    ]
    places = [str(tmp_path / "tree"), str(Path(numpy.__file__).parents[1])]
    said = run(
        sys.executable, str(ROOT / "tests" / "fuzz" / "run.py"), "native", "--share", "3",
        PYTHONPATH=os.pathsep.join(places), LD_PRELOAD=" ".join(libraries),
        ASAN_OPTIONS="detect_leaks=0:halt_on_error=1:allocator_may_return_null=1", OMP_NUM_THREADS="2",
    )  # fmt: skip
    assert "3,000" in said
