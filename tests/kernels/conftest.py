"""The restatement of the method, the instruction sets to test, and the rules of tolerance."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from mafsar import kernels
from mafsar.kernels import dispatch

EPS = float(np.finfo(np.float32).eps)


def beside(name: str) -> ModuleType:
    """A file of this folder, which is no package's module."""
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"kernels_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up by name
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def truth() -> ModuleType:
    """tests/kernels/restatement.py."""
    return beside("restatement")


@pytest.fixture(scope="session")
def bodies(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The GPU's kernel bodies, compiled for the CPU: tests/kernels/emulated.py."""
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("c++")
    if not compiler:
        pytest.skip("no C++ compiler on PATH")
    return beside("emulated").build(compiler, tmp_path_factory.mktemp("emulated"))


def available_isas() -> list[str]:
    """Instruction sets that this processor and this build have; one that skips without the module."""
    native = dispatch.native()
    if native is None:
        return ["none"]
    before = native.isa()
    names = [name for name in ("avx512", "avx2", "sse2", "neon", "generic") if native.use_isa(name)]
    native.use_isa(before)
    return names


@pytest.fixture(params=available_isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every instruction set that can run here, one after the other."""
    native = dispatch.native()
    if native is None:
        pytest.skip("the native module is not installed")
    before = native.isa()
    assert native.use_isa(request.param)
    yield request.param
    native.use_isa(before)


@pytest.fixture
def two_threads() -> Iterator[None]:
    """At least two threads, however few the processors."""
    before = kernels.get_num_threads()
    kernels.set_num_threads(2)
    yield
    kernels.set_num_threads(before)


@pytest.fixture
def generator() -> torch.Generator:
    """Seeded numbers."""
    return torch.Generator().manual_seed(20)


@pytest.fixture(scope="session")
def check_values():
    """Rule: error ≤ 2 × the error of the float32 twin + 8·eps·(1 + largest |C|)."""

    def check(got: np.ndarray, twin: np.ndarray, want: np.ndarray, largest: float) -> None:
        error = np.abs(got.astype(np.float64) - want).max(initial=0.0)
        allowed = 2.0 * np.abs(twin.astype(np.float64) - want).max(initial=0.0)
        allowed += 8.0 * EPS * (1.0 + largest)
        assert error <= allowed, f"error {error:.3g}, allowed {allowed:.3g}"

    return check


@pytest.fixture(scope="session")
def check_gradients():
    """Rule: error ≤ 2 × the error of the float32 twin + 1e-6."""

    def check(got: np.ndarray, twin: np.ndarray, want: np.ndarray) -> None:
        error = np.abs(got.astype(np.float64) - want).max(initial=0.0)
        allowed = 2.0 * np.abs(twin.astype(np.float64) - want).max(initial=0.0) + 1e-6
        assert error <= allowed, f"error {error:.3g}, allowed {allowed:.3g}"

    return check
