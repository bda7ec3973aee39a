"""Installs without torch or without the native module, what `status` says, numpy arrays."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mafsar import kernels
from mafsar.kernels import dispatch

BLOCK = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r} or name.startswith({name!r} + "."):
            raise ImportError("blocked")
sys.meta_path.insert(0, Blocked())
"""


def run_python(code, **variables):
    """Output and log of a new interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **variables},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_numpy_works_where_torch_is_not_installed():
    out, _ = run_python(
        BLOCK.format(name="torch")
        + """
import numpy as np
from mafsar import kernels
query, support = np.ones((2, 8, 4), np.float32), np.ones((3, 8, 4), np.float32)
assert kernels.otam_match(query, support).dtype == np.float32
assert kernels.bimhm_match(query, support).shape == (2, 3)
assert abs(kernels.mean_match(query, support)).max() < 1e-6
assert kernels.otam_alignment(kernels.frame_distances(query, support)).shape == (2, 3, 8, 8)
assert "torch" not in sys.modules
print(round(float(kernels.otam(np.zeros((8, 8), np.float32), 0.1, False)), 4))
"""
    )
    assert out.strip() == "-0.8436"


def test_importing_the_package_does_not_import_torch():
    run_python("import sys, mafsar.kernels; assert 'torch' not in sys.modules")


def test_a_bare_gpu_machine_can_run_these_tests_and_their_benchmark():
    """benchmarks/gpu_check.sh runs them on machines with torch, numpy and pytest, and little else."""
    packages = ("av", "PIL", "onnxruntime", "open_clip", "safetensors", "tokenizers", "ftfy")
    blocks = "".join(BLOCK.format(name=name) for name in (*packages, "torchvision", "typer"))
    run_python(
        blocks + "import mafsar.kernels.torch_ops.matching, mafsar.kernels.torch_ops.adapter\n"
        "import mafsar.model.network, mafsar.model.class_scores, mafsar.model.adapters\n"
        "import mafsar.training.precision\n"
        f"import runpy; runpy.run_path({str(Path(__file__).parents[1] / 'conftest.py')!r})"
    )
    allowed = {"torch", "numpy", "mafsar", "pytest"}
    for path in Path(__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                top = name.split(".")[0]
                assert top in allowed or top in sys.stdlib_module_names, f"{path.name}: {name}"
                assert not name.startswith("mafsar.") or name.startswith("mafsar.kernels"), name


def test_works_without_the_native_module_and_says_so_once():
    out, err = run_python(
        BLOCK.format(name="mafsar._native")
        + """
import numpy as np, torch
from mafsar import kernels
rng = np.random.default_rng(0)
query = rng.normal(size=(2, 3, 8, 5)).astype(np.float32)
support = rng.normal(size=(2, 4, 6, 5)).astype(np.float32)
lengths = np.array([[1, 8, 3], [2, 5, 8]])
for op in (kernels.otam_match, kernels.bimhm_match):
    in_numpy = op(query, support, query_lengths=lengths)
    leaf = torch.tensor(query, requires_grad=True)
    in_torch = op(leaf, torch.tensor(support), query_lengths=torch.tensor(lengths))
    np.testing.assert_allclose(in_numpy, in_torch.detach().numpy(), atol=1e-5)
    in_torch.sum().backward()
    assert leaf.grad.abs().sum() > 0
distances = kernels.frame_distances(query, support)
assert (kernels.otam_alignment(distances) >= 0).all()
assert kernels.otam(distances).shape == kernels.bimhm(distances).shape == (2, 3, 4)
kernels.set_num_threads(2)
assert kernels.get_num_threads() == 1
for op in kernels.status():
    print(op.name, op.backend, op.detail)
