"""The matching ops on CUDA tensors, for a native module that was built with CUDA.

The kernels here are registered for the CUDA dispatch key, next to the general kernels of
`mafsar.kernels.torch_ops.matching`, with the same checks. Nothing waits for the device: lengths on
the device are not checked, and the kernels clamp them to 1 … T. Inputs that no kernel accepts
(float64, more than 64 frames, a device with too little shared memory or without code for its chip)
go to the twin, with one line in the log.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from mafsar.errors import UnavailableError
from mafsar.kernels import checks
from mafsar.kernels.checks import AlignmentMetric
from mafsar.kernels.dispatch import cuda_problem, has_cuda, log_once, native
from mafsar.kernels.torch_ops import matching
from mafsar.kernels.torch_ops.library import (
    LIBRARY,
    address,
    as_float32,
    checked_lengths,
    stream_of,
)

MOST_FRAMES = 64
# A backward pass is cut into slices until each multiprocessor has this number of blocks.
BLOCKS_PER_MULTIPROCESSOR = 2


@functools.cache
def _shared_bytes(index: int) -> int:
    return int(native().cuda_shared_bytes_of_device(index))


@functools.cache
def _multiprocessors(index: int) -> int:
    return int(native().cuda_multiprocessors_of_device(index))


def _fits(tensor: Tensor, rows: int, columns: int, shared_bytes: Any) -> bool:
    """True if a kernel accepts these frames on this device. Logs once why not."""
    if tensor.dtype == torch.float64 or cuda_problem(tensor.device.index or 0):
        return False
    frames = max(rows, columns)
    if frames > MOST_FRAMES:
        log_once(f"matching of more than {MOST_FRAMES} frames uses the torch twin, got {frames}")
        return False
    need, most = shared_bytes(rows, columns), _shared_bytes(tensor.device.index or 0)
    if need > most:
        log_once(
            f"matching of {rows} × {columns} frames uses the torch twin: it needs {need} bytes of "
            f"shared memory and {tensor.device} gives {most}"
        )
    return bool(need <= most)


def _lengths(name: str, lengths: Tensor | None, like: Tensor, frames: tuple[int, ...]) -> Any:
    """Contiguous int64 lengths on the device, checked if they come from the CPU."""
    if lengths is None:
        return None
    if lengths.is_cpu:
        if torch.cuda.is_current_stream_capturing():
            raise UnavailableError(
                f"{name}: lengths on the CPU cannot be recorded in a CUDA graph; "
                f"pass them on {like.device}"
            )
        lengths = checked_lengths(name, lengths, frames)
        assert lengths is not None
    # A copy from pageable memory is staged before this returns, so that the host need not wait; one
    # from pinned memory is not, and the caller may fill it again.
    return lengths.to(like.device, torch.int64, non_blocking=not lengths.is_pinned()).contiguous()


def _run_align(
    metric: AlignmentMetric,
    grad: Tensor | None,
    distances: Tensor,
    lam: float,
    bidirectional: bool,
    lengths: Tensor | None,
) -> Tensor:
    ready = as_float32(distances)
    ready_grad = None if grad is None else as_float32(grad)
    *lead, rows, columns = ready.shape
    sizes = _lengths("lengths", lengths, ready, (rows, columns))
    out = ready.new_empty(lead if grad is None else ready.shape)
    pairs = ready.numel() // (rows * columns)
    with torch.cuda.device(ready.device):
        native().cuda_align(
            metric,
            address(ready_grad),
            ready.data_ptr(),
            address(sizes),
            pairs,
            rows,
            columns,
            lam,
            bidirectional,
            out.data_ptr(),
            stream_of(ready),
        )
    return out


def align(
    metric: AlignmentMetric,
    distances: Tensor,
    lam: float,
    bidirectional: bool,
    lengths: Tensor | None,
) -> Tensor:
    """`matching.align` on CUDA tensors."""
    checks.check_metric(metric)
    checks.check_distances(distances, lengths)
    checks.check_lam(lam)
    rows, columns = distances.shape[-2:]
    if not _fits(distances, rows, columns, native().cuda_align_shared_bytes):
        return matching.align(metric, distances, lam, bidirectional, lengths)
    return _run_align(metric, None, distances, lam, bidirectional, lengths)


def align_backward(
    metric: AlignmentMetric,
    grad: Tensor,
    distances: Tensor,
    lam: float,
    bidirectional: bool,
    lengths: Tensor | None,
) -> Tensor:
    """`matching.align_backward` on CUDA tensors."""
    checks.check_metric(metric)
    checks.check_distances(distances, lengths)
    checks.check_gradient(grad, distances.shape[:-2])
    checks.check_lam(lam)
    rows, columns = distances.shape[-2:]
    if not _fits(distances, rows, columns, native().cuda_align_shared_bytes):
        return matching.align_backward(metric, grad, distances, lam, bidirectional, lengths)
    return _run_align(metric, grad, distances, lam, bidirectional, lengths)


def _run_match(
    metric: AlignmentMetric,
    grad: Tensor | None,
    own: Tensor,
    other: Tensor,
    own_lengths: Tensor | None,
    other_lengths: Tensor | None,
    strides: tuple[int, int],
    lam: float,
) -> Tensor:
    """Scores, (..., own videos, other videos), or with `grad` the gradient of `own`."""
    batch, videos, others, frames, other_frames, width = matching.match_sizes(own, other)
    module, slices = native(), 1
    if grad is None:
        out = own.new_empty((*own.shape[:-2], others))
    else:
        blocks = max(1, module.cuda_match_blocks(batch, videos, frames))
        wanted = BLOCKS_PER_MULTIPROCESSOR * _multiprocessors(own.device.index or 0)
        steps = max(1, module.cuda_match_steps(others, other_frames))
        slices = min(steps, -(-wanted // blocks))
        out = own.new_empty((slices, *own.shape))
    with torch.cuda.device(own.device):
        module.cuda_match(
            metric,
            address(grad),
            own.data_ptr(),
            other.data_ptr(),
            address(own_lengths),
            address(other_lengths),
            batch,
            videos,
            others,
            frames,
            other_frames,
            width,
            *strides,
            lam,
            slices,
            out.data_ptr(),
            stream_of(own),
        )
    if grad is None:
        return out
    return out[0] if slices == 1 else out.sum(0)


def match(
    metric: AlignmentMetric,
    query: Tensor,
    prototypes: Tensor,
    lam: float,
    query_lengths: Tensor | None,
    prototype_lengths: Tensor | None,
) -> Tensor:
    """`matching.match` on CUDA tensors."""
    checks.check_metric(metric)
    checks.check_tensor_features(query, prototypes, query_lengths, prototype_lengths)
    checks.check_lam(lam)
    rows, columns = query.shape[-2], prototypes.shape[-2]
    if not _fits(query, rows, columns, native().cuda_match_shared_bytes):
        return matching.match(metric, query, prototypes, lam, query_lengths, prototype_lengths)
    left, right = as_float32(query), as_float32(prototypes)
    own = _lengths("query_lengths", query_lengths, left, (rows,))
    other = _lengths("prototype_lengths", prototype_lengths, left, (columns,))
    return _run_match(metric, None, left, right, own, other, (right.shape[-3], 1), lam)


def match_backward(
    metric: AlignmentMetric,
    grad: Tensor,
    query: Tensor,
    prototypes: Tensor,
    lam: float,
    query_lengths: Tensor | None,
    prototype_lengths: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """`matching.match_backward` on CUDA tensors."""
    checks.check_metric(metric)
    checks.check_tensor_features(query, prototypes, query_lengths, prototype_lengths)
    checks.check_gradient(grad, (*query.shape[:-2], prototypes.shape[-3]))
    checks.check_lam(lam)
    rows, columns = query.shape[-2], prototypes.shape[-2]
    if not _fits(query, rows, columns, native().cuda_match_shared_bytes):
        return matching.match_backward(
            metric, grad, query, prototypes, lam, query_lengths, prototype_lengths
        )
    left, right, slope = as_float32(query), as_float32(prototypes), as_float32(grad)
    own = _lengths("query_lengths", query_lengths, left, (rows,))
    other = _lengths("prototype_lengths", prototype_lengths, left, (columns,))
    classes = right.shape[-3]
    of_query = _run_match(metric, slope, left, right, own, other, (classes, 1), lam)
    of_prototypes = _run_match(metric, slope, right, left, other, own, (1, classes), lam)
    return of_query, of_prototypes


def _register() -> None:
    kernels: dict[str, Any] = {
        "otam": lambda *a: align("otam", *a),
        "otam_backward": lambda *a: align_backward("otam", *a),
        "bimhm": lambda d, sizes: align("bimhm", d, 1.0, True, sizes),
        "bimhm_backward": lambda g, d, sizes: align_backward("bimhm", g, d, 1.0, True, sizes),
        "otam_match": lambda *a: match("otam", *a),
        "otam_match_backward": lambda *a: match_backward("otam", *a),
        "bimhm_match": lambda q, s, *sizes: match("bimhm", q, s, 1.0, *sizes),
        "bimhm_match_backward": lambda g, q, s, *sizes: match_backward(
            "bimhm", g, q, s, 1.0, *sizes
        ),
    }
    for name, kernel in kernels.items():
        LIBRARY.impl(name, kernel, "CUDA")


if has_cuda():
    _register()
