"""The ops within autocast: they run natively, in autocast's dtype or in float32, as torch's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from mafsar import kernels
from mafsar.kernels import dispatch, reference
from mafsar.kernels.torch_ops import adapter, adapter_steps, matching

pytestmark = pytest.mark.skipif(dispatch.native() is None, reason="no native module")
DTYPES = [torch.bfloat16, torch.float16]
HEADS = 2


def leaves(generator: torch.Generator) -> list[Tensor]:
    """c of 2 clips of 8 frames and the ten weights, float32."""
    width, hidden = 64, 24
    shapes: list[tuple[int, ...]] = [
        *((2, 8, width), (width,), (width,), (3 * width, width), (3 * width,)),
        *((width, width), (width,), (hidden, width), (hidden,), (width, hidden), (width,)),
    ]
    found = [torch.randn(shape, generator=generator) * width**-0.5 for shape in shapes]
    return [x.requires_grad_() for x in found]


class Counted:
    """The native module, with the number of calls of each function."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.calls: dict[str, int] = {}

    def __getattr__(self, name: str) -> Any:
        function = getattr(self.module, name)

        def call(*arguments: Any) -> Any:
            self.calls[name] = self.calls.get(name, 0) + 1
            return function(*arguments)

        return call


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often each native function was called."""
    module = Counted(dispatch.native())
    for place in (adapter, adapter_steps, matching):
        monkeypatch.setattr(place, "native", lambda: module)
    return module.calls


def slopes(function: Callable[..., Tensor], inputs: list[Tensor]) -> list[Tensor]:
    out = function(*inputs)
    grad = torch.linspace(-1.0, 1.0, out.numel()).view(out.shape)
    return [out.detach(), *torch.autograd.grad(out, inputs, grad.to(out.dtype))]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_adapter_runs_natively_in_the_autocast_dtype(generator, counted, dtype):
    inputs = leaves(generator)

    def ours(*tensors: Tensor) -> Tensor:
        return kernels.temporal_adapter(*tensors, heads=HEADS)

    with torch.autocast("cpu", dtype):
        got = slopes(ours, inputs)
    assert counted == {"adapter_forward": 1, "adapter_backward": 1} or "norm_backward" in counted
    assert got[0].dtype == dtype
    assert all(slope.dtype == torch.float32 for slope in got[1:])
    rounded = [x.detach().to(dtype).double().requires_grad_() for x in inputs]
    want = slopes(lambda *x: reference.temporal_adapter(*x, HEADS), rounded)
    for a, b in zip(got, want, strict=True):
        # Inputs are rounded alike; the result and the gradients are rounded once more.
        largest = b.abs().max().item()
        assert (a.double() - b).abs().max().item() <= 4 * torch.finfo(dtype).eps * (largest + 1e-3)


def test_the_op_itself_casts(generator):
    inputs = [x.detach() for x in leaves(generator)]
    with torch.autocast("cpu", torch.bfloat16):
        out = torch.ops.mafsar.temporal_adapter(*inputs, HEADS, 1e-5)[0]
        same = kernels.temporal_adapter(*inputs, heads=HEADS)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out, same, rtol=0, atol=0)


def test_inputs_of_mixed_precision(generator):
    c, *weights = (x.detach() for x in leaves(generator))
    with torch.autocast("cpu", torch.bfloat16):
        got = kernels.temporal_adapter(c.bfloat16(), *weights, heads=HEADS)
        want = kernels.temporal_adapter(c, *weights, heads=HEADS)
    torch.testing.assert_close(got, want, rtol=0, atol=0)
    with pytest.raises(TypeError, match="norm_weight must be bfloat16 as c is"):
        kernels.temporal_adapter(c.bfloat16(), *weights, heads=HEADS)


def test_double_precision_is_left_alone(generator):
    inputs = [x.detach().double() for x in leaves(generator)]
    want = reference.temporal_adapter(*inputs, HEADS)
    with torch.autocast("cpu", torch.bfloat16):
        got = kernels.temporal_adapter(*inputs, heads=HEADS)
    torch.testing.assert_close(got, want, rtol=0, atol=0)


@pytest.mark.parametrize("rows", [0, 10**6], ids=["by steps", "in one call"])
def test_a_backward_pass_within_autocast_is_not_cast_again(generator, monkeypatch, rows):
    most = adapter_steps.MostRows(rows, rows)
    monkeypatch.setattr(adapter_steps.CpuSteps, "most_rows", most)
    inputs = leaves(generator)
    with torch.autocast("cpu", torch.bfloat16):
        out = kernels.temporal_adapter(*inputs, heads=HEADS)
        grad = torch.ones_like(out)
        within = torch.autograd.grad(out, inputs, grad, retain_graph=True)
    for a, b in zip(within, torch.autograd.grad(out, inputs, grad), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_compiles_in_one_graph_within_autocast(generator):
    inputs = leaves(generator)

    def ours(*tensors: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return kernels.temporal_adapter(*tensors, heads=HEADS)

    compiled = torch.compile(ours, fullgraph=True, backend="aot_eager")
    for a, b in zip(slopes(compiled, inputs), slopes(ours, inputs), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("native", [True, False], ids=["native", "twin"])
@pytest.mark.parametrize("name", ["otam_match", "bimhm_match", "mean_match", "frame_distances"])
def test_matching_stays_in_float32(generator, monkeypatch, name, native):
    if not native:
        monkeypatch.setattr(matching, "matches_natively", lambda _: False)
    function = getattr(kernels, name)
    videos = [torch.randn(n, 8, 32, generator=generator).requires_grad_() for n in (3, 4)]
    want = slopes(function, videos)

    def within(*tensors: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return function(*tensors)

    got = slopes(within, videos)
    for a, b in zip(got, want, strict=True):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a, b, rtol=0, atol=0)
