"""The torch door: ``torch.ops.mafsar.*``, their fakes, their gradients and the public functions.

The ops are made with `Library.define` and `Library.impl`, and the `autograd.Function` stands
outside of them: 8 µs a call against 27 µs for `torch.library.custom_op`. CPU float32 goes to the
native module, everything else to the twin of the same name in `mafsar.kernels.reference`.
Fake kernels do not run in eager mode, so kernels and fakes share their checks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from mafsar.kernels import checks, reference
from mafsar.kernels.dispatch import log_once, native
from mafsar.kernels.ops_threads import work_on_torchs_threads

# The ops live as long as this object.
_library: Any = torch.library.Library("mafsar", "DEF")  # type: ignore[no-untyped-call]
_ops = torch.ops.mafsar

work_on_torchs_threads()


def _address(tensor: Tensor | None) -> int:
    """Address of the first element, 0 for None. The caller keeps the tensor in a local."""
    return 0 if tensor is None else tensor.data_ptr()


def _result_dtype(tensor: Tensor) -> torch.dtype:
    """Half precision is computed and returned in float32."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def _is_native(tensor: Tensor) -> bool:
    """True where the native module takes this tensor; says once why not."""
    if not tensor.is_cpu:
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


@contextmanager
def recording() -> Iterator[None]:
    """Autograd records, also within an op that a dispatch mode runs with autograd switched off."""
    key = torch._C.DispatchKey.AutogradFunctionality
    with torch._C._SetExcludeDispatchKeyGuard(key, False), torch.enable_grad():
        yield


def _gradients(twin: Callable[..., Tensor], grad: Tensor, *inputs: Tensor) -> list[Tensor]:
    """Gradients of a twin, computed by running it again."""
    with recording():
        leaves = [x.detach().to(_result_dtype(x)).requires_grad_() for x in inputs]
        grads = torch.autograd.grad(twin(*leaves), leaves, grad.to(leaves[0].dtype))
    return [x.contiguous() for x in grads]


# --- kernels on distances -------------------------------------------------------------------------


def _align_twin(
    metric: str, lam: float, bidirectional: bool, lengths: Tensor | None
) -> Callable[[Tensor], Tensor]:
    """The twin as a function of the distances alone."""
    if metric == "otam":
        return lambda distances: reference.otam(distances, lam, bidirectional, lengths)
    return lambda distances: reference.bimhm(distances, lengths)


