"""The temporal adapter on a GPU: its steps, and all of it in one call for the rows of a few clips."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mafsar.kernels.dispatch import native
from mafsar.kernels.ops_adapter_steps import (
    INPUTS,
    Kept,
    Sizes,
    Weights,
    backward,
    depth_of,
    forward,
)
from mafsar.kernels.ops_cuda import stream_of

STORAGES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
# Rows up to which everything goes in one call. Beyond, a library's products win: sooner in float32,
# where ours have no matrix units. Chosen by counting bytes and operations, not yet measured.
ROWS_IN_ONE_CALL = {torch.float32: 64, torch.float16: 512, torch.bfloat16: 512}


class CudaSteps:
    """Steps on contiguous tensors of one dtype, enqueued on the caller's stream."""

    def __init__(self, sizes: Sizes, like: Tensor) -> None:
        self.sizes = sizes
        self.storage = STORAGES[like.dtype]
        self.stream = stream_of(like)
        self.module: Any = native()

    def norm(self, x: Tensor, weights: Weights, eps: float) -> Tensor:
        out = torch.empty_like(x)
        weight, bias = weights.norm_weight.data_ptr(), weights.norm_bias.data_ptr()
        self.module.cuda_norm(
            self.storage,
            0,
            0,
            x.data_ptr(),
            weight,
            bias,
            *x.shape,
            eps,
            out.data_ptr(),
            self.stream,
        )
        return out

    def norm_backward(
        self, grad: Tensor, skip: Tensor, x: Tensor, weights: Weights, eps: float
    ) -> Tensor:
        out = torch.empty_like(x)
        self.module.cuda_norm(
            self.storage,
            grad.data_ptr(),
            skip.data_ptr(),
            x.data_ptr(),
            weights.norm_weight.data_ptr(),
            0,
            *x.shape,
            eps,
            out.data_ptr(),
            self.stream,
        )
        return out

    def attend(self, qkv: Tensor, out: Tensor) -> None:
        self.module.cuda_attend(
            self.storage, 0, qkv.data_ptr(), *self.sizes, out.data_ptr(), self.stream
        )

    def attend_backward(self, grad: Tensor, qkv: Tensor) -> Tensor:
        out = torch.empty_like(qkv)
        self.module.cuda_attend(
            self.storage, grad.data_ptr(), qkv.data_ptr(), *self.sizes, out.data_ptr(), self.stream
        )
        return out

    def gelu(self, x: Tensor) -> Tensor:
        out = torch.empty_like(x)
        self.module.cuda_gelu(self.storage, 0, x.data_ptr(), x.numel(), out.data_ptr(), self.stream)
        return out

    def gelu_backward(self, grad: Tensor, x: Tensor) -> Tensor:
        self.module.cuda_gelu(
            self.storage, grad.data_ptr(), x.data_ptr(), x.numel(), grad.data_ptr(), self.stream
        )
        return grad

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor, out: Tensor) -> None:
        torch.addmm(bias, x, weight.t(), out=out)


def _in_one_call(tokens: Tensor) -> bool:
    return tokens.shape[0] <= ROWS_IN_ONE_CALL[tokens.dtype]


def run_forward(tokens: Tensor, weights: Weights, kept: Kept, sizes: Sizes, eps: float) -> Tensor:
    """c' of the tokens (M, D); fills `kept`."""
    with torch.cuda.device(tokens.device):
        if not _in_one_call(tokens):
            return forward(CudaSteps(sizes, tokens), tokens, weights, kept, eps)
        out = torch.empty_like(tokens)
        native().cuda_adapter_forward(
            STORAGES[tokens.dtype],
            tokens.data_ptr(),
            [w.data_ptr() for w in weights],
            *sizes,
            kept.hidden.shape[1],
            eps,
            [k.data_ptr() for k in kept],
            out.data_ptr(),
            stream_of(tokens),
        )
        return out


def _needs_steps(need: dict[str, bool]) -> bool:
    """True where a gradient is needed that the one call has no place for."""
    if need["norm_weight"] or need["norm_bias"]:
        return True
    return any(
        need[f"{name}_bias"] and not need[f"{name}_weight"] for name in ("qkv", "out", "down", "up")
    )


def run_backward(
    skip: Tensor,
    tokens: Tensor,
    weights: Weights,
    kept: Kept,
    sizes: Sizes,
    eps: float,
    need: dict[str, bool],
) -> dict[str, Tensor]:
    """The needed gradients by name; `skip` is the gradient of c', (M, D)."""
    with torch.cuda.device(tokens.device):
        if not _in_one_call(tokens) or _needs_steps(need):
            steps = CudaSteps(sizes, tokens)
            return backward(steps, skip, tokens, weights, kept, eps, need)
        inputs = dict(zip(INPUTS, (tokens, *weights), strict=True))
        found = {name: torch.empty_like(inputs[name]) for name in INPUTS if need[name]}
        # In the order of AdapterScratch and AdapterGrads, csrc/mafsar/cuda.h.
        like = (kept.hidden, kept.attended, kept.mixed, kept.qkv, tokens, tokens)
        scratch = [torch.empty_like(x) for x in like]
        places = [found.get(n) for n in INPUTS if n not in ("norm_weight", "norm_bias")]
        native().cuda_adapter_backward(
            STORAGES[tokens.dtype],
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
            stream_of(tokens),
        )
        return found
