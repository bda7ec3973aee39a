"""The temporal adapter on torch tensors: ``torch.ops.mafsar.temporal_adapter`` and its gradient.

Torch computes the large matrix products; the steps between them (layer norm, attention over a few
frames, GELU) are native. For the rows of a few clips, one native call does the whole pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from mafsar.kernels import reference
from mafsar.kernels.checks import WEIGHTS, check_gradient, check_temporal_adapter
from mafsar.kernels.dispatch import cuda_problem, has_cuda, log_once, native
from mafsar.kernels.torch_ops.adapter_cuda import STORAGES, CudaSteps
from mafsar.kernels.torch_ops.adapter_plan import is_plain_call, plan_of
from mafsar.kernels.torch_ops.adapter_steps import (
    INPUTS,
    CpuSteps,
    Kept,
    Sizes,
    Steps,
    Weights,
    backward_by_steps,
    depth_of,
    forward_by_steps,
)
from mafsar.kernels.torch_ops.library import (
    OPS,
    autocast_inputs,
    differentiate_once,
    recording,
    register,
)

MOST_FRAMES = 32


def takes_native(c: Tensor) -> bool:
    """True if the native module accepts these tokens. Logs once why not."""
    if c.shape[1] > MOST_FRAMES:
        log_once(
            f"temporal_adapter of more than {MOST_FRAMES} frames uses the torch twin, "
            f"got {c.shape[1]}"
        )
        return False
    if c.is_cpu:
        return native() is not None
    if c.is_cuda and has_cuda():
        return c.dtype in STORAGES and not cuda_problem(c.device.index or 0)
    log_once(f"temporal_adapter on {c.device.type} uses the torch twin: no native kernel")
    return False


def _ready(tensor: Tensor) -> Tensor:
    """Contiguous; on a CPU also float32, because half precision is no faster there."""
    if tensor.is_cpu and tensor.dtype is not torch.float32:
        tensor = tensor.to(torch.float32)
    return tensor.contiguous()


def _as(found: Tensor, like: Tensor) -> Tensor:
    """A result in the shape and dtype of the input."""
    if found.shape != like.shape:
        found = found.view(like.shape)
    return found if found.dtype == like.dtype else found.to(like.dtype)


def _device_of(c: Tensor) -> AbstractContextManager[object]:
    """Makes the tokens' GPU the current one, on which kernels are launched."""
    if c.is_cuda and c.get_device() != torch.cuda.current_device():
        return torch.cuda.device(c.device)
    return nullcontext()


def _steps_for(tokens: Tensor, sizes: Sizes) -> Steps:
    return CudaSteps(sizes, tokens) if tokens.is_cuda else CpuSteps(sizes)


def run_forward(
    steps: Steps, tokens: Tensor, weights: Weights, kept: Kept, sizes: Sizes, eps: float
) -> Tensor:
    """c' of the tokens (M, D), in one native call for few rows, else by steps; fills `kept`."""
    if tokens.shape[0] > steps.most_rows.forward:
        return forward_by_steps(steps, tokens, weights, kept, eps)
    out = torch.empty_like(tokens)
    steps.adapter_forward(
        tokens.data_ptr(),
        [w.data_ptr() for w in weights],
        *sizes,
        kept.hidden.shape[1],
        eps,
        [k.data_ptr() for k in kept],
        out.data_ptr(),
    )
    return out


def _needs_steps(need: dict[str, bool]) -> bool:
    """True if a gradient is needed that the one call does not compute."""
    if need["norm_weight"] or need["norm_bias"]:
        return True
    return any(
        need[f"{name}_bias"] and not need[f"{name}_weight"] for name in ("qkv", "out", "down", "up")
    )


