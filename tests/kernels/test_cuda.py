"""Every op on a GPU: values and gradients against float64, graphs, streams, repeatability.

The tests need an NVIDIA GPU and a native module built with CUDA. If one is missing they are skipped
with the reason, or fail with MAFSAR_REQUIRE_CUDA=1. benchmarks/gpu_check.sh runs them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from mafsar import kernels
from mafsar.kernels import dispatch, reference
from mafsar.kernels.torch_ops import adapter, matching_cuda

EPS = {torch.float32: 2.0**-23, torch.float16: 2.0**-10, torch.bfloat16: 2.0**-7}
RUNS = int(os.environ.get("MAFSAR_CUDA_RUNS", "1000"))


@pytest.fixture(autouse=True)
def _gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A GPU and its kernels, with products in full float32, so that the twins are exact."""
    missing = None
    if not torch.cuda.is_available():
        missing = "no CUDA device"
    elif not dispatch.has_cuda():
        missing = "the native module was built without CUDA"
    if missing and os.environ.get("MAFSAR_REQUIRE_CUDA") == "1":
        pytest.fail(f"{missing}, and MAFSAR_REQUIRE_CUDA=1")
    if missing:
        pytest.skip(missing)
    assert matching_cuda  # imported, the kernels are registered
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    # A twin in place of a kernel would pass every test below.
    assert not dispatch.cuda_problem(0), dispatch.cuda_problem(0)
    assert adapter.takes_native(torch.empty(1, 1, 8, device="cuda"))
    for name in ("otam", "bimhm", "otam_match", "bimhm_match", "temporal_adapter"):
        assert torch._C._dispatch_has_kernel_for_dispatch_key(f"mafsar::{name}", "CUDA")
    yield
    torch.cuda.synchronize()


def near(got: Tensor, twin: Tensor, want: Tensor, dtype: torch.dtype = torch.float32) -> None:
    """Check that error ≤ 2 × the error of the twin of the same storage + 8·eps·(1 + largest)."""
    assert got.shape == want.shape
    if want.numel() == 0:
        return
    error = (got.double() - want).abs().max().item()
    allowed = 2.0 * (twin.double() - want).abs().max().item()
    allowed += 8.0 * EPS[dtype] * (1.0 + want.abs().max().item())
    assert error <= allowed, f"error {error:.3g}, allowed {allowed:.3g}"


def run(function: Callable[..., Tensor], tensors: list[Tensor], grad: Tensor) -> list[Tensor]:
    leaves = [x.detach().clone().requires_grad_() for x in tensors]
    out = function(*leaves)
    return [out.detach(), *torch.autograd.grad(out, leaves, grad.to(out.dtype))]


def compare(
    ours: Callable[..., Tensor], twin: Callable[..., Tensor], tensors: list[Tensor], grad: Tensor
) -> None:
    dtype = tensors[0].dtype
    want = run(twin, [x.double() for x in tensors], grad)
    for a, b, c in zip(run(ours, tensors, grad), run(twin, tensors, grad), want, strict=True):
        near(a, b, c, dtype)


SIZES = [(1, 1), (7, 8), (8, 8), (17, 7), (32, 32), (8, 64), (97, 8)]


@pytest.mark.parametrize("lam", [1e-3, 0.1, 0.5, 10.0])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_otam(generator, lam, size):
    distances = (2.0 * torch.rand(33, *size, generator=generator)).cuda()
    grad = torch.randn(33, generator=generator).cuda()
    compare(lambda d: kernels.otam(d, lam), lambda d: reference.otam(d, lam), [distances], grad)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_bimhm(generator, size):
    distances = (2.0 * torch.rand(33, *size, generator=generator)).cuda()
    distances[3] = 1.0
    grad = torch.randn(33, generator=generator).cuda()
    compare(kernels.bimhm, reference.bimhm, [distances], grad)


def test_ragged_large_and_empty(generator):
    distances = (2e4 * torch.rand(50, 9, 8, generator=generator) - 1e4).cuda()
    lengths = torch.stack([torch.randint(1, n + 1, (50,), generator=generator) for n in (9, 8)], -1)
    got = kernels.otam(distances, 0.1, lengths=lengths)
    want = reference.otam(distances.double(), 0.1, True, lengths)
    near(got, reference.otam(distances, 0.1, True, lengths), want)
    assert kernels.otam(distances[:0]).shape == (0,)


CASES = [(1, 1, 1, 8, 8, 512), (2, 25, 5, 8, 8, 64), (1, 1, 100, 8, 8, 97), (1, 3, 4, 32, 17, 33)]


@pytest.mark.parametrize("metric", ["otam_match", "bimhm_match"])
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("ragged", [False, True], ids=["whole", "ragged"])
def test_match(generator, metric, case, ragged):
    batch, queries, classes, rows, columns, width = case
    query = torch.randn(batch, queries, rows, width, generator=generator).cuda()
    support = torch.randn(batch, classes, width, columns, generator=generator).cuda()
    lengths: dict[str, Tensor] = {}
    if ragged:
        lengths["query_lengths"] = torch.randint(1, rows + 1, (batch, queries)).cuda()
        lengths["prototype_lengths"] = torch.randint(1, columns + 1, (batch, classes)).cuda()
    grad = torch.randn(batch, queries, classes, generator=generator).cuda()
    ours, twin = getattr(kernels, metric), getattr(reference, metric)
    compare(
        lambda q, s: ours(q, s.transpose(-1, -2), **lengths),
        lambda q, s: twin(q, s.transpose(-1, -2), **lengths),
        [query, support],
        grad,
    )


