"""The torch door: ``torch.ops.mafsar.*``, their fakes, their gradients and the public functions.

The ops are made with `Library.define` and `Library.impl`, and the `autograd.Function` stands
outside of them: 8 µs a call against 27 µs for `torch.library.custom_op`. CPU float32 goes to the
native module, everything else to the twin of the same name in `mafsar.kernels.reference`.
Fake kernels do not run in eager mode, so the public functions and the fakes share their checks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mafsar.kernels import checks, reference
from mafsar.kernels.dispatch import log_once, native

# The ops live as long as this object.
_library = torch.library.Library("mafsar", "DEF")


def _address(tensor: Tensor | None) -> int:
    """Address of the first element, 0 for None. The caller keeps the tensor in a local."""
    return 0 if tensor is None else tensor.data_ptr()


def _result_dtype(tensor: Tensor) -> torch.dtype:
    """Half precision is computed and returned in float32."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def _is_native(tensor: Tensor) -> bool:
    """True where the native module takes this tensor; says once why not."""
    if tensor.device.type != "cpu":
        log_once(f"matching of {tensor.device.type} tensors uses the torch twin: no native kernel")
        return False
    return tensor.dtype != torch.float64 and native() is not None


def _ready(tensor: Tensor) -> Tensor:
    """Contiguous float32, as the native module reads it."""
    if tensor.dtype is not torch.float32:
        tensor = tensor.to(torch.float32)
    return tensor.contiguous()


def _ready_lengths(name: str, lengths: Tensor | None, frames: tuple[int, ...]) -> Tensor | None:
    """Contiguous int64 lengths, each column (or all) checked to lie within 1 … frames."""
    if lengths is None:
        return None
    ready = lengths.to("cpu", torch.int64).contiguous()
    if ready.numel():
        for column, most in zip(ready.view(-1, len(frames)).unbind(1), frames, strict=True):
            checks.check_range(name, int(column.min()), int(column.max()), most)
    return ready


def _gradients(function: Callable[..., Tensor], grad: Tensor, *inputs: Tensor) -> list[Tensor]:
    """Gradients of a twin, computed by running it again."""
    with torch.enable_grad():
        leaves = [x.detach().to(_result_dtype(x)).requires_grad_() for x in inputs]
        return [g.contiguous() for g in torch.autograd.grad(function(*leaves), leaves, grad)]


# --- ops on distances -----------------------------------------------------------------------------


def _otam(distances: Tensor, lam: float, bidirectional: bool, lengths: Tensor | None) -> Tensor:
    _check_distances(distances, lengths)
    checks.check_lam(lam)
    sizes = _ready_lengths("lengths", lengths, (distances.shape[-2], distances.shape[-1]))
    if not _is_native(distances):
        return reference.otam(distances.to(_result_dtype(distances)), lam, bidirectional, sizes)
    ready = _ready(distances)
    *lead, rows, columns = ready.shape
    out = torch.empty(lead, dtype=torch.float32)
    native().otam_forward(
        ready.data_ptr(),
        _address(sizes),
        out.numel(),
        rows,
        columns,
        lam,
        bidirectional,
        out.data_ptr(),
    )
    return out


def _otam_backward(
    grad: Tensor, distances: Tensor, lam: float, bidirectional: bool, lengths: Tensor | None
) -> Tensor:
    _check_distances(distances, lengths)
    _check_gradient(grad, distances.shape[:-2])
    checks.check_lam(lam)
    sizes = _ready_lengths("lengths", lengths, (distances.shape[-2], distances.shape[-1]))
    if not _is_native(distances):
        return _gradients(lambda d: reference.otam(d, lam, bidirectional, sizes), grad, distances)[
            0
        ]
    ready, ready_grad = _ready(distances), _ready(grad)
    rows, columns = ready.shape[-2:]
    out = torch.empty_like(ready)
    native().otam_backward(
        ready_grad.data_ptr(),
        ready.data_ptr(),
        _address(sizes),
        ready_grad.numel(),
        rows,
        columns,
        lam,
        bidirectional,
        out.data_ptr(),
    )
    return out


