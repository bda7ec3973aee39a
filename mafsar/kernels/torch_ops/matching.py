"""The matching ops on torch tensors: ``torch.ops.mafsar.*``, their gradients, the public functions.

CPU float32 goes to the native module, everything else to the twin of the same name in
`mafsar.kernels.reference`. The kernels for CUDA tensors are in
`mafsar.kernels.torch_ops.matching_cuda`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mafsar.kernels import checks, reference
from mafsar.kernels.checks import AlignmentMetric
from mafsar.kernels.dispatch import native
from mafsar.kernels.torch_ops.library import (
    OPS,
    address,
    as_float32,
    checked_lengths,
    differentiate_once,
    matches_natively,
    register,
    result_dtype,
    twin_gradients,
    without_autocast,
)

# --- kernels on distances -------------------------------------------------------------------------


def _align_twin(
    metric: AlignmentMetric, lam: float, bidirectional: bool, lengths: Tensor | None
) -> Callable[[Tensor], Tensor]:
    """The twin as a function of the distances alone."""
    return lambda distances: reference.align(metric, distances, lam, bidirectional, lengths)


def align(
    metric: AlignmentMetric,
    distances: Tensor,
    lam: float,
    bidirectional: bool,
    lengths: Tensor | None,
) -> Tensor:
    """The cost of every pair in the named metric, without autograd."""
    checks.check_metric(metric)
    checks.check_distances(distances, lengths)
    checks.check_lam(lam)
    *lead, rows, columns = distances.shape
    sizes = checked_lengths("lengths", lengths, (rows, columns))
    if not matches_natively(distances):
        twin = _align_twin(metric, lam, bidirectional, sizes)
        return twin(distances.to(result_dtype(distances))).contiguous()
    ready = as_float32(distances)
    out = torch.empty(lead, dtype=torch.float32)
    native().align_forward(
        metric,
        ready.data_ptr(),
        address(sizes),
        out.numel(),
        rows,
        columns,
        lam,
        bidirectional,
        out.data_ptr(),
    )
    return out


def align_backward(
    metric: AlignmentMetric,
    grad: Tensor,
    distances: Tensor,
    lam: float,
    bidirectional: bool,
    lengths: Tensor | None,
) -> Tensor:
    """The gradient of `align` with respect to the distances."""
    checks.check_metric(metric)
    checks.check_distances(distances, lengths)
    checks.check_gradient(grad, distances.shape[:-2])
    checks.check_lam(lam)
    rows, columns = distances.shape[-2:]
    sizes = checked_lengths("lengths", lengths, (rows, columns))
    if not matches_natively(distances):
        return twin_gradients(_align_twin(metric, lam, bidirectional, sizes), grad, distances)[0]
    ready, ready_grad = as_float32(distances), as_float32(grad)
    out = torch.empty_like(ready)
    native().align_backward(
        metric,
        ready_grad.data_ptr(),
        ready.data_ptr(),
        address(sizes),
        ready_grad.numel(),
        rows,
        columns,
        lam,
        bidirectional,
        out.data_ptr(),
    )
    return out


# --- kernels on features --------------------------------------------------------------------------


def _match_twin(
    metric: AlignmentMetric,
    lam: float,
    query_lengths: Tensor | None,
    prototype_lengths: Tensor | None,
) -> Callable[[Tensor, Tensor], Tensor]:
    """The twin as a function of the features alone."""
    return lambda q, s: reference.match(metric, q, s, lam, query_lengths, prototype_lengths)


def match_sizes(query: Tensor, prototypes: Tensor) -> tuple[int, ...]:
    """(B, Q, C, Tq, Ts, E), where B is the product of the leading sizes."""
    *lead, videos, rows, width = query.shape
    classes, columns = prototypes.shape[-3:-1]
    return math.prod(lead), videos, classes, rows, columns, width


def match(
    metric: AlignmentMetric,
    query: Tensor,
    prototypes: Tensor,
    lam: float,
    query_lengths: Tensor | None,
    prototype_lengths: Tensor | None,
) -> Tensor:
    """The cost of every query to every prototype in the named metric, without autograd."""
    checks.check_metric(metric)
    checks.check_tensor_features(query, prototypes, query_lengths, prototype_lengths)
    checks.check_lam(lam)
    rows = checked_lengths("query_lengths", query_lengths, (query.shape[-2],))
    columns = checked_lengths("prototype_lengths", prototype_lengths, (prototypes.shape[-2],))
    if not matches_natively(query):
        dtype = result_dtype(query)
        twin = _match_twin(metric, lam, rows, columns)
        return twin(query.to(dtype), prototypes.to(dtype)).contiguous()
    left, right = as_float32(query), as_float32(prototypes)
    out = torch.empty((*left.shape[:-2], right.shape[-3]), dtype=torch.float32)
    native().match_forward(
        metric,
        left.data_ptr(),
        right.data_ptr(),
        address(rows),
        address(columns),
        *match_sizes(left, right),
        lam,
        out.data_ptr(),
    )
    return out


def match_backward(
    metric: AlignmentMetric,
    grad: Tensor,
    query: Tensor,
    prototypes: Tensor,
    lam: float,
    query_lengths: Tensor | None,
    prototype_lengths: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """The gradients of `match` with respect to the query and the prototypes."""
    checks.check_metric(metric)
    checks.check_tensor_features(query, prototypes, query_lengths, prototype_lengths)
    checks.check_gradient(grad, (*query.shape[:-2], prototypes.shape[-3]))
    checks.check_lam(lam)
    rows = checked_lengths("query_lengths", query_lengths, (query.shape[-2],))
    columns = checked_lengths("prototype_lengths", prototype_lengths, (prototypes.shape[-2],))
    if not matches_natively(query):
        twin = _match_twin(metric, lam, rows, columns)
        grad_query, grad_prototypes = twin_gradients(twin, grad, query, prototypes)
        return grad_query, grad_prototypes
    left, right, ready_grad = as_float32(query), as_float32(prototypes), as_float32(grad)
    grad_query, grad_prototypes = torch.empty_like(left), torch.empty_like(right)
    native().match_backward(
        metric,
        ready_grad.data_ptr(),
        left.data_ptr(),
        right.data_ptr(),
        address(rows),
        address(columns),
        *match_sizes(left, right),
        lam,
        grad_query.data_ptr(),
        grad_prototypes.data_ptr(),
    )
    return grad_query, grad_prototypes


# --- fakes and registration -----------------------------------------------------------------------


# The last arguments of an op are its lengths; options may come before them.


def _fake_align(distances: Tensor, *rest: Any) -> Tensor:
    checks.check_distances(distances, rest[-1])
    return distances.new_empty(distances.shape[:-2], dtype=result_dtype(distances))


def _fake_align_backward(grad: Tensor, distances: Tensor, *rest: Any) -> Tensor:
    checks.check_distances(distances, rest[-1])
    checks.check_gradient(grad, distances.shape[:-2])
    return distances.new_empty(distances.shape, dtype=result_dtype(distances))


def _fake_match(query: Tensor, prototypes: Tensor, *rest: Any) -> Tensor:
    checks.check_tensor_features(query, prototypes, *rest[-2:])
    shape = (*query.shape[:-2], prototypes.shape[-3])
    return query.new_empty(shape, dtype=result_dtype(query))


def _fake_match_backward(
    grad: Tensor, query: Tensor, prototypes: Tensor, *rest: Any
) -> tuple[Tensor, Tensor]:
    checks.check_tensor_features(query, prototypes, *rest[-2:])
    checks.check_gradient(grad, (*query.shape[:-2], prototypes.shape[-3]))
    dtype = result_dtype(query)
    grad_query = query.new_empty(query.shape, dtype=dtype)
    return grad_query, prototypes.new_empty(prototypes.shape, dtype=dtype)


_OTAM = "Tensor distances, float lam, bool bidirectional, Tensor? lengths"
register("otam", _OTAM, "Tensor", lambda *a: align("otam", *a), _fake_align)
register(
    "otam_backward",
    f"Tensor grad, {_OTAM}",
    "Tensor",
    lambda *a: align_backward("otam", *a),
    _fake_align_backward,
)
_BIMHM = "Tensor distances, Tensor? lengths"
register(
    "bimhm", _BIMHM, "Tensor", lambda d, sizes: align("bimhm", d, 1.0, True, sizes), _fake_align
)
register(
    "bimhm_backward",
    f"Tensor grad, {_BIMHM}",
    "Tensor",
    lambda g, d, sizes: align_backward("bimhm", g, d, 1.0, True, sizes),
    _fake_align_backward,
)
_VIDEOS = "Tensor query, Tensor prototypes"
_LENGTHS = "Tensor? query_lengths, Tensor? prototype_lengths"
register(
    "otam_match",
    f"{_VIDEOS}, float lam, {_LENGTHS}",
    "Tensor",
    lambda *a: match("otam", *a),
    _fake_match,
)
register(
    "otam_match_backward",
    f"Tensor grad, {_VIDEOS}, float lam, {_LENGTHS}",
    "(Tensor, Tensor)",
    lambda *a: match_backward("otam", *a),
    _fake_match_backward,
)
register(
    "bimhm_match",
    f"{_VIDEOS}, {_LENGTHS}",
    "Tensor",
    lambda q, s, *sizes: match("bimhm", q, s, 1.0, *sizes),
    _fake_match,
)
register(
    "bimhm_match_backward",
    f"Tensor grad, {_VIDEOS}, {_LENGTHS}",
    "(Tensor, Tensor)",
    lambda g, q, s, *sizes: match_backward("bimhm", g, q, s, 1.0, *sizes),
    _fake_match_backward,
)


# --- gradients ------------------------------------------------------------------------------------


class _Align(torch.autograd.Function):
    """An op on distances with its gradient."""

    @staticmethod
    def forward(
        ctx: Any, name: str, distances: Tensor, lengths: Tensor | None, *options: Any
    ) -> Tensor:
        ctx.save_for_backward(distances, lengths)
        ctx.name, ctx.options = name, options
        cost: Tensor = getattr(OPS, name)(distances, *options, lengths)
        return cost

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        distances, lengths = ctx.saved_tensors
        slope = differentiate_once(ctx.name, grad, distances, *ctx.options, lengths)
        return None, slope, None, *(None for _ in ctx.options)


class _Match(torch.autograd.Function):
    """An op on features with its gradients."""

    @staticmethod
    def forward(
        ctx: Any,
        name: str,
        query: Tensor,
        prototypes: Tensor,
        rows: Tensor | None,
        columns: Tensor | None,
        *options: Any,
    ) -> Tensor:
        ctx.save_for_backward(query, prototypes, rows, columns)
        ctx.name, ctx.options = name, options
        cost: Tensor = getattr(OPS, name)(query, prototypes, *options, rows, columns)
        return cost

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, prototypes, rows, columns = ctx.saved_tensors
        slopes = differentiate_once(ctx.name, grad, query, prototypes, *ctx.options, rows, columns)
        return None, *slopes, None, None, *(None for _ in ctx.options)


# --- the public functions -------------------------------------------------------------------------


def _takes_twin(tensor: Tensor) -> bool:
    """True if plain torch operations are needed: on export, and for float64."""
    return tensor.dtype == torch.float64 or torch.compiler.is_exporting()


def _promoted(name: str, tensor: Tensor) -> Tensor:
    """Half precision as float32, differentiably."""
    if tensor.dtype in (torch.float32, torch.float64):
        return tensor
    checks.check_floating(name, tensor.dtype)
    return tensor.float()


def _as_lengths(lengths: Any) -> Tensor | None:
    """Lengths as a tensor on their own device: on a CPU they are checked without waiting."""
    return None if lengths is None else torch.as_tensor(lengths)


def _align_differentiably(
    metric: AlignmentMetric, distances: Tensor, lam: float, bidirectional: bool, lengths: Any
) -> Tensor:
    distances, sizes = _promoted("distances", distances), _as_lengths(lengths)
    if _takes_twin(distances):
        checks.check_distances(distances, sizes)
        checks.check_lam(lam)
        if not torch.compiler.is_compiling():
            sizes = checked_lengths("lengths", sizes, (distances.shape[-2], distances.shape[-1]))
        return _align_twin(metric, lam, bidirectional, sizes)(distances)
    options = (lam, bidirectional) if metric == "otam" else ()
    if torch.is_grad_enabled() and distances.requires_grad:
        cost: Tensor = _Align.apply(metric, distances, sizes, *options)
    else:
        cost = getattr(OPS, metric)(distances, *options, sizes)
    return cost


def otam(distances: Tensor, lam: float, bidirectional: bool, lengths: Any) -> Tensor:
    """See `mafsar.kernels.otam`."""
    return _align_differentiably("otam", distances, lam, bidirectional, lengths)


def bimhm(distances: Tensor, lengths: Any) -> Tensor:
    """See `mafsar.kernels.bimhm`."""
    return _align_differentiably("bimhm", distances, 1.0, True, lengths)


def _match_differentiably(
    metric: AlignmentMetric, query: Tensor, prototypes: Tensor, lam: float, rows: Any, columns: Any
) -> Tensor:
    rows, columns = _as_lengths(rows), _as_lengths(columns)
    checks.check_tensor_features(query, prototypes, rows, columns)
    query, prototypes = _promoted("query", query), _promoted("prototypes", prototypes)
    if _takes_twin(query):
        checks.check_lam(lam)
        if not torch.compiler.is_compiling():
            rows = checked_lengths("query_lengths", rows, (query.shape[-2],))
            columns = checked_lengths("prototype_lengths", columns, (prototypes.shape[-2],))
        return _match_twin(metric, lam, rows, columns)(query, prototypes)
    name, options = f"{metric}_match", (lam,) if metric == "otam" else ()
    if torch.is_grad_enabled() and (query.requires_grad or prototypes.requires_grad):
        cost: Tensor = _Match.apply(name, query, prototypes, rows, columns, *options)
    else:
        cost = getattr(OPS, name)(query, prototypes, *options, rows, columns)
    return cost


def otam_match(query: Tensor, prototypes: Tensor, lam: float, rows: Any, columns: Any) -> Tensor:
    """See `mafsar.kernels.otam_match`."""
    return _match_differentiably("otam", query, prototypes, lam, rows, columns)


def bimhm_match(query: Tensor, prototypes: Tensor, rows: Any, columns: Any) -> Tensor:
    """See `mafsar.kernels.bimhm_match`."""
    return _match_differentiably("bimhm", query, prototypes, 1.0, rows, columns)


def mean_match(query: Tensor, prototypes: Tensor) -> Tensor:
    """See `mafsar.kernels.mean_match`."""
    checks.check_tensor_features(query, prototypes, None, None)
    query, prototypes = _promoted("query", query), _promoted("prototypes", prototypes)
    with without_autocast(query):
        return reference.mean_match(query, prototypes)


def frame_distances(query: Tensor, prototypes: Tensor) -> Tensor:
    """See `mafsar.kernels.frame_distances`."""
    checks.check_tensor_features(query, prototypes, None, None)
    query, prototypes = _promoted("query", query), _promoted("prototypes", prototypes)
    with without_autocast(query):
        return reference.frame_distances(query, prototypes)
