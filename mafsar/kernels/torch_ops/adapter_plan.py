"""What does not change between calls of the adapter with inputs of the same shapes."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad

from mafsar.kernels.checks import check_temporal_adapter
from mafsar.kernels.torch_ops.adapter_steps import Kept, Sizes

MOST_PLANS = 256  # a network has one for each number of clips

_describe = operator.attrgetter("shape", "dtype", "device")
_PLAIN_TYPES = {Tensor, torch.nn.Parameter}


class Plan(NamedTuple):
    """The sizes of a call whose arguments were checked.

    Attributes:
        sizes: Of the tokens.
        rows: B · T.
        hidden: Width of the adapter.
        kept_numbers: Numbers of the array that holds what the forward pass keeps.
    """

    sizes: Sizes
    rows: int
    hidden: int
    kept_numbers: int

    def kept_addresses(self, kept: Tensor) -> list[int]:
        """Addresses of the arrays of `Kept` in one array."""
        first, step = kept.data_ptr(), self.rows * self.sizes.width * kept.element_size()
        return [first, first + 3 * step, first + 4 * step, first + 5 * step]

    def kept_arrays(self, kept: Tensor) -> Kept:
        """The arrays of `Kept` as views of one array."""
        width = self.sizes.width
        places = ((0, 3 * width), (3, width), (4, width), (5, self.hidden))
        return Kept(
            *(
                kept.narrow(0, first * width * self.rows, count * self.rows).view(self.rows, count)
                for first, count in places
            )
        )


_plans: dict[tuple[Any, ...], Plan] = {}


def plan_of(c: Tensor, weights: Sequence[Tensor], heads: int, eps: float) -> Plan:
    """The plan of a call, checked the first time that inputs of these shapes are seen.

    Raises:
        ArgumentTypeError, InputError, MismatchError: As `mafsar.kernels.temporal_adapter`.
    """
    key = (heads, eps, _describe(c), *map(_describe, weights))
    plan = _plans.get(key)
    if plan is None:
        check_temporal_adapter(c, tuple(weights), heads, eps)
        clips, frames, width = c.shape
        rows, hidden = clips * frames, weights[6].shape[0]
        sizes = Sizes(clips, frames, heads, width)
        plan = Plan(sizes, rows, hidden, rows * (5 * width + hidden))
        if len(_plans) >= MOST_PLANS:
            _plans.clear()
        _plans[key] = plan
    return plan


def is_plain_call(inputs: Iterable[Tensor]) -> bool:
    """True if nothing but autograd has to see the op: no mode, transform, trace or profiler."""
    return (
        torch._C._len_torch_dispatch_stack() == 0
        and not torch._C._are_functorch_transforms_active()
        and not torch._C._is_tracing()
        and forward_ad._current_level < 0
        and not torch._C._autograd._profiler_enabled()
        and _PLAIN_TYPES.issuperset(map(type, inputs))
    )
