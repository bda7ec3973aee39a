"""The torch door of the temporal adapter: ``torch.ops.mafsar.temporal_adapter`` and its gradient.

Large matrix products go to torch's own; what stands between them (layer norm, attention over a few
frames, GELU) is native, and a bias or a skip rides on a product. Made as in `mafsar.kernels.ops`:
`Library.define` and `impl`, the `autograd.Function` outside, fakes that share the checks.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from mafsar.kernels import reference
from mafsar.kernels.checks import check_gradient
from mafsar.kernels.checks_adapter import WEIGHTS, check_temporal_adapter
from mafsar.kernels.dispatch import log_once, native
from mafsar.kernels.ops import _library, _once

MOST_FRAMES = 32
FEW_ROWS = 8

INPUTS = ("c", *WEIGHTS)


class Weights(NamedTuple):
    """The adapter's weights, contiguous and of one dtype; D is the width, h the adapter's."""

    norm_weight: Tensor  # (D,)
    norm_bias: Tensor  # (D,)
    qkv_weight: Tensor  # (3 D, D)
    qkv_bias: Tensor  # (3 D,)
    out_weight: Tensor  # (D, D)
    out_bias: Tensor  # (D,)
    down_weight: Tensor  # (h, D)
    down_bias: Tensor  # (h,)
    up_weight: Tensor  # (D, h)
    up_bias: Tensor  # (D,)


class Kept(NamedTuple):
    """What the backward pass reads; M = B · T rows."""

    qkv: Tensor  # (M, 3 D)
    mixed: Tensor  # (M, D), attention's output before its projection
    attended: Tensor  # (M, D), after it
    hidden: Tensor  # (M, h), before the GELU

    @classmethod
    def like(cls, c: Tensor, hidden: int) -> Kept:
        rows, width = c.shape[0] * c.shape[1], c.shape[2]
        sizes = (3 * width, width, width, hidden)
        return cls(*(c.new_empty((rows, size), dtype=torch.float32) for size in sizes))


def takes_native(c: Tensor) -> bool:
    """True where the native module takes these tokens; says once why not."""
    if c.shape[1] > MOST_FRAMES:
        log_once(
            f"temporal_adapter of more than {MOST_FRAMES} frames uses the torch twin, "
            f"got {c.shape[1]}"
        )
        return False
    if c.device.type != "cpu":
        log_once(f"temporal_adapter on {c.device.type} uses the torch twin: no native kernel")
        return False
    return native() is not None


# --- forward --------------------------------------------------------------------------------------


def _ready(tensor: Tensor) -> Tensor:
    """Contiguous float32: no processor of ours multiplies half precision faster."""
    if tensor.dtype is not torch.float32:
        tensor = tensor.to(torch.float32)
    return tensor.contiguous()


def _forward(c: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    *given, heads, eps = rest
    check_temporal_adapter(c, tuple(given), heads, eps)
    clips, frames, width = c.shape
    kept = Kept.like(c, given[6].shape[0])
    if not takes_native(c):
        return reference.temporal_adapter(c, *given, heads, eps), *kept
    tokens = _ready(c).view(clips * frames, width)
    weights = Weights(*(_ready(w) for w in given))
    sizes = (clips, frames, heads, width)
    module = native()

    normed = _norm(module, tokens, weights, sizes, eps)
    _linear(module, normed, weights.qkv_weight, weights.qkv_bias, kept.qkv)
    module.attend_forward(kept.qkv.data_ptr(), *sizes, kept.mixed.data_ptr())
    _linear(module, kept.mixed, weights.out_weight, weights.out_bias, kept.attended)
    _linear(module, kept.attended, weights.down_weight, weights.down_bias, kept.hidden)
    active = _gelu(module, kept.hidden)
    out = torch.empty_like(tokens)
    _linear(module, active, weights.up_weight, weights.up_bias, out)
    return out.add_(tokens).view(c.shape).to(c.dtype), *kept


def _linear(module: Any, x: Tensor, weight: Tensor, bias: Tensor, out: Tensor) -> None:
    """out = x Wᵀ + b; a library rearranges W first, which does not pay for the rows of one clip."""
    if x.shape[0] <= FEW_ROWS:
        module.linear_forward(
            x.data_ptr(),
            weight.data_ptr(),
            bias.data_ptr(),
            *x.shape,
            weight.shape[0],
            out.data_ptr(),
        )
    else:
        torch.addmm(bias, x, weight.t(), out=out)


def _norm(
    module: Any, tokens: Tensor, weights: Weights, sizes: tuple[int, ...], eps: float
) -> Tensor:
    normed = torch.empty_like(tokens)
    module.norm_forward(
        tokens.data_ptr(),
        weights.norm_weight.data_ptr(),
        weights.norm_bias.data_ptr(),
        *sizes,
        eps,
        normed.data_ptr(),
    )
    return normed


def _gelu(module: Any, hidden: Tensor) -> Tensor:
    active = torch.empty_like(hidden)
    module.gelu_forward(hidden.data_ptr(), hidden.numel(), active.data_ptr())
    return active


# --- backward -------------------------------------------------------------------------------------


def _backward(grad: Tensor, c: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    kept, given = Kept(*rest[:4]), rest[4:-3]
    heads, eps, wanted = rest[-3:]
    check_temporal_adapter(c, given, heads, eps)
    check_gradient(grad, c.shape)
    clips, frames, width = c.shape
    if not takes_native(c):
        return _twin_backward(grad, (c, *given), heads, eps, wanted)
    tokens = _ready(c).view(clips * frames, width)
    skip = _ready(grad).view(clips * frames, width)
    weights = Weights(*(_ready(w) for w in given))
    sizes = (clips, frames, heads, width)
    found: dict[str, Tensor] = {}
    _walk_back(found, _deepest(wanted), wanted, tokens, skip, weights, kept, sizes, eps)
    return tuple(
        found[name].view(like.shape).to(like.dtype) if want else like.new_empty(0)
        for name, like, want in zip(INPUTS, (c, *given), wanted, strict=True)
    )


def _twin_backward(
    grad: Tensor, inputs: tuple[Tensor, ...], heads: int, eps: float, wanted: list[bool]
) -> tuple[Tensor, ...]:
    """The wanted gradients of the twin, computed by running it again."""
    with torch.enable_grad():
        leaves = [x.detach().requires_grad_(want) for x, want in zip(inputs, wanted, strict=True)]
        out = reference.temporal_adapter(*leaves, heads, eps)
        asked = [leaf for leaf in leaves if leaf.requires_grad]
        found = iter(torch.autograd.grad(out, asked, grad) if asked else ())
    return tuple(
        next(found).contiguous() if want else x.new_empty(0)
        for x, want in zip(inputs, wanted, strict=True)
    )


def _deepest(wanted: list[bool]) -> int:
    """How far back the gradient has to go: 4 to the tokens, 0 to the last product only."""
    need = dict(zip(INPUTS, wanted, strict=True))
    for depth, names in (
        (4, ("c", "norm_weight", "norm_bias")),
        (3, ("qkv_weight", "qkv_bias")),
        (2, ("out_weight", "out_bias")),
        (1, ("down_weight", "down_bias")),
    ):
        if any(need[name] for name in names):
            return depth
    return 0


def _walk_back(
    found: dict[str, Tensor],
    depth: int,
    wanted: list[bool],
    tokens: Tensor,
    skip: Tensor,
    weights: Weights,
    kept: Kept,
    sizes: tuple[int, ...],
    eps: float,
) -> None:
    """Fills `found` with the wanted gradients, from the last product to the first."""
    need = dict(zip(INPUTS, wanted, strict=True))
    module = native()

    def of_linear(name: str, grad: Tensor, inputs: Tensor) -> None:
        if need[f"{name}_weight"]:
            found[f"{name}_weight"] = grad.t().mm(inputs)
        if need[f"{name}_bias"]:
            found[f"{name}_bias"] = grad.sum(0)

    of_linear("up", skip, _gelu(module, kept.hidden) if need["up_weight"] else kept.hidden)
    if depth < 1:
        return
    step = skip.mm(weights.up_weight)  # (M, h)
    module.gelu_backward(step.data_ptr(), kept.hidden.data_ptr(), step.numel(), step.data_ptr())
    of_linear("down", step, kept.attended)
    if depth < 2:
        return
    step = step.mm(weights.down_weight)  # (M, D)
    of_linear("out", step, kept.mixed)
    if depth < 3:
        return
    step = step.mm(weights.out_weight)  # (M, D)
    grad_qkv = torch.empty_like(kept.qkv)
    module.attend_backward(step.data_ptr(), kept.qkv.data_ptr(), *sizes, grad_qkv.data_ptr())
    normed = _norm(module, tokens, weights, sizes, eps) if need["qkv_weight"] else tokens
    of_linear("qkv", grad_qkv, normed)
    if depth < 4:
        return
    step = grad_qkv.mm(weights.qkv_weight)  # (M, D)
    if need["norm_weight"]:
        unit = torch.nn.functional.layer_norm(tokens, tokens.shape[-1:], eps=eps)
        found["norm_weight"] = (step * unit).sum(0)
    if need["norm_bias"]:
        found["norm_bias"] = step.sum(0)
    if need["c"]:
        out = torch.empty_like(tokens)
        module.norm_backward(
            step.data_ptr(),
            skip.data_ptr(),
            tokens.data_ptr(),
            weights.norm_weight.data_ptr(),
            *sizes,
            eps,
            out.data_ptr(),
        )
        found["c"] = out


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
        out, *kept = torch.ops.mafsar.temporal_adapter(c, *weights, heads, eps)
        ctx.save_for_backward(c, *kept, *weights)
        ctx.options = heads, eps
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
        return reference.temporal_adapter(c, *weights, heads, eps)
    if torch.is_grad_enabled() and any(t.requires_grad for t in (c, *weights)):
        return _TemporalAdapter.apply(c, *weights, heads, eps)
    out: Tensor = torch.ops.mafsar.temporal_adapter(c, *weights, heads, eps)[0]
    return out