def _bimhm(distances: Tensor, lengths: Tensor | None) -> Tensor:
    _check_distances(distances, lengths)
    sizes = _ready_lengths("lengths", lengths, (distances.shape[-2], distances.shape[-1]))
    if not _is_native(distances):
        return reference.bimhm(distances.to(_result_dtype(distances)), sizes)
    ready = _ready(distances)
    *lead, rows, columns = ready.shape
    out = torch.empty(lead, dtype=torch.float32)
    native().bimhm_forward(
        ready.data_ptr(), _address(sizes), out.numel(), rows, columns, out.data_ptr()
    )
    return out


def _bimhm_backward(grad: Tensor, distances: Tensor, lengths: Tensor | None) -> Tensor:
    _check_distances(distances, lengths)
    _check_gradient(grad, distances.shape[:-2])
    sizes = _ready_lengths("lengths", lengths, (distances.shape[-2], distances.shape[-1]))
    if not _is_native(distances):
        return _gradients(lambda d: reference.bimhm(d, sizes), grad, distances)[0]
    ready, ready_grad = _ready(distances), _ready(grad)
    rows, columns = ready.shape[-2:]
    out = torch.empty_like(ready)
    native().bimhm_backward(
        ready_grad.data_ptr(),
        ready.data_ptr(),
        _address(sizes),
        ready_grad.numel(),
        rows,
        columns,
        out.data_ptr(),
    )
    return out


# --- ops on features ------------------------------------------------------------------------------


def _twin_match(
    metric: str, lam: float, query_lengths: Tensor | None, prototype_lengths: Tensor | None
) -> Callable[[Tensor, Tensor], Tensor]:
    """The twin as a function of the features alone."""
    if metric == "otam":
        return lambda q, s: reference.otam_match(q, s, lam, query_lengths, prototype_lengths)
    return lambda q, s: reference.bimhm_match(q, s, query_lengths, prototype_lengths)


def _match_sizes(query: Tensor, prototypes: Tensor) -> tuple[int, ...]:
    """(B, Q, C, Tq, Ts, E) with the leading sizes in one."""
    *lead, videos, rows, width = query.shape
    classes, columns = prototypes.shape[-3:-1]
    return math.prod(lead), videos, classes, rows, columns, width


def _match(
    metric: str,
    query: Tensor,
    prototypes: Tensor,
    lam: float,
    query_lengths: Tensor | None,
    prototype_lengths: Tensor | None,
) -> Tensor:
    _check_features(query, prototypes, query_lengths, prototype_lengths)
    checks.check_lam(lam)
    rows = _ready_lengths("query_lengths", query_lengths, (query.shape[-2],))
    columns = _ready_lengths("prototype_lengths", prototype_lengths, (prototypes.shape[-2],))
    if not _is_native(query):
        dtype = _result_dtype(query)
        return _twin_match(metric, lam, rows, columns)(query.to(dtype), prototypes.to(dtype))
    left, right = _ready(query), _ready(prototypes)
    out = torch.empty((*left.shape[:-2], right.shape[-3]), dtype=torch.float32)
    native().match_forward(
        metric,
        left.data_ptr(),
        right.data_ptr(),
        _address(rows),
        _address(columns),
        *_match_sizes(left, right),
        lam,
        out.data_ptr(),
    )
    return out


def _match_backward(
    metric: str,
    grad: Tensor,
    query: Tensor,
    prototypes: Tensor,
    lam: float,
    query_lengths: Tensor | None,
    prototype_lengths: Tensor | None,
) -> tuple[Tensor, Tensor]:
    _check_features(query, prototypes, query_lengths, prototype_lengths)
    _check_gradient(grad, (*query.shape[:-2], prototypes.shape[-3]))
    checks.check_lam(lam)
    rows = _ready_lengths("query_lengths", query_lengths, (query.shape[-2],))
    columns = _ready_lengths("prototype_lengths", prototype_lengths, (prototypes.shape[-2],))
    if not _is_native(query):
        twin = _twin_match(metric, lam, rows, columns)
        grad_query, grad_prototypes = _gradients(twin, grad, query, prototypes)
        return grad_query, grad_prototypes
    left, right, ready_grad = _ready(query), _ready(prototypes), _ready(grad)
    grad_query, grad_prototypes = torch.empty_like(left), torch.empty_like(right)
    native().match_backward(
        metric,
        ready_grad.data_ptr(),
        left.data_ptr(),
        right.data_ptr(),
        _address(rows),
        _address(columns),
        *_match_sizes(left, right),
        lam,
        grad_query.data_ptr(),
        grad_prototypes.data_ptr(),
    )
    return grad_query, grad_prototypes


