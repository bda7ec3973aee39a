"""The precision that a training step computes in."""

from __future__ import annotations

import contextlib

import torch


def autocast(precision: str, device: str) -> contextlib.AbstractContextManager[object]:
    """Autocast as a run uses it around its network.

    Args:
        precision: `run.precision`: "bf16", "fp32", or "auto", which is bf16 on a GPU.
        device: As torch names it.

    Returns:
        Autocast to bfloat16, or a context that changes nothing.
    """
    kind = device.partition(":")[0]
    if precision == "bf16" or (precision == "auto" and kind == "cuda"):
        return torch.autocast(kind, dtype=torch.bfloat16)
    return contextlib.nullcontext()
