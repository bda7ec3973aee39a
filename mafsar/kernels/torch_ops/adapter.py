"""The torch door of the temporal adapter: ``torch.ops.mafsar.temporal_adapter`` and its gradient.

Large matrix products go to torch's own; what stands between them (layer norm, attention over a few
frames, GELU) is native. Made as in `mafsar.kernels.torch_ops.matching`: `Library.define` and `impl`, the
`autograd.Function` outside, fakes that share the checks.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from mafsar.kernels import ops_adapter_call, reference
from mafsar.kernels.checks import check_gradient
from mafsar.kernels.checks_adapter import WEIGHTS, check_temporal_adapter
from mafsar.kernels.dispatch import has_cuda, log_once, native
from mafsar.kernels.torch_ops.adapter_cuda import STORAGES, CudaSteps
from mafsar.kernels.torch_ops.adapter_steps import INPUTS, CpuSteps, Kept, Sizes, Steps, Weights
from mafsar.kernels.torch_ops.matching import _library, _once, recording

MOST_FRAMES = 32


def takes_native(c: Tensor) -> bool:
    """True where the native module takes these tokens; says once why not."""
    if c.shape[1] > MOST_FRAMES:
        log_once(
            f"temporal_adapter of more than {MOST_FRAMES} frames uses the torch twin, "
            f"got {c.shape[1]}"
        )
        return False
    if c.is_cpu:
        return native() is not None
    if c.is_cuda and has_cuda():
        return c.dtype in STORAGES
    log_once(f"temporal_adapter on {c.device.type} uses the torch twin: no native kernel")
    return False


def _ready(tensor: Tensor) -> Tensor:
    """Contiguous; float32 on a CPU, which multiplies half precision no faster."""
    if tensor.is_cpu and tensor.dtype is not torch.float32:
        tensor = tensor.to(torch.float32)
    return tensor.contiguous()


def _as(found: Tensor, like: Tensor) -> Tensor:
    """A result in the shape and dtype of what was given."""
    if found.shape != like.shape:
        found = found.view(like.shape)
    return found if found.dtype == like.dtype else found.to(like.dtype)


def _device_of(c: Tensor) -> AbstractContextManager[object]:
    """Where kernels are launched: the tokens' GPU need not be the current one."""
    return torch.cuda.device(c.device) if c.is_cuda else nullcontext()


def _steps_for(tokens: Tensor, sizes: Sizes) -> Steps:
    return CudaSteps(sizes, tokens) if tokens.is_cuda else CpuSteps(sizes)


def _twin(*inputs: Any) -> Tensor:
    """The reference, for the eleven tensors, heads and eps in order."""
    return reference.temporal_adapter(*inputs)


def _forward(c: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    *given, heads, eps = rest
    check_temporal_adapter(c, tuple(given), heads, eps)
    clips, frames, width = c.shape
    kept = Kept.like(c, given[6].shape[0])
    if not takes_native(c):
        return _twin(c, *given, heads, eps), *(k.zero_() for k in kept)
    tokens = _ready(c).view(clips * frames, width)
    weights, sizes = Weights(*(_ready(w) for w in given)), Sizes(clips, frames, heads, width)
    with _device_of(c):
        steps = _steps_for(tokens, sizes)
        out = ops_adapter_call.run_forward(steps, tokens, weights, kept, sizes, eps)
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
        found = ops_adapter_call.run_backward(steps, skip, tokens, weights, kept, sizes, eps, need)
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
for _schema, _kernel, _of_shapes in (
    (f"temporal_adapter(Tensor c, {_TENSORS}, {_OPTIONS}) -> {_FORWARD_RETURNS}", _forward, _fake),
    (f"temporal_adapter_backward({_BACKWARD}) -> ({_RETURNS})", _backward, _fake_backward),
):
    _name = _schema.partition("(")[0]
    _library.define(_schema)
    _library.impl(_name, _kernel, "CompositeExplicitAutograd")
    torch.library.register_fake(f"mafsar::{_name}", _of_shapes, lib=_library)


class _TemporalAdapter(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, c: Tensor, *rest: Any) -> Tensor:
        *weights, heads, eps = rest
        results = torch.ops.mafsar.temporal_adapter(c, *weights, heads, eps)
        ctx.save_for_backward(c, *results[1:], *weights)
        ctx.options = heads, eps
        out: Tensor = results[0]
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        wanted = list(ctx.needs_input_grad[: len(INPUTS)])
        found = _once("temporal_adapter", grad, *ctx.saved_tensors, *ctx.options, wanted)
        gradients = [g if want else None for g, want in zip(found, wanted, strict=True)]
        return (*gradients, None, None)


def _takes_twin(c: Tensor) -> bool:
    """True where plain torch does better: it can be exported, cast or differentiated again."""
    if c.dtype == torch.float64 or torch.compiler.is_exporting():
        return True
    if torch.is_autocast_enabled(c.device.type):
        return True
    # While compiling, the op stands in the graph and looks for itself when it runs.
    return not torch.compiler.is_compiling() and not takes_native(c)


def temporal_adapter(c: Tensor, *rest: Any) -> Tensor:
    """See `mafsar.kernels.temporal_adapter`; `rest` is the ten weights, heads and eps."""
    *weights, heads, eps = rest
    if _takes_twin(c):
        check_temporal_adapter(c, tuple(weights), heads, eps)
        return _twin(c, *weights, heads, eps)
    if torch.is_grad_enabled() and any(t.requires_grad for t in (c, *weights)):
        traced: Tensor = _TemporalAdapter.apply(c, *weights, heads, eps)
        return traced
    out: Tensor = torch.ops.mafsar.temporal_adapter(c, *weights, heads, eps)[0]
    return out
