"""The temporal adapter against float64 and a plain loop: its op, gradients, refused arguments."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from mafsar import kernels
from mafsar.kernels import reference
from mafsar.kernels.checks import WEIGHTS
from mafsar.kernels.torch_ops import adapter
from mafsar.kernels.torch_ops.adapter_steps import CpuSteps, MostRows

EPS = 2.0**-23
INPUTS = ("c", *WEIGHTS)
# clips, frames, heads, width of a head, adapter width
CASES = [
    (1, 1, 1, 32, 1),
    (1, 8, 12, 64, 192),
    (2, 7, 2, 33, 7),
    (3, 17, 1, 97, 8),
    (1, 32, 2, 128, 97),
    (10, 8, 2, 32, 17),
    (9, 7, 3, 33, 25),
    (13, 8, 2, 64, 32),
    (0, 8, 2, 32, 8),
]


def inputs(generator, clips, frames, heads, own, hidden) -> list[Tensor]:
    """c and the ten weights in float64, all of them random."""
    width = heads * own

    def numbers(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    scale = width**-0.5
    return [
        numbers(clips, frames, width) * 2.0 + 0.5,
        *(1.0 + 0.1 * numbers(width), 0.1 * numbers(width)),
        *(numbers(3 * width, width) * scale, numbers(3 * width) * 0.1),
        *(numbers(width, width) * scale, numbers(width) * 0.1),
        *(numbers(hidden, width) * scale, numbers(hidden) * 0.1),
        *(numbers(width, hidden) * scale, numbers(width) * 0.1),
    ]


def ours(*given):
    *tensors, heads = given
    return kernels.temporal_adapter(*tensors, heads=heads)


def value_and_slopes(function, tensors, heads, grad):
    leaves = [x.detach().clone().requires_grad_() for x in tensors]
    out = function(*leaves, heads)
    return [out.detach(), *torch.autograd.grad(out, leaves, grad.to(out.dtype))]


def near(got: Tensor, twin: Tensor, want: Tensor, allowed: float) -> None:
    if want.numel() == 0:
        return
    twin_error = (twin.double() - want).abs().max().item()
    error = (got.double() - want).abs().max().item()
    assert error <= 2.0 * twin_error + allowed, f"{error:.3g}, the twin's {twin_error:.3g}"


def by_loops(tensors: list[Tensor], heads: int) -> np.ndarray:
    """The temporal adapter of docs/method.md, one number at a time."""
    c, norm_w, norm_b, qkv_w, qkv_b, out_w, out_b, down_w, down_b, up_w, up_b = (
        t.numpy() for t in tensors
    )
    width = c.shape[-1]
    own = width // heads
    result = c.copy()
    for clip in range(c.shape[0]):
        rows = []
        for x in c[clip]:
            mean = x.sum() / width
            variance = ((x - mean) ** 2).sum() / width
            rows.append(qkv_w @ ((x - mean) / math.sqrt(variance + 1e-5) * norm_w + norm_b) + qkv_b)
        for i, row in enumerate(rows):
            mixed = np.zeros(width)
            for h in range(heads):
                q = row[h * own : (h + 1) * own]
                part = slice(width + h * own, width + (h + 1) * own)
                scores = np.array([q @ other[part] / math.sqrt(own) for other in rows])
                weights = np.exp(scores - scores.max())
                weights /= weights.sum()
                for weight, other in zip(weights, rows, strict=True):
                    value = other[2 * width + h * own : 2 * width + (h + 1) * own]
                    mixed[h * own : (h + 1) * own] += weight * value
            hidden = down_w @ (out_w @ mixed + out_b) + down_b
            active = [0.5 * z * (1.0 + math.erf(z / math.sqrt(2.0))) for z in hidden]
            result[clip, i] += up_w @ np.array(active) + up_b
    return result


def test_twin_is_the_method(generator):
    for case in CASES[:4]:
        tensors = inputs(generator, *case)
        got = reference.temporal_adapter(*tensors, case[2])
        np.testing.assert_allclose(got.numpy(), by_loops(tensors, case[2]), rtol=0, atol=1e-11)


def test_twin_gradients(generator):
    tensors = [x.requires_grad_() for x in inputs(generator, 2, 3, 2, 4, 3)]
    assert torch.autograd.gradcheck(
        lambda *x: reference.temporal_adapter(*x, 2), tensors, fast_mode=True
    )


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.usefixtures("isa", "two_threads")
def test_values_and_gradients(generator, case):
    tensors, heads = inputs(generator, *case), case[2]
    grad = torch.randn(tensors[0].shape, generator=generator)
    want = value_and_slopes(reference.temporal_adapter, tensors, heads, grad)
    single = [x.float() for x in tensors]
    twin = value_and_slopes(reference.temporal_adapter, single, heads, grad)
    got = value_and_slopes(ours, single, heads, grad)
    largest = want[0].abs().max().item() if want[0].numel() else 0.0
    near(got[0], twin[0], want[0], 8.0 * EPS * (1.0 + largest))
    for a, b, c in zip(got[1:], twin[1:], want[1:], strict=True):
        assert a.shape == c.shape
        near(a, b, c, 1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_accumulated_in_float32(generator, dtype):
    tensors = [x.to(dtype) for x in inputs(generator, 2, 8, 2, 32, 16)]
    grad = torch.randn(2, 8, 64, generator=generator).to(dtype)
    want = value_and_slopes(reference.temporal_adapter, [x.double() for x in tensors], 2, grad)
    got = value_and_slopes(ours, tensors, 2, grad)
    for a, b in zip(got, want, strict=True):
        assert a.dtype == dtype
        # Rounded once, at the end: by half a step of the format.
        step = torch.finfo(dtype).eps * b.abs().max().item()
        assert (a.double() - b).abs().max().item() <= 0.51 * step + 1e-5


@pytest.mark.parametrize("size", [1e4, 1e-4])
def test_large_and_small_tokens(generator, size):
    tensors = inputs(generator, 2, 8, 2, 32, 16)
    tensors[0] = tensors[0] * size
    want = reference.temporal_adapter(*tensors, 2)
    single = [x.float() for x in tensors]
    twin = reference.temporal_adapter(*single, 2)
    near(ours(*single, 2), twin, want, 8.0 * EPS * (1.0 + want.abs().max().item()))


def test_strides_do_not_matter(generator):
    tensors = [x.float() for x in inputs(generator, 3, 8, 2, 32, 16)]
    want = ours(*tensors, 2)
    tokens = torch.randn(3, 8, 5, 64, generator=generator)
    tokens[:, :, 0] = tensors[0]
    weights = [
        x.t().contiguous().t() if x.dim() == 2 else x.repeat_interleave(2)[::2] for x in tensors[1:]
    ]
    grad = torch.randn(3, 64, 8, generator=generator).transpose(1, 2)
    torch.testing.assert_close(ours(tokens[:, :, 0], *weights, 2), want)
    got = value_and_slopes(ours, [tokens[:, :, 0], *weights], 2, grad)
    for a, b in zip(got, value_and_slopes(ours, tensors, 2, grad.contiguous()), strict=True):
        torch.testing.assert_close(a, b)


ADAPTED = ("c", "down_weight", "down_bias", "up_weight", "up_bias")


@pytest.mark.parametrize(
    "tuned", [ADAPTED, ADAPTED[1:], ("norm_bias",), ("out_bias", "qkv_weight")]
)
def test_only_what_is_tuned_gets_a_gradient(generator, monkeypatch, tuned):
    tensors = [x.float() for x in inputs(generator, 2, 8, 2, 32, 16)]
    names = dict(zip(INPUTS, tensors, strict=True))
    for name in tuned:
        names[name].requires_grad_()
    computed: list[set[str]] = []
    backward = adapter.run_backward

    def watched(*args):
        found = backward(*args)
        computed.append(set(found))
        return found

    monkeypatch.setattr(adapter, "run_backward", watched)
    ours(*tensors, 2).sum().backward()
    assert computed == [set(tuned)]
    leaves = [x.detach().double().requires_grad_(x.requires_grad) for x in tensors]
    reference.temporal_adapter(*leaves, 2).sum().backward()
    for x, leaf in zip(tensors, leaves, strict=True):
        assert (x.grad is None) == (leaf.grad is None)
        if x.grad is not None and leaf.grad is not None:
            torch.testing.assert_close(x.grad.double(), leaf.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("limit", [0, 10**6], ids=["by steps", "in one call"])
@pytest.mark.parametrize("clips", [1, 6, 13])
@pytest.mark.usefixtures("isa", "two_threads")
def test_both_ways_are_the_method(generator, monkeypatch, clips, limit):
    """The number of rows chooses between one native call for a whole pass and single steps."""
    monkeypatch.setattr(CpuSteps, "most_rows", MostRows(limit, limit))
    tensors = inputs(generator, clips, 8, 2, 33, 27)
    grad = torch.randn(tensors[0].shape, generator=generator)
    want = value_and_slopes(reference.temporal_adapter, tensors, 2, grad)
    single = [x.float() for x in tensors]
    twin = value_and_slopes(reference.temporal_adapter, single, 2, grad)
    for a, b, c in zip(value_and_slopes(ours, single, 2, grad), twin, want, strict=True):
        near(a, b, c, 8.0 * EPS * (1.0 + c.abs().max().item()))


# Sizes of 1 leave open by their strides which product is meant.
@pytest.mark.parametrize(
    "case", [(1, 1, 1, 8, 1), (2, 3, 1, 1, 1), (1, 1, 2, 33, 27), (3, 8, 2, 32, 1)]
)
@pytest.mark.usefixtures("isa", "two_threads")
def test_gradients_in_one_call(generator, monkeypatch, case):
    """Of all inputs but the norm's weights, which take single steps."""
    monkeypatch.setattr(CpuSteps, "most_rows", MostRows(10**6, 10**6))
    monkeypatch.setattr(adapter, "backward_by_steps", None)
    tensors, heads = inputs(generator, *case), case[2]
    grad = torch.randn(tensors[0].shape, generator=generator)

    def slopes(function, tensors):
        leaves = [
            x.detach().clone().requires_grad_(name not in ("norm_weight", "norm_bias"))
            for name, x in zip(INPUTS, tensors, strict=True)
        ]
        out = function(*leaves, heads)
        asked = [x for x in leaves if x.requires_grad]
        return torch.autograd.grad(out, asked, grad.to(out.dtype))

    want = slopes(reference.temporal_adapter, tensors)
    single = [x.float() for x in tensors]
    twin = slopes(reference.temporal_adapter, single)
    for a, b, c in zip(slopes(ours, single), twin, want, strict=True):
        near(a, b, c, 8.0 * EPS * (1.0 + c.abs().max().item()))