def _otam_match(
    query: Tensor, prototypes: Tensor, lam: float, rows: Tensor | None, columns: Tensor | None
) -> Tensor:
    return _match("otam", query, prototypes, lam, rows, columns)


def _otam_match_backward(
    grad: Tensor,
    query: Tensor,
    prototypes: Tensor,
    lam: float,
    rows: Tensor | None,
    columns: Tensor | None,
) -> tuple[Tensor, Tensor]:
    return _match_backward("otam", grad, query, prototypes, lam, rows, columns)


def _bimhm_match(
    query: Tensor, prototypes: Tensor, rows: Tensor | None, columns: Tensor | None
) -> Tensor:
    return _match("bimhm", query, prototypes, 1.0, rows, columns)


def _bimhm_match_backward(
    grad: Tensor, query: Tensor, prototypes: Tensor, rows: Tensor | None, columns: Tensor | None
) -> tuple[Tensor, Tensor]:
    return _match_backward("bimhm", grad, query, prototypes, 1.0, rows, columns)


# --- checks and fakes -----------------------------------------------------------------------------


def _check_gradient(grad: Tensor, shape: Any) -> None:
    checks.check_floating("grad", grad.dtype)
    if tuple(grad.shape) != tuple(shape):
        raise ValueError(f"grad must have shape {tuple(shape)}, got {tuple(grad.shape)}")


def _check_distances(distances: Tensor, lengths: Tensor | None) -> None:
    checks.check_distances(distances.shape, distances.dtype)
    if lengths is not None:
        checks.check_pair_lengths(lengths.shape, lengths.dtype, distances.shape)


def _check_features(
    query: Tensor, prototypes: Tensor, rows: Tensor | None, columns: Tensor | None
) -> None:
    checks.check_features(query.shape, query.dtype, prototypes.shape, prototypes.dtype)
    if prototypes.device != query.device:
        raise RuntimeError(
            f"prototypes must be on {query.device} as query is, got {prototypes.device}"
        )
    for name, lengths, features in (
        ("query_lengths", rows, query),
        ("prototype_lengths", columns, prototypes),
    ):
        if lengths is not None:
            checks.check_video_lengths(name, lengths.shape, lengths.dtype, features.shape)


def _fake_costs(distances: Tensor, *rest: Any) -> Tensor:
    _check_distances(distances, rest[-1])
    return distances.new_empty(distances.shape[:-2], dtype=_result_dtype(distances))


def _fake_costs_backward(grad: Tensor, distances: Tensor, *rest: Any) -> Tensor:
    _check_distances(distances, rest[-1])
    _check_gradient(grad, distances.shape[:-2])
    return distances.new_empty(distances.shape, dtype=_result_dtype(distances))


def _fake_match(query: Tensor, prototypes: Tensor, *rest: Any) -> Tensor:
    _check_features(query, prototypes, rest[-2], rest[-1])
    shape = (*query.shape[:-2], prototypes.shape[-3])
    return query.new_empty(shape, dtype=_result_dtype(query))


def _fake_match_backward(
    grad: Tensor, query: Tensor, prototypes: Tensor, *rest: Any
) -> tuple[Tensor, Tensor]:
    _check_features(query, prototypes, rest[-2], rest[-1])
    _check_gradient(grad, (*query.shape[:-2], prototypes.shape[-3]))
    dtype = _result_dtype(query)
    return query.new_empty(query.shape, dtype=dtype), query.new_empty(prototypes.shape, dtype=dtype)


