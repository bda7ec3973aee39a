"""What one call of the temporal adapter costs besides its arithmetic: the Python of a call, in µs.

    python benchmarks/adapter_call.py [--rounds 15] [--write]

The native function is replaced by one that does nothing, so that checks, allocations, addresses and
autograd are left. Figures are processor time of the thread, the fastest of several rounds, so that
other processes count little. The target is ≤ 25 µs for a forward pass.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import torch
from busy_neighbour import cpu_name

from mafsar import kernels
from mafsar.kernels import dispatch
from mafsar.kernels.torch_ops import adapter, adapter_steps

TARGET = 25.0
MISSED = 3
"""Exit status where the target is missed: 1 is that of an error."""
OUT = Path(__file__).parent / "results" / "adapter_call_cpu.json"
CLIPS, FRAMES, WIDTH, HEADS, HIDDEN = 1, 8, 768, 12, 192


class Nothing:
    """The native module with its whole passes left out."""

    def __init__(self, module: object) -> None:
        self._module = module

    def __getattr__(self, name: str) -> object:
        return getattr(self._module, name)

    def adapter_forward(self, *_: object) -> None:
        """In place of a forward pass."""

    def adapter_backward(self, *_: object) -> None:
        """In place of a backward pass."""


def fastest(call: Callable[[], object], rounds: int, calls: int = 300) -> float:
    """µs of processor time of one call."""
    call()
    times = []
    for _ in range(rounds):
        begin = time.thread_time_ns()
        for _ in range(calls):
            call()
        times.append((time.thread_time_ns() - begin) / calls / 1e3)
    return min(times)


def measure(rounds: int) -> dict[str, float]:
    """Each way to call → µs."""
    torch.set_num_threads(1)
    shapes: list[tuple[int, ...]] = [
        *((CLIPS, FRAMES, WIDTH), (WIDTH,), (WIDTH,), (3 * WIDTH, WIDTH), (3 * WIDTH,)),
        *((WIDTH, WIDTH), (WIDTH,), (HIDDEN, WIDTH), (HIDDEN,), (WIDTH, HIDDEN), (WIDTH,)),
    ]
    c, *weights = (torch.randn(shape) for shape in shapes)
    frozen = [torch.nn.Parameter(w, requires_grad=i >= 6) for i, w in enumerate(weights)]
    leaf = c.clone().requires_grad_()
    asked = [leaf, *frozen[6:]]
    grad = torch.ones_like(c)

    def forward() -> torch.Tensor:
        return kernels.temporal_adapter(leaf, *frozen, heads=HEADS)

    module = Nothing(dispatch.native())

    def native() -> Nothing:  # not a Mock, whose call takes ten microseconds
        return module

    with (
        mock.patch.object(adapter, "native", native),
        mock.patch.object(adapter_steps, "native", native),
    ):
        with torch.no_grad():
            plain = fastest(forward, rounds)
        recorded = fastest(forward, rounds)
        both = fastest(lambda: torch.autograd.grad(forward(), asked, grad), rounds)
        engine = fastest(lambda: torch.autograd.grad(leaf + 1.0, leaf, grad), rounds)
        with torch.no_grad():
            op = fastest(
                lambda: torch.ops.mafsar.temporal_adapter(c, *weights, HEADS, 1e-5), rounds
            )
    return {
        "forward": plain,
        "forward, recorded": recorded,
        "forward + backward": both,
        "one addition, forward + backward": engine,
        "forward, by torch's dispatcher": op,
    }


def main() -> int:
    """Measure, print, and keep the figures with --write; `MISSED` if the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--write", action="store_true", help=f"keep the figures in {OUT.name}")
    options = parser.parse_args()
    gc.disable()
    found = measure(options.rounds)
    for name, value in found.items():
        print(f"{name:34} {value:6.1f} µs")
    late = [name for name in ("forward", "forward, recorded") if found[name] > TARGET]
    if options.write:
        figures = {name: round(value, 1) for name, value in found.items()}
        machine = {"processor": cpu_name(), "torch": torch.__version__}
        document = {"machine": machine, "target": TARGET, "microseconds": figures}
        OUT.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return MISSED if late else 0


if __name__ == "__main__":
    raise SystemExit(main())
