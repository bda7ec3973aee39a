"""The ops on CUDA tensors (matching_cuda, CudaSteps) over emulated kernels.

Only the launchers of csrc/cuda are missing here: the native module's CUDA functions are replaced by
the same kernel bodies on the CPU.
"""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
from torch import Tensor

from mafsar.kernels import reference
from mafsar.kernels.torch_ops import adapter_cuda, adapter_steps, matching_cuda
from mafsar.kernels.torch_ops.adapter import run_backward, run_forward
from mafsar.kernels.torch_ops.adapter_cuda import CudaSteps
from mafsar.kernels.torch_ops.adapter_steps import INPUTS, Kept, MostRows, Sizes, Weights

EPS = 2.0**-23


@pytest.fixture
def fake(bodies, monkeypatch):
    """CPU tensors through the code for CUDA tensors."""
    for module in (matching_cuda, adapter_cuda):
        monkeypatch.setattr(module, "native", lambda: bodies.module)
        monkeypatch.setattr(module, "stream_of", lambda _: 0)
    monkeypatch.setattr(matching_cuda, "cuda_problem", lambda _: "")
    monkeypatch.setattr(torch.cuda, "device", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    for cached in (matching_cuda._shared_bytes, matching_cuda._multiprocessors):
        cached.cache_clear()
    yield bodies.module
    for cached in (matching_cuda._shared_bytes, matching_cuda._multiprocessors):
        cached.cache_clear()


def near(got: Tensor, want: Tensor) -> None:
    assert got.shape == want.shape
    allowed = 32.0 * EPS * (1.0 + want.abs().max().item())
    assert (got.double() - want).abs().max().item() <= allowed


@pytest.mark.parametrize("metric", ["otam", "bimhm"])
@pytest.mark.usefixtures("fake")
def test_distances(generator, metric):
    distances = torch.rand(3, 2, 7, 9, generator=generator).transpose(-1, -2)
    lengths = torch.tensor([[9, 7], [1, 2]]).expand(3, 2, 2)
    grad = torch.randn(3, 2, generator=generator)

    def twin(d: Tensor) -> Tensor:
        if metric == "otam":
            return reference.otam(d, 0.5, True, lengths)
        return reference.bimhm(d, lengths)

    leaf = distances.double().requires_grad_()
    want = twin(leaf)
    near(matching_cuda.align(metric, distances, 0.5, True, lengths), want)
    slope = torch.autograd.grad(want, leaf, grad.double())[0]
    near(matching_cuda.align_backward(metric, grad, distances, 0.5, True, lengths), slope)
    with pytest.raises(ValueError, match="lengths must be between 1 and 9"):
        matching_cuda.align(metric, distances, 0.5, True, lengths + 1)


@pytest.mark.parametrize("metric", ["otam", "bimhm"])
@pytest.mark.parametrize("case", [(2, 3, 4, 8, 8, 33), (1, 1, 30, 8, 5, 40), (1, 20, 2, 4, 8, 17)])
def test_features(fake, generator, metric, case):
    batch, queries, classes, rows, columns, width = case
    query = torch.randn(batch, queries, width, rows, generator=generator).transpose(-1, -2)
    prototypes = torch.randn(batch, classes, columns, width, generator=generator)
    own = torch.randint(1, rows + 1, (batch, queries), generator=generator)
    grad = torch.randn(batch, queries, classes, generator=generator)
    leaves = [x.double().requires_grad_() for x in (query, prototypes)]
    if metric == "otam":
        want = reference.otam_match(*leaves, 0.3, own, None)
    else:
        want = reference.bimhm_match(*leaves, own, None)
    near(matching_cuda.match(metric, query, prototypes, 0.3, own, None), want)
    fake.slices.clear()
    got = matching_cuda.match_backward(metric, grad, query, prototypes, 0.3, own, None)
    for a, b in zip(got, torch.autograd.grad(want, leaves, grad.double()), strict=True):
        near(a, b)
    if case[2] == 30:
        assert max(fake.slices) > 1, "a walk of one video over many is cut"


def weights_of(width: int, hidden: int, generator: torch.Generator) -> list[Tensor]:
    def numbers(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) * width**-0.5

    return [
        *(1.0 + numbers(width), numbers(width), numbers(3 * width, width), numbers(3 * width)),
        *(numbers(width, width), numbers(width), numbers(hidden, width), numbers(hidden)),
        *(numbers(width, hidden), numbers(width)),
    ]


ADAPTED = ("c", "down_weight", "down_bias", "up_weight", "up_bias")


@pytest.mark.parametrize("wanted", [ADAPTED, INPUTS, ("up_weight",), ("qkv_bias", "out_weight")])
@pytest.mark.parametrize("in_one_call", [True, False])
@pytest.mark.usefixtures("fake")
def test_adapter(generator, monkeypatch, wanted, in_one_call):
    limit = 10**6 if in_one_call else 0
    most = MostRows(limit, limit)
    monkeypatch.setattr(adapter_cuda, "MOST_ROWS", {torch.float32: most})
    clips, frames, heads, width, hidden = 3, 7, 3, 99, 25
    weights = weights_of(width, hidden, generator)
    c = torch.randn(clips, frames, width, generator=generator)
    grad = torch.randn(c.shape, generator=generator)
    need = {name: name in wanted for name in INPUTS}
    leaves = [
        x.double().requires_grad_(want)
        for x, want in zip((c, *weights), need.values(), strict=True)
    ]
    want = reference.temporal_adapter(*leaves, heads)
    kept = Kept.like(c, hidden)
    sizes = Sizes(clips, frames, heads, width)
    tokens = c.view(-1, width)
    given: Any = (tokens, Weights(*weights), kept, sizes, 1e-5)
    steps = CudaSteps(sizes, tokens)
    near(run_forward(steps, *given).view(c.shape), want)
    found = run_backward(steps, grad.view(-1, width), *given, need)
    asked = [leaf for leaf in leaves if leaf.requires_grad]
    slopes = torch.autograd.grad(want, asked, grad.double())
    assert set(found) == set(wanted)
    for name, slope in zip((n for n in INPUTS if need[n]), slopes, strict=True):
        near(found[name].view(slope.shape), slope)


@pytest.mark.usefixtures("fake")
def test_adapter_in_half_precision(generator):
    """One native call in float16 is close to float64 within a few float16 steps."""
    weights = weights_of(64, 16, generator)
    c = torch.randn(2, 8, 64, generator=generator)
    half = [x.half() for x in (c, *weights)]
    kept = Kept(*(torch.empty(16, n, dtype=torch.float16) for n in (192, 64, 64, 16)))
    tokens, sizes = half[0].view(16, 64), Sizes(2, 8, 2, 64)
    out = run_forward(CudaSteps(sizes, tokens), tokens, Weights(*half[1:]), kept, sizes, 1e-5)
    want = reference.temporal_adapter(*(x.double() for x in half), 2)
    assert (out.view(c.shape).double() - want).abs().max() <= 8 * 2.0**-10 * want.abs().max()


def test_depth_stops_at_the_first_frozen_step():
    need = dict.fromkeys(INPUTS, False)
    assert adapter_steps.depth_of(need) == 0
    for name, depth in (("up_bias", 0), ("down_bias", 1), ("out_weight", 2), ("qkv_bias", 3)):
        assert adapter_steps.depth_of({**need, name: True}) == depth
    for name in ("c", "norm_weight", "norm_bias"):
        assert adapter_steps.depth_of({**need, name: True}) == 4
