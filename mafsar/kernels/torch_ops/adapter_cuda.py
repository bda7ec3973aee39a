"""The steps of the temporal adapter on a GPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mafsar.kernels.dispatch import native
from mafsar.kernels.torch_ops.adapter_steps import MostRows, Sizes, Weights
from mafsar.kernels.torch_ops.library import stream_of

STORAGES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
# Fewer in float32, where our products have no matrix units. Chosen by counting bytes and
# operations, not measured.
MOST_ROWS = {
    torch.float32: MostRows(64, 64),
    torch.float16: MostRows(512, 512),
    torch.bfloat16: MostRows(512, 512),
}


class CudaSteps:
    """The steps on contiguous tensors of one dtype, enqueued on the caller's stream."""

    def __init__(self, sizes: Sizes, like: Tensor) -> None:
        self.sizes = sizes
        self.storage = STORAGES[like.dtype]
        self.most_rows = MOST_ROWS[like.dtype]
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

    def adapter_forward(self, *arguments: Any) -> None:
        self.module.cuda_adapter_forward(self.storage, *arguments, self.stream)

    def adapter_backward(self, *arguments: Any) -> None:
        self.module.cuda_adapter_backward(self.storage, *arguments, self.stream)