def test_the_op_and_the_plain_call_agree(generator):
    """A profiler, a mode or a transform sees the op; otherwise it is left out."""
    tensors = [x.float() for x in inputs(generator, 2, 8, 2, 32, 16)]
    grad = torch.randn(tensors[0].shape, generator=generator)
    want = value_and_slopes(ours, tensors, 2, grad)
    with torch.profiler.profile() as seen:
        got = value_and_slopes(ours, tensors, 2, grad)
    names = {event.name for event in seen.events()}
    assert {"mafsar::temporal_adapter", "mafsar::temporal_adapter_backward"} <= names
    for a, b in zip(got, want, strict=True):
        assert torch.equal(a, b)
    with torch._subclasses.FakeTensorMode() as mode:
        fake = [mode.from_tensor(x) for x in tensors]
        assert ours(*fake, 2).shape == (2, 8, 64)


def test_checked_again_for_other_shapes(generator):
    """What was checked for some inputs does not hold for others of the same names."""
    tensors = [x.float() for x in inputs(generator, 2, 8, 2, 32, 16)]
    ours(*tensors, 2)
    for name, bad in (("up_bias", tensors[10][:32]), ("c", tensors[0][..., :32].contiguous())):
        wrong = [bad if n == name else x for n, x in zip(INPUTS, tensors, strict=True)]
        with pytest.raises(ValueError, match="must have shape"):
            ours(*wrong, 2)
    with pytest.raises(ValueError, match="heads must divide"):
        ours(*tensors, 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_opcheck(generator, dtype):
    tensors = [x.to(dtype) for x in inputs(generator, 2, 3, 2, 16, 5)]
    op = torch.ops.mafsar.temporal_adapter.default
    torch.library.opcheck(op, (*tensors, 2, 1e-5))
    out, *kept = op(*tensors, 2, 1e-5)
    wanted = [True, False, True, False, True, False, True, True, False, True, True]
    backward = torch.ops.mafsar.temporal_adapter_backward.default
    torch.library.opcheck(
        backward, (torch.ones_like(out), tensors[0], *kept, *tensors[1:], 2, 1e-5, wanted)
    )


def test_opcheck_of_the_twin(generator):
    """Which takes more than 32 frames, and keeps to no strides of its input."""
    tensors = inputs(generator, 2, 33, 2, 16, 5)
    tensors[0] = tensors[0].transpose(0, 1).contiguous().transpose(0, 1)
    torch.library.opcheck(torch.ops.mafsar.temporal_adapter.default, (*tensors, 2, 1e-5))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_compiles_in_one_graph(generator):
    tensors = [x.float() for x in inputs(generator, 2, 8, 2, 16, 5)]
    grad = torch.ones(2, 8, 32)
    compiled = torch.compile(ours, fullgraph=True, backend="aot_eager")
    want = value_and_slopes(ours, tensors, 2, grad)
    for a, b in zip(value_and_slopes(compiled, tensors, 2, grad), want, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_exports_as_plain_torch(generator):
    tensors = [x.float() for x in inputs(generator, 2, 8, 2, 16, 5)]

    class Adapt(torch.nn.Module):
        def forward(self, c):
            return ours(c, *tensors[1:], 2)

    program = torch.export.export(Adapt(), (tensors[0],))
    assert "mafsar" not in program.graph_module.code
    torch.testing.assert_close(program.module()(tensors[0]), ours(*tensors, 2))


def test_a_second_derivative_is_refused_by_name(generator):
    tensors = [x.float().requires_grad_() for x in inputs(generator, 1, 2, 1, 8, 3)]
    (slope,) = torch.autograd.grad(ours(*tensors, 1).sum(), tensors[0], create_graph=True)
    with pytest.raises(RuntimeError, match="temporal_adapter is differentiable once"):
        slope.sum().backward()
    double = [x.detach().double().requires_grad_() for x in tensors]
    (slope,) = torch.autograd.grad(ours(*double, 1).sum(), double[0], create_graph=True)
    slope.square().sum().backward()
    assert double[0].grad is not None


def test_long_clips_take_the_twin(generator, monkeypatch):
    said: list[str] = []
    monkeypatch.setattr(adapter, "log_once", said.append)
    tensors = [x.float() for x in inputs(generator, 1, 33, 1, 8, 3)]
    torch.testing.assert_close(ours(*tensors, 1), reference.temporal_adapter(*tensors, 1))
    assert said == ["temporal_adapter of more than 32 frames uses the torch twin, got 33"]
    out = torch.ops.mafsar.temporal_adapter(*tensors, 1, 1e-5)[0]
    torch.testing.assert_close(out, reference.temporal_adapter(*tensors, 1))


def test_works_without_the_native_module(generator, monkeypatch):
    monkeypatch.setattr(adapter, "native", lambda: None)
    tensors = [x.float().requires_grad_() for x in inputs(generator, 2, 8, 2, 16, 5)]
    grad = torch.ones(2, 8, 32)
    want = value_and_slopes(reference.temporal_adapter, tensors, 2, grad)
    got = value_and_slopes(ours, tensors, 2, grad)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b)
    got = value_and_slopes(lambda *x: adapter._TemporalAdapter.apply(*x, 1e-5), tensors, 2, grad)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("c", torch.ones(8, 32), ValueError, r"c must have shape \(B, T, D\)"),
        ("c", torch.ones(1, 0, 32), ValueError, "T ≥ 1"),
        ("c", torch.ones(1, 2, 32).int(), TypeError, "c must be one of"),
        ("c", np.ones((1, 2, 32), np.float32), TypeError, "c must be a torch tensor, got ndarray"),
        ("qkv_weight", torch.ones(32, 32), ValueError, r"qkv_weight must have shape \(96, 32\)"),
        ("down_weight", torch.ones(5, 31), ValueError, r"down_weight must have shape \(h, 32\)"),
        ("up_bias", torch.ones(32).half(), TypeError, "up_bias must be float32 as c is"),
        ("out_bias", torch.ones(32, device="meta"), RuntimeError, "out_bias must be on cpu"),
        ("heads", 5, ValueError, "heads must divide D = 32, got 5"),
        ("eps", float("nan"), ValueError, "eps must be finite"),
    ],
)
def test_refusals_name_the_argument(generator, name, value, error, message):
    tensors = [x.float() for x in inputs(generator, 1, 2, 2, 16, 5)]
    options = {**dict(zip(INPUTS, tensors, strict=True)), "heads": 2, "eps": 1e-5, name: value}
    with pytest.raises(error, match=message):
        kernels.temporal_adapter(**options)


def test_status_names_the_op():
    states = {state.name: state for state in kernels.status()}
    assert "temporal_adapter" in states
    assert (
        "CUDA" in states["temporal_adapter"].detail or "twin" in states["temporal_adapter"].backend
    )
