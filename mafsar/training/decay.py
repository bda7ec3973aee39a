"""Which parameters AdamW's weight decay applies to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from mafsar.training.fields import OptimFields


def parameter_groups(tuned: Mapping[str, nn.Parameter], optim: OptimFields) -> list[dict[str, Any]]:
    """The tuned parameters as AdamW's groups.

    Args:
        tuned: By name.
        optim: `weight_decay`, and `decay`, which says what it applies to.

    Returns:
        The parameters with weight decay, then those without; a group without parameters is left
        out.
    """
    groups: list[dict[str, Any]] = [
        {"params": [], "weight_decay": optim.weight_decay},
        {"params": [], "weight_decay": 0.0},
    ]
    for name, parameter in tuned.items():
        exempt = optim.decay == "weights" and not is_weight(name, parameter)
        groups[exempt]["params"].append(parameter)
    return [group for group in groups if group["params"]]


def is_weight(name: str, parameter: nn.Parameter) -> bool:
    """Whether a parameter multiplies features: not a bias, a norm's or an embedding."""
    return parameter.ndim > 1 and "embedding" not in name