def _align(
    metric: str, distances: Tensor, lam: float, bidirectional: bool, lengths: Tensor | None
) -> Tensor:
    checks.check_distances(distances, lengths)
    checks.check_lam(lam)
    *lead, rows, columns = distances.shape
    sizes = _ready_lengths("lengths", lengths, (rows, columns))
    if not _is_native(distances):
        twin = _align_twin(metric, lam, bidirectional, sizes)
        return twin(distances.to(_result_dtype(distances))).contiguous()
    ready = _ready(distances)
    out = torch.empty(lead, dtype=torch.float32)
    native().align_forward(
        metric,
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


def _align_backward(
    metric: str,
    grad: Tensor,
    distances: Tensor,
    lam: float,
    bidirectional: bool,
    lengths: Tensor | None,
) -> Tensor:
    checks.check_distances(distances, lengths)
    checks.check_gradient(grad, distances.shape[:-2])
    checks.check_lam(lam)
    rows, columns = distances.shape[-2:]
    sizes = _ready_lengths("lengths", lengths, (rows, columns))
    if not _is_native(distances):
        return _gradients(_align_twin(metric, lam, bidirectional, sizes), grad, distances)[0]
    ready, ready_grad = _ready(distances), _ready(grad)
    out = torch.empty_like(ready)
    native().align_backward(
        metric,
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


# --- kernels on features --------------------------------------------------------------------------


def _match_twin(
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
        twin = _match_twin(metric, lam, rows, columns)
        return twin(query.to(dtype), prototypes.to(dtype)).contiguous()
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
    checks.check_gradient(grad, (*query.shape[:-2], prototypes.shape[-3]))
    checks.check_lam(lam)
    rows = _ready_lengths("query_lengths", query_lengths, (query.shape[-2],))
    columns = _ready_lengths("prototype_lengths", prototype_lengths, (prototypes.shape[-2],))
    if not _is_native(query):
        twin = _match_twin(metric, lam, rows, columns)
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


# --- checks, fakes and registration ---------------------------------------------------------------


def _check_features(
    query: Tensor, prototypes: Tensor, rows: Tensor | None, columns: Tensor | None
) -> None:
    checks.check_features(query, prototypes, rows, columns)
    if prototypes.device != query.device:
        raise RuntimeError(
            f"prototypes must be on {query.device} as query is, got {prototypes.device}"
        )


# The last arguments of an op are its lengths, whatever options stand before them.


def _fake_align(distances: Tensor, *rest: Any) -> Tensor:
    checks.check_distances(distances, rest[-1])
    return distances.new_empty(distances.shape[:-2], dtype=_result_dtype(distances))


def _fake_align_backward(grad: Tensor, distances: Tensor, *rest: Any) -> Tensor:
    checks.check_distances(distances, rest[-1])
    checks.check_gradient(grad, distances.shape[:-2])
    return distances.new_empty(distances.shape, dtype=_result_dtype(distances))


def _fake_match(query: Tensor, prototypes: Tensor, *rest: Any) -> Tensor:
    _check_features(query, prototypes, *rest[-2:])
    shape = (*query.shape[:-2], prototypes.shape[-3])
    return query.new_empty(shape, dtype=_result_dtype(query))


def _fake_match_backward(
    grad: Tensor, query: Tensor, prototypes: Tensor, *rest: Any
) -> tuple[Tensor, Tensor]:
    _check_features(query, prototypes, *rest[-2:])
    checks.check_gradient(grad, (*query.shape[:-2], prototypes.shape[-3]))
    dtype = _result_dtype(query)
    grad_query = query.new_empty(query.shape, dtype=dtype)
    return grad_query, prototypes.new_empty(prototypes.shape, dtype=dtype)


def _register(
    name: str, arguments: str, result: str, kernel: Callable[..., Any], fake: Callable[..., Any]
) -> None:
    _library.define(f"{name}({arguments}) -> {result}")
    _library.impl(name, kernel, "CompositeExplicitAutograd")
    torch.library.register_fake(f"mafsar::{name}", fake, lib=_library)


_OTAM = "Tensor distances, float lam, bool bidirectional, Tensor? lengths"
_register("otam", _OTAM, "Tensor", lambda *a: _align("otam", *a), _fake_align)
_register(
    "otam_backward",
    f"Tensor grad, {_OTAM}",
    "Tensor",
    lambda *a: _align_backward("otam", *a),
    _fake_align_backward,
)
_BIMHM = "Tensor distances, Tensor? lengths"
_register(
    "bimhm", _BIMHM, "Tensor", lambda d, sizes: _align("bimhm", d, 1.0, True, sizes), _fake_align
)
_register(
    "bimhm_backward",
    f"Tensor grad, {_BIMHM}",
    "Tensor",
    lambda g, d, sizes: _align_backward("bimhm", g, d, 1.0, True, sizes),
    _fake_align_backward,
)
_VIDEOS = "Tensor query, Tensor prototypes"
_LENGTHS = "Tensor? query_lengths, Tensor? prototype_lengths"
_register(
    "otam_match",
    f"{_VIDEOS}, float lam, {_LENGTHS}",
    "Tensor",
    lambda *a: _match("otam", *a),
    _fake_match,
)
_register(
    "otam_match_backward",
    f"Tensor grad, {_VIDEOS}, float lam, {_LENGTHS}",
    "(Tensor, Tensor)",
    lambda *a: _match_backward("otam", *a),
    _fake_match_backward,
)
_register(
    "bimhm_match",
    f"{_VIDEOS}, {_LENGTHS}",
    "Tensor",
    lambda q, s, *sizes: _match("bimhm", q, s, 1.0, *sizes),
    _fake_match,
)
_register(
    "bimhm_match_backward",
    f"Tensor grad, {_VIDEOS}, {_LENGTHS}",
    "(Tensor, Tensor)",
    lambda g, q, s, *sizes: _match_backward("bimhm", g, q, s, 1.0, *sizes),
    _fake_match_backward,
)


# --- gradients ------------------------------------------------------------------------------------


class _Once(torch.autograd.Function):
    """A backward op as a step that refuses to be differentiated, for create_graph=True."""

    @staticmethod
    def forward(ctx: Any, name: str, *inputs: Any) -> Any:
        ctx.name = name
        return getattr(_ops, f"{name}_backward")(*inputs)

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> Any:
        raise RuntimeError(
            f"{ctx.name} is differentiable once: its gradient has no gradient "
            "(pass float64 tensors for the twin, which can be differentiated again)"
        )


def _once(name: str, *inputs: Any) -> Any:
    """Run a backward op; where autograd records it, in a form that refuses a second derivative."""
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        return _Once.apply(name, *inputs)
    return getattr(_ops, f"{name}_backward")(*inputs)


class _Align(torch.autograd.Function):
    """An op on distances with its gradient."""

    @staticmethod
    def forward(
        ctx: Any, name: str, distances: Tensor, lengths: Tensor | None, *options: Any
    ) -> Tensor:
        ctx.save_for_backward(distances, lengths)
        ctx.name, ctx.options = name, options
        cost: Tensor = getattr(_ops, name)(distances, *options, lengths)
        return cost

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        distances, lengths = ctx.saved_tensors
        slope = _once(ctx.name, grad, distances, *ctx.options, lengths)
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
        cost: Tensor = getattr(_ops, name)(query, prototypes, *options, rows, columns)
        return cost

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, prototypes, rows, columns = ctx.saved_tensors
        slopes = _once(ctx.name, grad, query, prototypes, *ctx.options, rows, columns)
        return None, *slopes, None, None, *(None for _ in ctx.options)


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


def _as_lengths(lengths: Any) -> Tensor | None:
    """Left where they are: on a CPU they can be checked without waiting for a device."""
    return None if lengths is None else torch.as_tensor(lengths)


def _align_any(
    metric: str, distances: Tensor, lam: float, bidirectional: bool, lengths: Any
) -> Tensor:
    distances, sizes = _promoted("distances", distances), _as_lengths(lengths)
    if _takes_twin(distances):
        checks.check_distances(distances, sizes)
        checks.check_lam(lam)
        if not torch.compiler.is_compiling():
            sizes = _ready_lengths("lengths", sizes, (distances.shape[-2], distances.shape[-1]))
        return _align_twin(metric, lam, bidirectional, sizes)(distances)
    options = (lam, bidirectional) if metric == "otam" else ()
    if torch.is_grad_enabled() and distances.requires_grad:
        cost: Tensor = _Align.apply(metric, distances, sizes, *options)
    else:
        cost = getattr(_ops, metric)(distances, *options, sizes)
    return cost


def otam(distances: Tensor, lam: float, bidirectional: bool, lengths: Any) -> Tensor:
    """See `mafsar.kernels.otam`."""
    return _align_any("otam", distances, lam, bidirectional, lengths)


def bimhm(distances: Tensor, lengths: Any) -> Tensor:
    """See `mafsar.kernels.bimhm`."""
    return _align_any("bimhm", distances, 1.0, True, lengths)


def _match_any(
    metric: str, query: Tensor, prototypes: Tensor, lam: float, rows: Any, columns: Any
) -> Tensor:
    rows, columns = _as_lengths(rows), _as_lengths(columns)
    _check_features(query, prototypes, rows, columns)
    query, prototypes = _promoted("query", query), _promoted("prototypes", prototypes)
    if _takes_twin(query):
        checks.check_lam(lam)
        if not torch.compiler.is_compiling():
            rows = _ready_lengths("query_lengths", rows, (query.shape[-2],))
            columns = _ready_lengths("prototype_lengths", columns, (prototypes.shape[-2],))
        return _match_twin(metric, lam, rows, columns)(query, prototypes)
    name, options = f"{metric}_match", (lam,) if metric == "otam" else ()
    if torch.is_grad_enabled() and (query.requires_grad or prototypes.requires_grad):
        cost: Tensor = _Match.apply(name, query, prototypes, rows, columns, *options)
    else:
        cost = getattr(_ops, name)(query, prototypes, *options, rows, columns)
    return cost


def otam_match(query: Tensor, prototypes: Tensor, lam: float, rows: Any, columns: Any) -> Tensor:
    """See `mafsar.kernels.otam_match`."""
    return _match_any("otam", query, prototypes, lam, rows, columns)


def bimhm_match(query: Tensor, prototypes: Tensor, rows: Any, columns: Any) -> Tensor:
    """See `mafsar.kernels.bimhm_match`."""
    return _match_any("bimhm", query, prototypes, 1.0, rows, columns)


def mean_match(query: Tensor, prototypes: Tensor) -> Tensor:
    """See `mafsar.kernels.mean_match`."""
    _check_features(query, prototypes, None, None)
    return reference.mean_match(_promoted("query", query), _promoted("prototypes", prototypes))


def frame_distances(query: Tensor, prototypes: Tensor) -> Tensor:
    """See `mafsar.kernels.frame_distances`."""
    _check_features(query, prototypes, None, None)
    return reference.frame_distances(_promoted("query", query), _promoted("prototypes", prototypes))
