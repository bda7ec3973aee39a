"""The temporal adapter step by step: its arrays, the order of its steps, the steps on a CPU.

`forward_by_steps` and `backward_by_steps` combine native steps with torch's matrix products, for
any number of rows. `mafsar.kernels.torch_ops.adapter` uses one native call instead for few rows.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from mafsar.kernels.checks import WEIGHTS
from mafsar.kernels.dispatch import native

INPUTS = ("c", *WEIGHTS)


class Weights(NamedTuple):
    """The weights, contiguous and of one dtype; D is the model's width, h the adapter's."""

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
    """What the forward pass keeps for the backward pass; M = B · T rows."""

    qkv: Tensor  # (M, 3 D)
    mixed: Tensor  # (M, D), attention's output before its projection
    attended: Tensor  # (M, D), after it
    hidden: Tensor  # (M, h), before the GELU

    @classmethod
    def like(cls, c: Tensor, hidden: int) -> Kept:
        """Empty arrays for it, in the tokens' dtype on a GPU and in float32 elsewhere."""
        dtype = c.dtype if c.is_cuda else torch.float32
        rows, width = c.shape[0] * c.shape[1], c.shape[2]
        sizes = (3 * width, width, width, hidden)
        return cls(*(c.new_empty((rows, size), dtype=dtype) for size in sizes))


class Sizes(NamedTuple):
    """Sizes of the tokens (B · T, D)."""

    clips: int
    frames: int
    heads: int
    width: int


class MostRows(NamedTuple):
    """Up to this many rows, one native call does a whole pass; above, torch's products are faster."""

    forward: int
    backward: int


class Steps(Protocol):
    """The native steps, each of which allocates its result, and the calls that do a whole pass."""

    most_rows: MostRows

    def norm(self, x: Tensor, weights: Weights, eps: float) -> Tensor: ...
    def norm_backward(
        self, grad: Tensor, skip: Tensor, x: Tensor, weights: Weights, eps: float
    ) -> Tensor: ...
    def attend(self, qkv: Tensor, out: Tensor) -> None: ...
    def attend_backward(self, grad: Tensor, qkv: Tensor) -> Tensor: ...
    def gelu(self, x: Tensor) -> Tensor: ...
    def gelu_backward(self, grad: Tensor, x: Tensor) -> Tensor: ...
    def adapter_forward(self, *arguments: Any) -> None: ...
    def adapter_backward(self, *arguments: Any) -> None: ...


class CpuSteps:
    """The steps on contiguous float32 on a CPU."""

    # Measured with benchmarks/kernels.py: torch's x Wᵀ has to rearrange W, its grad W has not.
    most_rows = MostRows(forward=512, backward=24)

    def __init__(self, sizes: Sizes) -> None:
        self.sizes = sizes
        self.module: Any = native()

    def adapter_forward(self, *arguments: Any) -> None:
        self.module.adapter_forward(*arguments)

    def adapter_backward(self, *arguments: Any) -> None:
        self.module.adapter_backward(*arguments)

    def norm(self, x: Tensor, weights: Weights, eps: float) -> Tensor:
        out = torch.empty_like(x)
        self.module.norm_forward(
            x.data_ptr(),
            weights.norm_weight.data_ptr(),
            weights.norm_bias.data_ptr(),
            *self.sizes,
            eps,
            out.data_ptr(),
        )
        return out

    def norm_backward(
        self, grad: Tensor, skip: Tensor, x: Tensor, weights: Weights, eps: float
    ) -> Tensor:
        out = torch.empty_like(x)
        self.module.norm_backward(
            grad.data_ptr(),
            skip.data_ptr(),
            x.data_ptr(),
            weights.norm_weight.data_ptr(),
            *self.sizes,
            eps,
            out.data_ptr(),
        )
        return out

    def attend(self, qkv: Tensor, out: Tensor) -> None:
        self.module.attend_forward(qkv.data_ptr(), *self.sizes, out.data_ptr())

    def attend_backward(self, grad: Tensor, qkv: Tensor) -> Tensor:
        out = torch.empty_like(qkv)
        self.module.attend_backward(grad.data_ptr(), qkv.data_ptr(), *self.sizes, out.data_ptr())
        return out

    def gelu(self, x: Tensor) -> Tensor:
        out = torch.empty_like(x)
        self.module.gelu_forward(x.data_ptr(), x.numel(), out.data_ptr())
        return out

    def gelu_backward(self, grad: Tensor, x: Tensor) -> Tensor:
        self.module.gelu_backward(grad.data_ptr(), x.data_ptr(), x.numel(), grad.data_ptr())
        return grad


def forward_by_steps(
    steps: Steps, tokens: Tensor, weights: Weights, kept: Kept, eps: float
) -> Tensor:
    """c' of the tokens (M, D); fills `kept`."""
    normed = steps.norm(tokens, weights, eps)
    torch.addmm(weights.qkv_bias, normed, weights.qkv_weight.t(), out=kept.qkv)
    steps.attend(kept.qkv, kept.mixed)
    torch.addmm(weights.out_bias, kept.mixed, weights.out_weight.t(), out=kept.attended)
    torch.addmm(weights.down_bias, kept.attended, weights.down_weight.t(), out=kept.hidden)
    out = torch.addmm(weights.up_bias, steps.gelu(kept.hidden), weights.up_weight.t())
    return out.add_(tokens)


def depth_of(need: dict[str, bool]) -> int:
    """How many matrix products the gradient goes back through: 4 to the tokens, 0 none."""
    for depth, names in (
        (4, ("c", "norm_weight", "norm_bias")),
        (3, ("qkv_weight", "qkv_bias")),
        (2, ("out_weight", "out_bias")),
        (1, ("down_weight", "down_bias")),
    ):
        if any(need[name] for name in names):
            return depth
    return 0


def backward_by_steps(
    steps: Steps,
    skip: Tensor,
    tokens: Tensor,
    weights: Weights,
    kept: Kept,
    eps: float,
    need: dict[str, bool],
) -> dict[str, Tensor]:
    """The needed gradients by name, last product first; `skip` is the gradient of c', (M, D)."""
    found: dict[str, Tensor] = {}
    depth = depth_of(need)

    def of_linear(name: str, grad: Tensor, inputs: Tensor) -> None:
        if need[f"{name}_weight"]:
            found[f"{name}_weight"] = grad.t().mm(inputs)
        if need[f"{name}_bias"]:
            found[f"{name}_bias"] = grad.sum(0)

    of_linear("up", skip, steps.gelu(kept.hidden) if need["up_weight"] else kept.hidden)
    if depth < 1:
        return found
    step = steps.gelu_backward(skip.mm(weights.up_weight), kept.hidden)  # (M, h)
    of_linear("down", step, kept.attended)
    if depth < 2:
        return found
    step = step.mm(weights.down_weight)  # (M, D)
    of_linear("out", step, kept.mixed)
    if depth < 3:
        return found
    step = steps.attend_backward(step.mm(weights.out_weight), kept.qkv)  # (M, 3 D)
    of_linear("qkv", step, steps.norm(tokens, weights, eps) if need["qkv_weight"] else tokens)
    if depth < 4:
        return found
    step = step.mm(weights.qkv_weight)  # (M, D)
    if need["norm_weight"]:
        unit = torch.nn.functional.layer_norm(tokens, tokens.shape[-1:], eps=eps)
        found["norm_weight"] = (step * unit).sum(0)
    if need["norm_bias"]:
        found["norm_bias"] = step.sum(0)
    if need["c"]:
        found["c"] = steps.norm_backward(step, skip, tokens, weights, eps)
    return found
