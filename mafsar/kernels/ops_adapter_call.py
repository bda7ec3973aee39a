"""A pass of the temporal adapter: in one native call for the rows of a few clips, else by steps."""

from __future__ import annotations

import torch
from torch import Tensor

from mafsar.kernels.torch_ops.adapter_steps import (
    INPUTS,
    Kept,
    Sizes,
    Steps,
    Weights,
    backward,
    depth_of,
    forward,
)


def run_forward(
    steps: Steps, tokens: Tensor, weights: Weights, kept: Kept, sizes: Sizes, eps: float
) -> Tensor:
    """c' of the tokens (M, D); fills `kept`."""
    if tokens.shape[0] > steps.most_rows.forward:
        return forward(steps, tokens, weights, kept, eps)
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
    """True where a gradient is needed that the one call has no place for."""
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
        return backward(steps, skip, tokens, weights, kept, eps, need)
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
