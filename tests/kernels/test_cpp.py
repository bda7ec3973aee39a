"""The C++ sources alone: the CPU kernels without Python, and the per-pair headers as CUDA code."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CSRC = Path(__file__).parents[2] / "csrc"
CUDA_SOURCE = """
#include "mafsar/bimhm.h"
#include "mafsar/otam.h"
using namespace mafsar::portable;
struct Read {
  const float* d; int columns;
  MAFSAR_HD float operator()(int l, int m) const { return d[l * columns + m]; }
};
struct Add {
  float* g; int columns;
  MAFSAR_HD void operator()(int l, int m, float v) const { g[l * columns + m] += v; }
};
__global__ void all(const float* d, float* g, float* out, int rows, int columns, double lam) {
  float row[64], table[2 * 32 * 33];
  const SoftMinimum with = make_soft_minimum(lam);
  const Read read{d, columns};
  out[0] = otam_forward(rows, columns, with, read, row, KeepNothing{});
  otam_forward(rows, columns, with, read, row, KeepWeights<float>{table, columns});
  otam_backward(rows, columns, 1.0f, table, row, Add{g, columns});
  out[1] = bimhm_forward(rows, columns, read, row);
  bimhm_backward(rows, columns, 1.0f, read, row, Add{g, columns});
}
"""


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


@pytest.mark.skipif(not CSRC.is_dir(), reason="the C++ sources are not next to the tests")
def test_kernels_without_python(tmp_path, kernel_build):
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("c++")
    if not compiler:
        pytest.skip("no C++ compiler on PATH")
    # Low optimisation also reveals code that works only if everything is inlined.
    flags = ["-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror"]
    common = kernel_build.common_flags()
    objects = kernel_build.compile_kernels(compiler, flags, tmp_path)
    program, test = str(tmp_path / "test_golden"), str(CSRC / "tests" / "test_golden.cpp")
    run(compiler, *flags, *common, test, *objects, "-pthread", "-o", program)
    assert "right" in run(program, str(CSRC / "tests" / "golden.txt"))
    # A fixed part of what libFuzzer tries: any size, length and value, all tables beside each other.
    program, source = str(tmp_path / "fuzz"), str(CSRC / "tests" / "fuzz.cpp")
    run(
        compiler, *flags, *common, "-DMAFSAR_FUZZ_MAIN", source, *objects, "-pthread", "-o", program
    )
    assert "Done 1000 runs" in run(program, "1000")


@pytest.mark.skipif(not CSRC.is_dir(), reason="the C++ sources are not next to the tests")
def test_golden_numbers_are_those_of_the_script():
    script, golden = (CSRC / "tests" / name for name in ("write_golden.py", "golden.txt"))
    written = run(sys.executable, str(script)).split()
    stored = golden.read_text(encoding="utf-8").split()
    assert len(written) == len(stored)
    for now, then in zip(written, stored, strict=True):
        assert now == then or abs(float(now) - float(then)) <= 1e-7 * (1 + abs(float(then)))


@pytest.mark.skipif(not CSRC.is_dir(), reason="the C++ sources are not next to the tests")
def test_the_mathematics_of_a_pair_compiles_as_cuda(tmp_path):
    compiler = os.environ.get("CUDACXX") or shutil.which("nvcc")
    if not compiler:
        pytest.skip("no nvcc on PATH")
    source = tmp_path / "pair.cu"
    source.write_text(CUDA_SOURCE)
    told = run(
        compiler,
        "-std=c++17",
        "-arch=sm_80",
        "-Werror=all-warnings",
        f"-I{CSRC}",
        "-c",
        str(source),
        "-o",
        str(tmp_path / "pair.o"),
    )
    assert "warning" not in told


ONCE_SOURCE = """
#include <atomic>
#include <cstdio>
#include <stdexcept>
#include <thread>
#include <vector>
#include "cuda/once.h"

int main() {
  mafsar::OncePerDevice once;
  std::atomic<int> runs{0};
  const int kernels[2] = {0, 0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 300; ++i) once.run(&kernels[i % 2], i % 3, [&] { ++runs; });
    });
  }
  for (auto& thread : threads) thread.join();
  int tries = 0;
  for (int i = 0; i < 2; ++i) {
    try {
      once.run(&kernels[0], 9, [&] { if (++tries == 1) throw std::runtime_error("first"); });
    } catch (const std::runtime_error&) {}
  }
  once.run(&kernels[0], 9, [&] { ++tries; });
  std::printf("%d runs, %d tries", runs.load(), tries);
}
"""


@pytest.mark.skipif(not CSRC.is_dir(), reason="the C++ sources are not next to the tests")
def test_an_attribute_is_set_once_a_kernel_and_device(tmp_path):
    compiler = os.environ.get("CXX") or shutil.which("g++")
    if not compiler:
        pytest.skip("no C++ compiler on PATH")
    source, program = tmp_path / "once.cpp", tmp_path / "once"
    source.write_text(ONCE_SOURCE)
    run(compiler, "-std=c++17", f"-I{CSRC}", str(source), "-pthread", "-o", str(program))
    assert run(str(program)) == "6 runs, 2 tries"