_PAIRS = "Tensor distances"
_VIDEOS = "Tensor query, Tensor prototypes"
_LENGTHS = "Tensor? lengths"
_TWO = "-> (Tensor, Tensor)"
_VIDEO_LENGTHS = "Tensor? query_lengths, Tensor? prototype_lengths"
for _schema, _kernel, _fake in (
    (
        f"otam({_PAIRS}, float lam, bool bidirectional, {_LENGTHS}) -> Tensor",
        _otam,
        _fake_costs,
    ),
    (
        f"otam_backward(Tensor grad, {_PAIRS}, float lam, bool bidirectional, {_LENGTHS}) -> Tensor",
        _otam_backward,
        _fake_costs_backward,
    ),
    (f"bimhm({_PAIRS}, {_LENGTHS}) -> Tensor", _bimhm, _fake_costs),
    (
        f"bimhm_backward(Tensor grad, {_PAIRS}, {_LENGTHS}) -> Tensor",
        _bimhm_backward,
        _fake_costs_backward,
    ),
    (f"otam_match({_VIDEOS}, float lam, {_VIDEO_LENGTHS}) -> Tensor", _otam_match, _fake_match),
    (
        f"otam_match_backward(Tensor grad, {_VIDEOS}, float lam, {_VIDEO_LENGTHS}) {_TWO}",
        _otam_match_backward,
        _fake_match_backward,
    ),
    (f"bimhm_match({_VIDEOS}, {_VIDEO_LENGTHS}) -> Tensor", _bimhm_match, _fake_match),
    (
        f"bimhm_match_backward(Tensor grad, {_VIDEOS}, {_VIDEO_LENGTHS}) {_TWO}",
        _bimhm_match_backward,
        _fake_match_backward,
    ),
):
    _name = _schema.partition("(")[0]
    _library.define(_schema)
    _library.impl(_name, _kernel, "CompositeExplicitAutograd")
    torch.library.register_fake(f"mafsar::{_name}", _fake, lib=_library)


# --- gradients ------------------------------------------------------------------------------------


def _twice(name: str) -> RuntimeError:
    return RuntimeError(
        f"{name} is differentiable once: its gradient has no gradient "
        "(pass float64 tensors for the twin, which can be differentiated again)"
    )


class _Once(torch.autograd.Function):
    """A backward op as a step that refuses to be differentiated, for create_graph=True."""

    @staticmethod
    def forward(ctx: Any, name: str, op: Any, grad: Tensor, *inputs: Any) -> Any:
        ctx.name = name
        return op(grad, *inputs)

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> Any:
        raise _twice(ctx.name)


def _once(name: str, op: Any, grad: Tensor, *inputs: Any) -> Any:
    """Run a backward op; where autograd records it, in a form that refuses a second derivative."""
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        return _Once.apply(name, op, grad, *inputs)
    return op(grad, *inputs)


class _Otam(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, distances: Tensor, lam: float, bidirectional: bool, lengths: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(distances, lengths)
        ctx.options = lam, bidirectional
        return torch.ops.mafsar.otam(distances, lam, bidirectional, lengths)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        distances, lengths = ctx.saved_tensors
        op = torch.ops.mafsar.otam_backward
        return _once("otam", op, grad, distances, *ctx.options, lengths), None, None, None


class _Bimhm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, distances: Tensor, lengths: Tensor | None) -> Tensor:
        ctx.save_for_backward(distances, lengths)
        return torch.ops.mafsar.bimhm(distances, lengths)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _once("bimhm", torch.ops.mafsar.bimhm_backward, grad, *ctx.saved_tensors), None


class _OtamMatch(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        prototypes: Tensor,
        lam: float,
        rows: Tensor | None,
        columns: Tensor | None,
    ) -> Tensor:
        ctx.save_for_backward(query, prototypes, rows, columns)
        ctx.lam = lam
        return torch.ops.mafsar.otam_match(query, prototypes, lam, rows, columns)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        query, prototypes, rows, columns = ctx.saved_tensors
        op = torch.ops.mafsar.otam_match_backward
        grad_query, grad_prototypes = _once(
            "otam_match", op, grad, query, prototypes, ctx.lam, rows, columns
        )
        return grad_query, grad_prototypes, None, None, None