"""
    )
    for name in ("otam", "bimhm", "otam_match", "bimhm_match"):
        assert f"{name} twin" in out
    assert "blocked" in out
    assert err.count("slower numpy and torch twins") == 1


def test_status_names_every_op():
    backend = "twin" if dispatch.native() is None else "native"
    ops = {op.name: op for op in kernels.status()}
    for name in ("otam", "bimhm", "otam_match", "bimhm_match", "temporal_adapter"):
        assert ops[name].backend == backend
        assert "\n" not in ops[name].detail
        if backend == "native":
            assert f"CPU native ({dispatch.native().isa()}" in ops[name].detail
            assert "CUDA native (for " in ops[name].detail or "CUDA twin (" in ops[name].detail


def test_the_number_of_threads_follows_the_environment_and_the_user():
    code = "from mafsar import kernels; print(kernels.get_num_threads())"
    if dispatch.native() is not None:
        assert run_python(code, OMP_NUM_THREADS="3")[0].strip() == "3"
        before = kernels.get_num_threads()
        kernels.set_num_threads(4)
        assert kernels.get_num_threads() == 4
        kernels.set_num_threads(before)
    with pytest.raises(ValueError, match="count must be ≥ 1, got 0"):
        kernels.set_num_threads(0)


def test_alignment_is_the_gradient(truth):
    distances = np.random.default_rng(2).uniform(0, 2, (3, 8, 6))
    want = np.stack([truth.both(pair, 0.3).gradient for pair in distances])
    np.testing.assert_allclose(kernels.otam_alignment(distances, 0.3), want, atol=1e-9)
    single = kernels.otam_alignment(distances.astype(np.float32), 0.3)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, want, atol=1e-5)
    assert kernels.otam_alignment(np.zeros((0, 8, 8), np.float32)).shape == (0, 8, 8)


def test_numpy_dtypes(truth):
    distances = np.random.default_rng(3).uniform(0, 2, (4, 8, 8))
    exact = kernels.otam(distances)
    assert exact.dtype == np.float64
    assert exact[0] == pytest.approx(truth.both(distances[0], 0.5).value, abs=1e-10)
    half = kernels.otam(distances.astype(np.float16))
    assert half.dtype == np.float32
    np.testing.assert_array_equal(half, kernels.otam(distances.astype(np.float16).astype("f4")))
    assert kernels.otam(distances[0].tolist()).shape == ()
    swapped = distances.astype(np.float32).swapaxes(1, 2)[::-1]
    np.testing.assert_array_equal(
        kernels.otam(swapped), kernels.otam(np.ascontiguousarray(swapped))
    )


class OldGpu:
    """A module built with CUDA, on a machine with two GPUs, the first of which it has no code for."""

    def __init__(self, module: Any) -> None:
        self.module, self.driver, self.devices = module, 12040, 2
        self.asked: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.module, name)

    def cuda_architectures(self) -> str:
        return "75 90"

    def cuda_driver_version(self) -> int:
        return self.driver

    def cuda_devices(self) -> int:
        return self.devices

    def cuda_problem(self, index: int) -> str:
        self.asked.append(index)
        return "no kernel image is available" if index == 0 else ""


@pytest.fixture
def old_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[OldGpu]:
    if dispatch.native() is None:
        pytest.skip("no native module")
    module = OldGpu(dispatch.native())
    monkeypatch.setattr(dispatch, "_load", lambda: (module, ""))
    dispatch.cuda_problem.cache_clear()
    yield module
    dispatch.cuda_problem.cache_clear()


def test_a_gpu_without_code_takes_the_twin_and_is_named_once(old_gpu, caplog):
    from mafsar.kernels.torch_ops import adapter, matching_cuda

    class Tokens:
        """What is read of a tensor on a GPU."""

        is_cpu, is_cuda, shape, dtype = False, True, (1, 8, 64), torch.float16

        def __init__(self, index: int) -> None:
            self.device = torch.device("cuda", index)

    for _ in range(3):
        assert not adapter.takes_native(Tokens(0))
        assert adapter.takes_native(Tokens(1))
        assert not matching_cuda._fits(Tokens(0), 8, 8, None)
    assert old_gpu.asked == [0, 1]
    said = [record.getMessage() for record in caplog.records]
    expected = (
        "GPU 0: the CUDA kernels (for 75 90) cannot run: no kernel image is available; "
        "the torch twins are used there"
    )
    assert said == [expected]
    assert all("; twin on GPU 0: the CUDA kernels" in state.detail for state in kernels.status())


def test_a_driver_that_is_too_old_shows_no_gpu(old_gpu):
    old_gpu.devices = 0
    assert list(dispatch.cuda_problems()) == [0]
    old_gpu.driver = 0  # none is installed: nothing to say
    assert dispatch.cuda_problems() == {}


@pytest.mark.skipif(not dispatch.has_cuda(), reason="built without CUDA")
def test_without_a_driver_the_kernels_say_so():
    native = dispatch.native()
    if native.cuda_devices():
        assert native.cuda_problem(0) == ""
    else:
        assert "CUDA" in native.cuda_problem(0)


def test_lengths_on_the_cpu_are_refused_within_a_capture(monkeypatch):
    from mafsar.kernels.torch_ops import matching_cuda

    lengths, like = torch.tensor([3, 4]), torch.zeros(1)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    assert matching_cuda._lengths("query_lengths", lengths, like, (8,)).tolist() == [3, 4]
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    with pytest.raises(RuntimeError, match="query_lengths: lengths on the CPU cannot be recorded"):
        matching_cuda._lengths("query_lengths", lengths, like, (8,))