def run_backward(
    steps: Steps,
    skip: Tensor,
    tokens: Tensor,
    weights: Weights,
    kept: Kept,
    sizes: Sizes,
    eps: float,
    need: dict[str, bool],
) -> dict[str, Tensor]:
    """The needed gradients by name; `skip` is the gradient of c', (M, D)."""
    if tokens.shape[0] > steps.most_rows.backward or _needs_steps(need):
        return backward_by_steps(steps, skip, tokens, weights, kept, eps, need)
    inputs = dict(zip(INPUTS, (tokens, *weights), strict=True))
    found = {name: torch.empty_like(inputs[name]) for name in INPUTS if need[name]}
    # In the order of AdapterScratch and AdapterGrads, csrc/mafsar/adapter.h.
    like = (kept.hidden, kept.attended, kept.mixed, kept.qkv, tokens, tokens)
    scratch = [torch.empty_like(x) for x in like]
    places = [found.get(n) for n in INPUTS if n not in ("norm_weight", "norm_bias")]
    steps.adapter_backward(
        skip.data_ptr(),
        tokens.data_ptr(),
        [w.data_ptr() for w in weights],
        [k.data_ptr() for k in kept],
        *sizes,
        kept.hidden.shape[1],
        eps,
        depth_of(need),
        [s.data_ptr() for s in scratch],
        [0 if p is None else p.data_ptr() for p in places],
    )
    return found


def _twin(*inputs: Any) -> Tensor:
    """The reference, for the eleven tensors, heads and eps in this order."""
    return reference.temporal_adapter(*inputs)


