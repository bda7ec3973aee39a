"""The GPU's kernel bodies on the CPU (csrc/tests/emulated.cpp): build, load, call with tensors.

Inputs and outputs have margins of NaN: reading outside shows in a result, writing outside in a
margin. Every call runs under three orders of the threads, which must give the same bits: a missing
barrier shows there.
"""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

CSRC = Path(__file__).parents[2] / "csrc"
STORAGES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
METRICS = {"otam": 0, "bimhm": 1}  # enum class Metric, csrc/mafsar/alignment.h
ORDERS = (0, 1, 2)
MARGIN = 64


def build(compiler: str, folder: Path) -> Emulated:
    """Compile the bodies with plain C++17, warnings as errors."""
    library = folder / "libemulated.so"
    flags = ["-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    includes = [f"-I{CSRC}", f"-I{CSRC / 'tests'}"]
    source = str(CSRC / "tests" / "emulated.cpp")
    command = [compiler, *flags, *includes, source, "-o", str(library)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return Emulated(ctypes.CDLL(str(library)))


def in_margins(tensor: Tensor) -> Tensor:
    """A copy between margins of NaN (of -7 for whole numbers)."""
    filler = -7 if tensor.dtype == torch.int64 else float("nan")
    buffer = torch.full((tensor.numel() + 2 * MARGIN,), filler, dtype=tensor.dtype)
    inside = buffer[MARGIN : MARGIN + tensor.numel()].view(tensor.shape)
    inside.copy_(tensor)
    return inside


def margins_are_whole(inside: Tensor) -> bool:
    """True if nothing was written outside an output."""
    storage = torch.empty(0, dtype=inside.dtype).set_(inside.untyped_storage())
    return bool(storage[:MARGIN].isnan().all() and storage[-MARGIN:].isnan().all())


def _pointer(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


class Emulated:
    """The bodies as functions of tensors."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self.module = FakeCuda(library)

    def _run(
        self, name: str, outs: Sequence[tuple[tuple[int, ...], torch.dtype]], call: Any
    ) -> list[Tensor]:
        """Runs call(function, order, pointers to outputs) under every order of the threads."""
        results: list[list[Tensor]] = []
        for order in ORDERS:
            out = [in_margins(torch.full(s, float("nan"), dtype=d)) for s, d in outs]
            status = call(getattr(self._library, name), order, *(_pointer(o) for o in out))
            assert status != 1, f"{name}: threads waited at different barriers"
            assert status == 0, f"{name}: no form fits"
            assert all(margins_are_whole(o) for o in out), f"{name} wrote outside its output"
            results.append([o.clone() for o in out])
        for other in results[1:]:
            for a, b in zip(results[0], other, strict=True):
                assert torch.equal(a.nan_to_num(7.0), b.nan_to_num(7.0)), f"{name} has a race"
        return results[0]

    def norm(self, x: Tensor, weight: Tensor, bias: Tensor, *, grad: Any = None) -> Tensor:
        keep = [None if t is None else in_margins(t) for t in (grad, grad, x, weight, bias)]

        def call(function: Callable[..., int], order: int, out: Any) -> int:
            rows, width = x.shape
            sizes = (ctypes.c_int64(rows), width, ctypes.c_float(1e-5))
            return function(STORAGES[x.dtype], order, *map(_pointer, keep), *sizes, out)

        return self._run("norm", [(tuple(x.shape), x.dtype)], call)[0]

    def attend(self, qkv: Tensor, heads: int, *, grad: Tensor | None = None) -> Tensor:
        clips, frames, triple = qkv.shape
        width = triple // 3
        keep = [None if t is None else in_margins(t) for t in (grad, qkv)]
        shape = (clips, frames, width if grad is None else triple)

        def call(function: Callable[..., int], order: int, out: Any) -> int:
            sizes = (ctypes.c_int64(clips), frames, heads, width)
            return function(STORAGES[qkv.dtype], order, *map(_pointer, keep), *sizes, out)

        return self._run("attend", [(shape, qkv.dtype)], call)[0]

    def gelu(self, x: Tensor, *, grad: Tensor | None = None) -> Tensor:
        keep = [None if t is None else in_margins(t) for t in (grad, x)]

        def call(function: Callable[..., int], order: int, out: Any) -> int:
            count = ctypes.c_int64(x.numel())
            return function(STORAGES[x.dtype], order, *map(_pointer, keep), count, out)

        return self._run("gelu", [(tuple(x.shape), x.dtype)], call)[0]

    def product(self, a: Tensor, b: Tensor, **options: Any) -> list[Tensor]:
        """a (rows, depth), b (columns, depth), transposed views allowed; see device/product.h.

        `form` is "any", "streamed" or "deep"; without it, the product chooses.
        """
        form = options.get("form")
        kind = -1 if form is None else ("any", "streamed", "deep").index(form)
        kinds = {"nothing": 0, "norm": 1, "gelu": 2}
        rest = [options.get(n) for n in ("norm_weight", "norm_bias", "bias", "skip", "hidden")]
        placed = [_placed(t) for t in (a, b)]
        norm_weight, norm_bias, bias, skip, hidden = (
            None if t is None else in_margins(t) for t in rest
        )
        strides = [s for t in placed for s in t.stride()]
        prepare = [kinds[options.get(n, "nothing")] for n in ("prepare_a", "prepare_b")]
        numbers = [a.shape[0], b.shape[0], a.shape[1], *strides, *prepare]
        shape = (ctypes.c_int * len(numbers))(*numbers)

        def call(function: Callable[..., int], order: int, out: Any, sums: Any = None) -> int:
            return function(
                STORAGES[a.dtype],
                order,
                *map(_pointer, (*placed, norm_weight, norm_bias)),
                ctypes.c_float(1e-5),
                *map(_pointer, (bias, skip, hidden)),
                shape,
                kind,
                out,
                sums,
            )

        outs = [((a.shape[0], b.shape[0]), a.dtype)]
        if options.get("sums"):
            outs.append(((a.shape[0],), a.dtype))
        return self._run("product", outs, call)

    def align(
        self,
        distances: Tensor,
        lam: float | None,
        *,
        bidirectional: bool = True,
        lengths: Tensor | None = None,
        grad: Tensor | None = None,
    ) -> Tensor:
        """OTAM, or Bi-MHM if `lam` is None, of distances (pairs, Tq, Ts)."""
        pairs, rows, columns = distances.shape
        keep = [None if t is None else in_margins(t) for t in (grad, distances, lengths)]
        shape = (pairs,) if grad is None else (pairs, rows, columns)

        def call(function: Callable[..., int], order: int, out: Any) -> int:
            how = (_metric_of(lam), ctypes.c_double(lam or 1.0), bidirectional)
            sizes = (ctypes.c_int64(pairs), rows, columns)
            return function(order, *how, *map(_pointer, keep), *sizes, out)

        return self._run("align", [(shape, torch.float32)], call)[0]

    def match(
        self,
        query: Tensor,
        prototypes: Tensor,
        lam: float | None,
        *,
        lengths: tuple[Tensor | None, Tensor | None] = (None, None),
        grad: Tensor | None = None,
        of_prototypes: bool = False,
        slices: int = 1,
    ) -> Tensor:
        """Scores of (B, Q, Tq, E) × (B, C, Ts, E); with `grad`, the gradient of one side."""
        batch, queries, classes = query.shape[0], query.shape[1], prototypes.shape[1]
        sides = [(query, lengths[0], classes), (prototypes, lengths[1], 1)]
        if of_prototypes:
            sides.reverse()
        (left, left_lengths, left_stride), (right, right_lengths, right_stride) = sides
        given = (grad, left, right, left_lengths, right_lengths)
        keep = [None if t is None else in_margins(t) for t in given]
        shape = (batch, queries, classes) if grad is None else (slices, *left.shape)

        def call(function: Callable[..., int], order: int, out: Any) -> int:
            how = (_metric_of(lam), ctypes.c_double(lam or 1.0))
            counts = [ctypes.c_int64(n) for n in (batch, left.shape[1], right.shape[1])]
            frames = (left.shape[2], right.shape[2], left.shape[3])
            strides = (ctypes.c_int64(left_stride), ctypes.c_int64(right_stride))
            return function(
                order, *how, *map(_pointer, keep), *counts, *frames, *strides, slices, out
            )

        return self._run("match", [(shape, torch.float32)], call)[0]


def _metric_of(lam: float | None) -> int:
    return METRICS["bimhm" if lam is None else "otam"]


def _placed(view: Tensor) -> Tensor:
    """The view's values between margins, with its strides."""
    if view.stride(-1) == 1 or view.shape[-1] == 1:
        return in_margins(view.contiguous())
    return in_margins(view.t().contiguous()).t()


class FakeCuda:
    """The native module's CUDA functions over the emulated bodies: addresses of CPU tensors."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self.slices: list[int] = []

    @staticmethod
    def _pointers(addresses: Sequence[int]) -> Any:
        return (ctypes.c_void_p * len(addresses))(*(a or None for a in addresses))

    def _call(self, name: str, *arguments: Any) -> None:
        assert getattr(self._library, name)(*arguments) == 0

    def cuda_shared_bytes_of_device(self, _index: int) -> int:
        return 227 * 1024

    def cuda_multiprocessors_of_device(self, _index: int) -> int:
        return 2

    def cuda_match_blocks(self, batch: int, videos: int, frames: int) -> int:
        return batch * -(-videos // max(1, min(8, 32 // frames)))

    def cuda_match_steps(self, videos: int, frames: int) -> int:
        return -(-videos // max(1, min(8, 64 // frames)))

    def cuda_match_shared_bytes(self, _rows: int, _columns: int) -> int:
        return 67348

    def cuda_align_shared_bytes(self, _rows: int, _columns: int) -> int:
        return 66580

    def cuda_align(self, metric: str, grad: int, *rest: Any) -> None:
        distances, lengths, pairs, rows, columns, lam, bidirectional, out, _stream = rest
        how = (0, METRICS[metric], ctypes.c_double(lam), bidirectional)
        places = map(ctypes.c_void_p, (grad or None, distances, lengths or None))
        sizes = (ctypes.c_int64(pairs), rows, columns)
        self._call("align", *how, *places, *sizes, ctypes.c_void_p(out))

    def cuda_match(self, metric: str, grad: int, *rest: Any) -> None:
        own, other, own_lengths, other_lengths, batch, videos, others, *rest = rest  # type: ignore[assignment]
        frames, other_frames, width, own_stride, other_stride, lam, slices, out, _stream = rest
        self.slices.append(slices)
        places = (grad or None, own, other, own_lengths or None, other_lengths or None)
        self._call(
            "match",
            *(0, METRICS[metric], ctypes.c_double(lam)),
            *map(ctypes.c_void_p, places),
            *map(ctypes.c_int64, (batch, videos, others)),
            *(frames, other_frames, width),
            *map(ctypes.c_int64, (own_stride, other_stride)),
            slices,
            ctypes.c_void_p(out),
        )

    def _adapter(
        self, storage: int, grad: int, c: int, weights: Any, kept: Any, *rest: Any
    ) -> None:
        *sizes, eps, scratch, grads, out = rest
        self._call(
            "adapter",
            *(storage, 0, ctypes.c_void_p(grad or None), ctypes.c_void_p(c)),
            *(self._pointers(weights), self._pointers(kept)),
            (ctypes.c_int * 6)(*sizes),
            ctypes.c_float(eps),
            *(self._pointers(scratch), self._pointers(grads), ctypes.c_void_p(out or None)),
        )

    def cuda_adapter_forward(self, storage: int, c: int, weights: Any, *rest: Any) -> None:
        *sizes, eps, kept, out, _stream = rest
        self._adapter(storage, 0, c, weights, kept, *sizes, 0, eps, (), (), out)

    def cuda_adapter_backward(self, storage: int, grad: int, c: int, *rest: Any) -> None:
        weights, kept, *sizes, eps, depth, scratch, grads, _stream = rest
        self._adapter(storage, grad, c, weights, kept, *sizes, depth, eps, scratch, grads, 0)

    def cuda_norm(self, storage: int, *rest: Any) -> None:
        *places, rows, width, eps, out, _stream = rest
        pointers = (ctypes.c_void_p(p or None) for p in places)
        sizes = (ctypes.c_int64(rows), width, ctypes.c_float(eps))
        self._call("norm", storage, 0, *pointers, *sizes, ctypes.c_void_p(out))

    def cuda_attend(self, storage: int, grad: int, qkv: int, *rest: Any) -> None:
        clips, frames, heads, width, out, _stream = rest
        places = (ctypes.c_void_p(grad or None), ctypes.c_void_p(qkv))
        sizes = (ctypes.c_int64(clips), frames, heads, width)
        self._call("attend", storage, 0, *places, *sizes, ctypes.c_void_p(out))

    def cuda_gelu(
        self, storage: int, grad: int, x: int, count: int, out: int, _stream: int
    ) -> None:
        places = (ctypes.c_void_p(grad or None), ctypes.c_void_p(x))
        self._call("gelu", storage, 0, *places, ctypes.c_int64(count), ctypes.c_void_p(out))
