"""The true values, the emulated GPU kernels, the instruction sets to test, the tolerances."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from mafsar import kernels
from mafsar.kernels import dispatch

EPS = float(np.finfo(np.float32).eps)


@pytest.fixture(scope="session")
def truth(restated_matching: ModuleType) -> ModuleType:
    """tests/restatements/matching.py."""
    return restated_matching


@pytest.fixture(scope="session")
def bodies(
    tmp_path_factory: pytest.TempPathFactory, load_file: Callable[[Path], ModuleType]
) -> Any:
    """The GPU's kernel bodies, compiled for the CPU: tests/kernels/emulated.py."""
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("c++")
    if not compiler:
        pytest.skip("no C++ compiler on PATH")
    emulated = load_file(Path(__file__).with_name("emulated.py"))
    return emulated.build(compiler, tmp_path_factory.mktemp("emulated"))


def available_isas() -> list[str]:
    """Instruction sets of this processor and build; one that skips without the native module."""
    native = dispatch.native()
    if native is None:
        return ["none"]
    before = native.isa()
    names = [name for name in ("avx512", "avx2", "sse2", "neon", "generic") if native.use_isa(name)]
    native.use_isa(before)
    return names


@pytest.fixture(params=available_isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every instruction set of this machine, one after the other."""
    native = dispatch.native()
    if native is None:
        pytest.skip("the native module is not installed")
    before = native.isa()
    assert native.use_isa(request.param)
    yield request.param
    native.use_isa(before)


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Two threads, also on one processor."""
    before = kernels.get_num_threads()
    kernels.set_num_threads(2)
    yield
    kernels.set_num_threads(before)


@pytest.fixture
def generator() -> torch.Generator:
    """A seeded generator."""
    return torch.Generator().manual_seed(20)


@pytest.fixture(scope="session")
def check_values():
    """Check that error ≤ 2 × the error of the float32 twin + 8·eps·(1 + largest |C|)."""

    def check(got: np.ndarray, twin: np.ndarray, want: np.ndarray, largest: float) -> None:
        error = np.abs(got.astype(np.float64) - want).max(initial=0.0)
        allowed = 2.0 * np.abs(twin.astype(np.float64) - want).max(initial=0.0)
        allowed += 8.0 * EPS * (1.0 + largest)
        assert error <= allowed, f"error {error:.3g}, allowed {allowed:.3g}"

    return check


@pytest.fixture(scope="session")
def check_gradients():
    """Check that error ≤ 2 × the error of the float32 twin + 1e-6."""

    def check(got: np.ndarray, twin: np.ndarray, want: np.ndarray) -> None:
        error = np.abs(got.astype(np.float64) - want).max(initial=0.0)
        allowed = 2.0 * np.abs(twin.astype(np.float64) - want).max(initial=0.0) + 1e-6
        assert error <= allowed, f"error {error:.3g}, allowed {allowed:.3g}"

    return check