class _BimhmMatch(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, prototypes: Tensor, rows: Tensor | None, columns: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(query, prototypes, rows, columns)
        return torch.ops.mafsar.bimhm_match(query, prototypes, rows, columns)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        op = torch.ops.mafsar.bimhm_match_backward
        grad_query, grad_prototypes = _once("bimhm_match", op, grad, *ctx.saved_tensors)
        return grad_query, grad_prototypes, None, None


# --- the public functions -------------------------------------------------------------------------


def _takes_twin(tensor: Tensor) -> bool:
    """True where the graph must hold plain torch: on export, and for float64."""
    return tensor.dtype == torch.float64 or torch.compiler.is_exporting()


def _promoted(name: str, tensor: Tensor) -> Tensor:
    """Half precision as float32, differentiably."""
    if tensor.dtype in (torch.float32, torch.float64):
        return tensor
    checks.check_floating(name, tensor.dtype)
    return tensor.float()


def _as_lengths(lengths: Any, like: Tensor) -> Tensor | None:
    return None if lengths is None else torch.as_tensor(lengths, device=like.device)


def otam(distances: Tensor, lam: float, bidirectional: bool, lengths: Any) -> Tensor:
    """See `mafsar.kernels.otam`."""
    distances, lengths = _promoted("distances", distances), _as_lengths(lengths, distances)
    if _takes_twin(distances):
        _check_distances(distances, lengths)
        checks.check_lam(lam)
        return reference.otam(distances, lam, bidirectional, lengths)
    if torch.is_grad_enabled() and distances.requires_grad:
        return _Otam.apply(distances, lam, bidirectional, lengths)
    return torch.ops.mafsar.otam(distances, lam, bidirectional, lengths)


def bimhm(distances: Tensor, lengths: Any) -> Tensor:
    """See `mafsar.kernels.bimhm`."""
    distances, lengths = _promoted("distances", distances), _as_lengths(lengths, distances)
    if _takes_twin(distances):
        _check_distances(distances, lengths)
        return reference.bimhm(distances, lengths)
    if torch.is_grad_enabled() and distances.requires_grad:
        return _Bimhm.apply(distances, lengths)
    return torch.ops.mafsar.bimhm(distances, lengths)


def otam_match(
    query: Tensor, prototypes: Tensor, lam: float, query_lengths: Any, prototype_lengths: Any
) -> Tensor:
    """See `mafsar.kernels.otam_match`."""
    _check_features(query, prototypes, None, None)
    query, prototypes = _promoted("query", query), _promoted("prototypes", prototypes)
    rows, columns = _as_lengths(query_lengths, query), _as_lengths(prototype_lengths, query)
    if _takes_twin(query):
        _check_features(query, prototypes, rows, columns)
        checks.check_lam(lam)
        return reference.otam_match(query, prototypes, lam, rows, columns)
    if torch.is_grad_enabled() and (query.requires_grad or prototypes.requires_grad):
        return _OtamMatch.apply(query, prototypes, lam, rows, columns)
    return torch.ops.mafsar.otam_match(query, prototypes, lam, rows, columns)


def bimhm_match(
    query: Tensor, prototypes: Tensor, query_lengths: Any, prototype_lengths: Any
) -> Tensor:
    """See `mafsar.kernels.bimhm_match`."""
    _check_features(query, prototypes, None, None)
    query, prototypes = _promoted("query", query), _promoted("prototypes", prototypes)
    rows, columns = _as_lengths(query_lengths, query), _as_lengths(prototype_lengths, query)
    if _takes_twin(query):
        _check_features(query, prototypes, rows, columns)
        return reference.bimhm_match(query, prototypes, rows, columns)
    if torch.is_grad_enabled() and (query.requires_grad or prototypes.requires_grad):
        return _BimhmMatch.apply(query, prototypes, rows, columns)
    return torch.ops.mafsar.bimhm_match(query, prototypes, rows, columns)


def mean_match(query: Tensor, prototypes: Tensor) -> Tensor:
    """See `mafsar.kernels.mean_match`."""
    _check_features(query, prototypes, None, None)
    return reference.mean_match(_promoted("query", query), _promoted("prototypes", prototypes))


def frame_distances(query: Tensor, prototypes: Tensor) -> Tensor:
    """See `mafsar.kernels.frame_distances`."""
    _check_features(query, prototypes, None, None)
    return reference.frame_distances(_promoted("query", query), _promoted("prototypes", prototypes))