def adapter_inputs(generator: Any, clips: int, frames: int, heads: int, own: int, hidden: int):
    width = heads * own
    shapes: list[tuple[int, ...]] = [
        *((width,), (width,), (3 * width, width), (3 * width,), (width, width), (width,)),
        *((hidden, width), (hidden,), (width, hidden), (width,)),
    ]
    weights = [torch.randn(s, generator=generator).cuda() * width**-0.5 for s in shapes]
    weights[0] += 1.0
    return [torch.randn(clips, frames, width, generator=generator).cuda(), *weights]


@pytest.mark.parametrize("dtype", list(EPS), ids=str)
@pytest.mark.parametrize(
    "case",
    [
        (1, 1, 1, 32, 8),
        (1, 8, 12, 64, 192),
        (6, 8, 12, 64, 192),
        (10, 8, 12, 64, 192),
        (25, 8, 12, 64, 192),
        (70, 8, 2, 64, 32),
        (3, 32, 3, 33, 7),
    ],
    ids=str,
)
def test_adapter(generator, dtype, case):
    if dtype == torch.bfloat16 and torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("no bfloat16 products on this GPU")
    tensors = [x.to(dtype) for x in adapter_inputs(generator, *case)]
    grad = torch.randn(tensors[0].shape, generator=generator).cuda()
    heads = case[2]
    compare(
        lambda *x: kernels.temporal_adapter(*x, heads=heads),
        lambda *x: reference.temporal_adapter(*x, heads),
        tensors,
        grad,
    )


def everything(query: Tensor, support: Tensor, tensors: list[Tensor]) -> Tensor:
    cost = kernels.otam_match(query, support).sum() + kernels.bimhm_match(query, support).sum()
    return cost + kernels.temporal_adapter(*tensors, heads=2).float().sum()


def with_slopes(query: Tensor, support: Tensor, tensors: list[Tensor]) -> list[Tensor]:
    leaves = [*tensors, query, support]
    out = everything(query, support, tensors)
    return [out.detach(), *torch.autograd.grad(out, leaves)]


def test_captured_in_a_graph(generator):
    tensors = [x.requires_grad_() for x in adapter_inputs(generator, 2, 8, 2, 32, 16)]
    query = torch.randn(5, 8, 64, generator=generator).cuda().requires_grad_()
    support = torch.randn(5, 8, 64, generator=generator).cuda().requires_grad_()
    side = torch.cuda.Stream()  # warmed up on it, as torch asks for graphs with gradients
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            with_slopes(query, support, tensors)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = with_slopes(query, support, tensors)
    with torch.no_grad():
        query.copy_(torch.randn(5, 8, 64, generator=generator))
    graph.replay()
    for got, want in zip(found, with_slopes(query, support, tensors), strict=True):
        torch.testing.assert_close(got, want)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_compiled_without_overhead(generator):
    query = torch.randn(5, 8, 64, generator=generator).cuda()
    support = torch.randn(5, 8, 64, generator=generator).cuda()
    compiled = torch.compile(kernels.otam_match, fullgraph=True, mode="reduce-overhead")
    for _ in range(4):
        got = compiled(query, support).clone()
        torch.testing.assert_close(got, kernels.otam_match(query, support))


def test_other_streams(generator):
    """Work on a side stream waits for the inputs of that stream, not of the default stream."""
    tensors = adapter_inputs(generator, 10, 8, 2, 32, 16)
    want = kernels.temporal_adapter(*tensors, heads=2)
    torch.cuda.synchronize()
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        torch.cuda._sleep(20_000_000)
        late = [x * 1.0 for x in tensors]
        got = kernels.temporal_adapter(*late, heads=2)
    side.synchronize()
    torch.testing.assert_close(got, want)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one CUDA device or none")
def test_other_devices(generator):
    tensors = [x.to("cuda:1") for x in adapter_inputs(generator, 2, 8, 2, 32, 16)]
    want = reference.temporal_adapter(*tensors, 2)
    torch.testing.assert_close(kernels.temporal_adapter(*tensors, heads=2), want)


def test_same_bits_every_time(generator):
    tensors = [x.requires_grad_() for x in adapter_inputs(generator, 1, 8, 2, 32, 16)]
    query = torch.randn(1, 8, 64, generator=generator).cuda().requires_grad_()
    support = torch.randn(100, 8, 64, generator=generator).cuda().requires_grad_()

    first = with_slopes(query, support, tensors)
    different = torch.zeros((), dtype=torch.int64, device="cuda")
    for _ in range(RUNS):
        for a, b in zip(with_slopes(query, support, tensors), first, strict=True):
            different += (a != b).sum()
    assert different.item() == 0
