"""Calls every kernel once or twice on small inputs: what compute-sanitizer watches.

    compute-sanitizer --tool memcheck python benchmarks/gpu_kernel_calls.py

Each call runs forward and backward. Sizes are odd, so that tiles are padded, and the adapter runs in
each dtype, in every form of its products, both in one call and step by step: the sizes of ViT-B with 6
and 25 clips take the wide ones. `--device cpu` runs the same calls without a GPU.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

from mafsar import kernels

# clips, frames, heads, own, h: products of parts of vectors, deep and wide ones, single steps.
ADAPTERS = [
    *((2, 7, 3, 33, 7), (1, 8, 2, 32, 16), (70, 8, 2, 64, 32)),
    *((6, 8, 12, 64, 192), (13, 8, 12, 64, 192), (25, 8, 12, 64, 192)),
]
VIDEOS = [(3, 4, 8, 8, 33), (1, 30, 7, 9, 64)]  # queries, classes, frames of each, width


def slopes(out: Tensor, inputs: list[Tensor]) -> None:
    """Runs the backward pass; everything must be finite."""
    found = torch.autograd.grad(out.float().sum(), inputs)
    assert all(bool(torch.isfinite(each).all()) for each in (out, *found))


def matching(device: torch.device, generator: torch.Generator) -> int:
    """Calls of every matching kernel; returns how many."""
    calls = 0
    for queries, classes, rows, columns, width in VIDEOS:
        videos = [
            torch.randn(count, frames, width, generator=generator).to(device).requires_grad_()
            for count, frames in ((queries, rows), (classes, columns))
        ]
        lengths = torch.randint(1, rows + 1, (queries,), generator=generator).to(device)
        for match in (kernels.otam_match, kernels.bimhm_match):
            slopes(match(*videos), videos)
            slopes(match(*videos, query_lengths=lengths), videos)
            calls += 2
        distances = torch.rand(queries * 11, rows, columns, generator=generator).to(device)
        distances.requires_grad_()
        for align in (kernels.otam, kernels.bimhm):
            slopes(align(distances), [distances])
            calls += 1
    return calls


def adapter(device: torch.device, generator: torch.Generator) -> int:
    """Calls of the temporal adapter; returns how many."""
    calls = 0
    for clips, frames, heads, own, hidden in ADAPTERS:
        width = heads * own
        shapes: list[tuple[int, ...]] = [
            *((clips, frames, width), (width,), (width,), (3 * width, width), (3 * width,)),
            *((width, width), (width,), (hidden, width), (hidden,), (width, hidden), (width,)),
        ]
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            inputs = [
                (0.1 * torch.randn(shape, generator=generator)).to(device, dtype).requires_grad_()
                for shape in shapes
            ]
            slopes(kernels.temporal_adapter(*inputs, heads=heads), inputs)
            calls += 1
    return calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    device = torch.device(parser.parse_args().device)
    if device.type == "cuda":
        assert kernels.dispatch.has_cuda(), "the native module was built without CUDA"
        assert not kernels.dispatch.cuda_problem(0), kernels.dispatch.cuda_problem(0)
    generator = torch.Generator().manual_seed(0)
    calls = matching(device, generator) + adapter(device, generator)
    if device.type == "cuda":
        torch.cuda.synchronize()
    print(f"{calls} calls, forward and backward, on {device}")


if __name__ == "__main__":
    main()