def _forward(c: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    *given, heads, eps = rest
    check_temporal_adapter(c, tuple(given), heads, eps)
    clips, frames, width = c.shape
    kept = Kept.like(c, given[6].shape[0])
    if not takes_native(c):
        # Contiguous, as `_fake` says, whatever the strides of c.
        return _twin(c, *given, heads, eps).contiguous(), *(k.zero_() for k in kept)
    tokens = _ready(c).view(clips * frames, width)
    weights, sizes = Weights(*(_ready(w) for w in given)), Sizes(clips, frames, heads, width)
    with _device_of(c):
        steps = _steps_for(tokens, sizes)
        out = run_forward(steps, tokens, weights, kept, sizes, eps)
    return _as(out, c), *kept


def _backward(grad: Tensor, c: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    kept, given = Kept(*rest[:4]), rest[4:-3]
    heads, eps, wanted = rest[-3:]
    check_temporal_adapter(c, given, heads, eps)
    check_gradient(grad, c.shape)
    clips, frames, width = c.shape
    if not takes_native(c):
        return _twin_backward(grad, (c, *given), heads, eps, wanted)
    tokens = _ready(c).view(clips * frames, width)
    skip = _ready(grad.to(c.dtype)).view(clips * frames, width)
    weights, sizes = Weights(*(_ready(w) for w in given)), Sizes(clips, frames, heads, width)
    need = dict(zip(INPUTS, wanted, strict=True))
    with _device_of(c):
        steps = _steps_for(tokens, sizes)
        found = run_backward(steps, skip, tokens, weights, kept, sizes, eps, need)
    return tuple(
        _as(found[name], like) if want else like.new_empty(0)
        for name, like, want in zip(INPUTS, (c, *given), wanted, strict=True)
    )


def _twin_backward(
    grad: Tensor, inputs: tuple[Tensor, ...], heads: int, eps: float, wanted: list[bool]
) -> tuple[Tensor, ...]:
    """The wanted gradients of the twin, computed by running it again."""
    with recording():
        leaves = [x.detach().requires_grad_(want) for x, want in zip(inputs, wanted, strict=True)]
        out = _twin(*leaves, heads, eps)
        asked = [leaf for leaf in leaves if leaf.requires_grad]
        found = iter(torch.autograd.grad(out, asked, grad) if asked else ())
    return tuple(
        next(found).contiguous() if want else x.new_empty(0)
        for x, want in zip(inputs, wanted, strict=True)
    )


# --- registration ---------------------------------------------------------------------------------


def _fake(c: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    *given, heads, eps = rest
    check_temporal_adapter(c, tuple(given), heads, eps)
    return c.new_empty(c.shape), *Kept.like(c, given[6].shape[0])


def _fake_backward(grad: Tensor, c: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    given = rest[4:-3]
    heads, eps, wanted = rest[-3:]
    check_temporal_adapter(c, given, heads, eps)
    check_gradient(grad, c.shape)
    return tuple(
        like.new_empty(like.shape if want else (0,))
        for like, want in zip((c, *given), wanted, strict=True)
    )


_TENSORS = ", ".join(f"Tensor {name}" for name in WEIGHTS)
_KEPT = ", ".join(f"Tensor {name}" for name in Kept._fields)
_FORWARD_RETURNS = "(Tensor, Tensor, Tensor, Tensor, Tensor)"
_RETURNS = ", ".join("Tensor" for _ in INPUTS)
_OPTIONS = "int heads, float eps"
_BACKWARD = f"Tensor grad, Tensor c, {_KEPT}, {_TENSORS}, {_OPTIONS}, bool[] wanted"
register(
    "temporal_adapter",
    f"Tensor c, {_TENSORS}, {_OPTIONS}",
    _FORWARD_RETURNS,
    _forward,
    _fake,
    lower=True,
)
register("temporal_adapter_backward", _BACKWARD, f"({_RETURNS})", _backward, _fake_backward)


# --- calls ----------------------------------------------------------------------------------------


def _forward_in_one_call(c: Tensor, weights: Sequence[Tensor], heads: int, eps: float) -> Any:
    """(c', what is kept as one array), or None if the op itself has to be called.

    The op costs 10 µs of Python more than its kernel: torch's dispatcher, an array for each result,
    the checks anew.
    """
    if not is_plain_call((c, *weights)):
        return None
    plan = plan_of(c, weights, heads, eps)
    steps = _steps_for(c, plan.sizes)
    if plan.rows > steps.most_rows.forward or not (c.is_cuda or c.dtype is torch.float32):
        return None
    c, weights = c.contiguous(), [w.contiguous() for w in weights]
    out, kept = torch.empty_like(c), c.new_empty(plan.kept_numbers)
    with _device_of(c):
        steps.adapter_forward(
            c.data_ptr(),
            [w.data_ptr() for w in weights],
            *plan.sizes,
            plan.hidden,
            eps,
            plan.kept_addresses(kept),
            out.data_ptr(),
        )
    return out, kept


def _call(c: Tensor, weights: Sequence[Tensor], heads: int, eps: float) -> Any:
    """(c', what is kept), in one array or as the op returns it."""
    if not torch.compiler.is_compiling():
        found = _forward_in_one_call(c, weights, heads, eps)
        if found is not None:
            return found
    return OPS.temporal_adapter(c, *weights, heads, eps)


def _backward_needs_op(grad: Tensor) -> bool:
    """True if the op has to see the backward pass: to refuse a second one, or to leave autocast."""
    if torch.compiler.is_compiling() or torch.is_grad_enabled():
        return True
    return torch.is_autocast_enabled(grad.device.type) or not is_plain_call((grad,))


class _TemporalAdapter(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, c: Tensor, *rest: Any) -> Tensor:
        *weights, heads, eps = rest
        results = _call(c, weights, heads, eps)
        ctx.save_for_backward(c, *weights, *results[1:])
        ctx.options = heads, eps
        out: Tensor = results[0]
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        wanted = list(ctx.needs_input_grad[: len(INPUTS)])
        saved, (heads, eps) = ctx.saved_tensors, ctx.options
        c, weights, kept = saved[0], saved[1 : len(INPUTS)], saved[len(INPUTS) :]
        if len(kept) == 1:
            kept = plan_of(c, weights, heads, eps).kept_arrays(kept[0])
        rest = (*kept, *weights, heads, eps, wanted)
        if _backward_needs_op(grad):
            found = differentiate_once("temporal_adapter", grad, c, *rest)
        else:
            found = _backward(grad, c, *rest)
        gradients = [g if want else None for g, want in zip(found, wanted, strict=True)]
        return (*gradients, None, None)


def _takes_twin(c: Tensor) -> bool:
    """True if plain torch is needed: to be exported or differentiated again."""
    if c.dtype == torch.float64 or torch.compiler.is_exporting():
        return True
    # While compiling, the op itself is part of the graph and chooses when it runs.
    return not torch.compiler.is_compiling() and not takes_native(c)


def temporal_adapter(c: Tensor, *rest: Any) -> Tensor:
    """See `mafsar.kernels.temporal_adapter`; `rest` is the ten weights, heads and eps."""
    *given, heads, eps = rest
    tokens, *weights = autocast_inputs((c, *given))
    if _takes_twin(tokens):
        check_temporal_adapter(tokens, tuple(weights), heads, eps)
        # Autocast chooses the precision of each step of the twin.
        return _twin(c, *given, heads, eps)
    c = tokens
    if torch.is_grad_enabled() and any(t.requires_grad for t in (c, *weights)):
        traced: Tensor = _TemporalAdapter.apply(c, *weights, heads, eps)
        return traced
    out: Tensor = _call(c, weights, heads, eps)[0]
    return out
