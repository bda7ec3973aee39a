"""The matching ops on CUDA tensors, where the native module was built with CUDA.

Registered for the CUDA dispatch key, beside the general kernels of `mafsar.kernels.torch_ops.matching`, with the
same checks. Nothing here waits for the device: lengths that lie on it are not looked at, and those
outside 1 … T count as the nearest in it. What no kernel takes (float64, more than 64 frames, a
device with too little shared memory) goes to the twin, with one line in the log.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from mafsar.kernels import checks
from mafsar.kernels.dispatch import has_cuda, log_once, native
from mafsar.kernels.torch_ops import matching as ops

MOST_FRAMES = 64
# Blocks for each multiprocessor that a backward pass asks for before it stops cutting its walk.
BLOCKS_EACH = 2


def stream_of(tensor: Tensor) -> int:
    """The stream that the caller enqueues on."""
    return int(torch.cuda.current_stream(tensor.device).cuda_stream)


@functools.cache
def _shared_bytes(index: int) -> int:
    return int(native().cuda_shared_bytes_of_device(index))


@functools.cache
def _multiprocessors(index: int) -> int:
    return int(native().cuda_multiprocessors_of_device(index))


def _fits(tensor: Tensor, rows: int, columns: int, shared_bytes: Any) -> bool:
    """True where a kernel takes these frames on this device; says once why not."""
    if tensor.dtype == torch.float64:
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
    """Contiguous int64 lengths on the device; checked where that costs no wait."""
    if lengths is None:
        return None
    if lengths.is_cpu:
        lengths = ops._ready_lengths(name, lengths, frames)
        assert lengths is not None
    # From pageable memory the copy is staged before this returns, and the host does not wait for it.
    return lengths.to(like.device, torch.int64, non_blocking=True).contiguous()


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def _run_align(
    metric: str,
    grad: Tensor | None,
    distances: Tensor,
    lam: float,
    bidirectional: bool,
    lengths: Tensor | None,
) -> Tensor:
    ready = ops._ready(distances)
    ready_grad = None if grad is None else ops._ready(grad)
    *lead, rows, columns = ready.shape
    sizes = _lengths("lengths", lengths, ready, (rows, columns))
    out = ready.new_empty(lead if grad is None else ready.shape)
    pairs = ready.numel() // (rows * columns)
    with torch.cuda.device(ready.device):
        native().cuda_align(
            metric,
            _address(ready_grad),
            ready.data_ptr(),
            _address(sizes),
            pairs,
            rows,
            columns,
            lam,
            bidirectional,
            out.data_ptr(),
            stream_of(ready),
        )
    return out


def _align(
    metric: str, distances: Tensor, lam: float, bidirectional: bool, lengths: Tensor | None
) -> Tensor:
    checks.check_distances(distances, lengths)
    checks.check_lam(lam)
    rows, columns = distances.shape[-2:]
    if not _fits(distances, rows, columns, native().cuda_align_shared_bytes):
        return ops._align(metric, distances, lam, bidirectional, lengths)
    return _run_align(metric, None, distances, lam, bidirectional, lengths)


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
    if not _fits(distances, rows, columns, native().cuda_align_shared_bytes):
        return ops._align_backward(metric, grad, distances, lam, bidirectional, lengths)
    return _run_align(metric, grad, distances, lam, bidirectional, lengths)


def _run_match(
    metric: str,
    grad: Tensor | None,
    own: Tensor,
    other: Tensor,
    own_lengths: Tensor | None,
    other_lengths: Tensor | None,
    strides: tuple[int, int],
    lam: float,
) -> Tensor:
    """Scores, (..., own videos, other videos); with `grad`, the gradient of `own`."""
    batch, videos, others, frames, other_frames, width = ops._match_sizes(own, other)
    module, slices = native(), 1
    if grad is None:
        out = own.new_empty((*own.shape[:-2], others))
    else:
        blocks = max(1, module.cuda_match_blocks(batch, videos, frames))
        wanted = BLOCKS_EACH * _multiprocessors(own.device.index or 0)
        steps = max(1, module.cuda_match_steps(others, other_frames))
        slices = min(steps, -(-wanted // blocks))
        out = own.new_empty((slices, *own.shape))
    with torch.cuda.device(own.device):
        module.cuda_match(
            metric,
            _address(grad),
            own.data_ptr(),
            other.data_ptr(),
            _address(own_lengths),
            _address(other_lengths),
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


def _match(
    metric: str,
    query: Tensor,
    prototypes: Tensor,
    lam: float,
    query_lengths: Tensor | None,
    prototype_lengths: Tensor | None,
) -> Tensor:
    ops._check_features(query, prototypes, query_lengths, prototype_lengths)
    checks.check_lam(lam)
    rows, columns = query.shape[-2], prototypes.shape[-2]
    if not _fits(query, rows, columns, native().cuda_match_shared_bytes):
        return ops._match(metric, query, prototypes, lam, query_lengths, prototype_lengths)
    left, right = ops._ready(query), ops._ready(prototypes)
    own = _lengths("query_lengths", query_lengths, left, (rows,))
    other = _lengths("prototype_lengths", prototype_lengths, left, (columns,))
    return _run_match(metric, None, left, right, own, other, (right.shape[-3], 1), lam)


def _match_backward(
    metric: str,
    grad: Tensor,
    query: Tensor,
    prototypes: Tensor,
    lam: float,
    query_lengths: Tensor | None,
    prototype_lengths: Tensor | None,
) -> tuple[Tensor, Tensor]:
    ops._check_features(query, prototypes, query_lengths, prototype_lengths)
    checks.check_gradient(grad, (*query.shape[:-2], prototypes.shape[-3]))
    checks.check_lam(lam)
    rows, columns = query.shape[-2], prototypes.shape[-2]
    if not _fits(query, rows, columns, native().cuda_match_shared_bytes):
        return ops._match_backward(
            metric, grad, query, prototypes, lam, query_lengths, prototype_lengths
        )
    left, right, slope = ops._ready(query), ops._ready(prototypes), ops._ready(grad)
    own = _lengths("query_lengths", query_lengths, left, (rows,))
    other = _lengths("prototype_lengths", prototype_lengths, left, (columns,))
    classes = right.shape[-3]
    of_query = _run_match(metric, slope, left, right, own, other, (classes, 1), lam)
    of_prototypes = _run_match(metric, slope, right, left, other, own, (1, classes), lam)
    return of_query, of_prototypes


def _register() -> None:
    kernels: dict[str, Any] = {
        "otam": lambda *a: _align("otam", *a),
        "otam_backward": lambda *a: _align_backward("otam", *a),
        "bimhm": lambda d, sizes: _align("bimhm", d, 1.0, True, sizes),
        "bimhm_backward": lambda g, d, sizes: _align_backward("bimhm", g, d, 1.0, True, sizes),
        "otam_match": lambda *a: _match("otam", *a),
        "otam_match_backward": lambda *a: _match_backward("otam", *a),
        "bimhm_match": lambda q, s, *sizes: _match("bimhm", q, s, 1.0, *sizes),
        "bimhm_match_backward": lambda g, q, s, *sizes: _match_backward(
            "bimhm", g, q, s, 1.0, *sizes
        ),
    }
    for name, kernel in kernels.items():
        ops._library.impl(name, kernel, "CUDA")


if has_cuda():
    _register()
