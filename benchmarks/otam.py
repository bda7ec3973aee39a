"""How fast is native OTAM against two ways of writing it in torch?

Sides: (a) the field's form, a double loop over cells of torch operations on all pairs at once, with
log-sum-exp written as log(exp(−a/λ) + exp(−b/λ)); (b) a good torch form, one step a row with both
directions stacked, the row's soft-min as a cumulative log-sum-exp over prefix sums; and ours, as
bare op calls and through autograd. All sides are compared with each other before they are timed.
Rounds alternate the sides; a figure is the median over the rounds of a round's fastest call.

    python benchmarks/otam.py [--rounds 5] [--threads 2] [--write]
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from mafsar import kernels

SIZES = ((5, 5), (25, 5), (25, 25), (1, 1000))  # queries × classes
FRAMES = 8
LAM = 0.5
RESULTS = Path(__file__).parent / "results"


def cell_by_cell(distances: Tensor) -> Tensor:
    """(a): one direction, a torch operation for each cell; distances (Q, C, Tq, Ts)."""
    padded = F.pad(distances, (1, 1))
    cost = torch.zeros(padded.shape)
    rows, columns = padded.shape[-2:]
    for m in range(1, columns):
        cost[..., 0, m] = padded[..., 0, m] + cost[..., 0, m - 1]
    for row in range(1, rows):
        for m in range(1, columns):
            total = torch.exp(-cost[..., row - 1, m - 1] / LAM)
            total = total + torch.exp(-cost[..., row, m - 1] / LAM)
            if m in (1, columns - 1):
                total = total + torch.exp(-cost[..., row - 1, m] / LAM)
            cost[..., row, m] = padded[..., row, m] - LAM * torch.log(total)
    return cost[..., -1, -1]


def both_cell_by_cell(distances: Tensor) -> Tensor:
    """(a) in both directions."""
    return cell_by_cell(distances) + cell_by_cell(distances.transpose(-1, -2))


def row_by_row(distances: Tensor) -> Tensor:
    """(b): both directions stacked, one cumulative log-sum-exp a row; square distances.

    In units of λ, with P the prefix sums of a row: C[l, m] = P[m] − logcumsumexp_k(P[k−1] − C[l−1,
    k−1]), where the first entry counts twice (the zero to the left) and the two edge columns have
    the vertical step besides.
    """
    columns = distances.shape[-1]
    stacked = torch.stack((distances, distances.transpose(-1, -2))) / LAM  # (2, Q, C, T, T)
    sums = F.pad(stacked.cumsum(-1), (1, 0))  # P[0 … Ts]
    twice = torch.zeros(columns + 1)
    twice[0] = math.log(2.0)
    edges = torch.full((columns + 1,), -math.inf)
    edges[[0, -1]] = 0.0
    diagonal, vertical = (sums + twice).unbind(-2), (sums + edges).unbind(-2)
    ends = torch.cat((sums[..., 1:], sums[..., -1:]), dim=-1).unbind(-2)
    cost = F.pad(ends[0], (1, 0))  # row 0: plain sums
    for row in range(1, distances.shape[-2]):
        ways = torch.logaddexp(diagonal[row] - cost[..., :-1], vertical[row] - cost[..., 1:])
        cost = F.pad(ends[row] - torch.logcumsumexp(ways, -1), (1, 0))
    return cost[..., -1].sum(0) * LAM


def autograd(function: Callable[[Tensor], Tensor], distances: Tensor, grad: Tensor) -> Tensor:
    """Gradient of a side through autograd."""
    leaf = distances.detach().requires_grad_()
    return torch.autograd.grad(function(leaf), leaf, grad)[0]


def two_ops(distances: Tensor, grad: Tensor) -> Tensor:
    """Ours without autograd: the forward op and the backward op."""
    torch.ops.mafsar.otam(distances, LAM, True, None)
    return torch.ops.mafsar.otam_backward(grad, distances, LAM, True, None)


def ours(distances: Tensor) -> Tensor:
    """Ours as users call it."""
    return kernels.otam(distances, LAM)


def fastest_us(side: Callable[[], object], seconds: float) -> float:
    """Fastest call in µs, over about `seconds` of calls: what other processes take is left out."""
    side()
    best = math.inf
    calls, end = 0, time.perf_counter() + seconds
    while calls < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        side()
        best = min(best, time.perf_counter() - start)
        calls += 1
    return best * 1e6


def agree(distances: Tensor, grad: Tensor) -> None:
    """All sides must give one answer, or their times mean nothing."""
    truth = both_cell_by_cell(distances.double())
    slope = autograd(both_cell_by_cell, distances, grad)
    for name, side in (("rows", row_by_row), ("ours", ours)):
        torch.testing.assert_close(side(distances), truth.float(), rtol=1e-5, atol=2e-5)
        torch.testing.assert_close(
            autograd(side, distances, grad),
            slope,
            rtol=1e-4,
            atol=2e-5,
            msg=lambda m, n=name: n + m,
        )
    torch.testing.assert_close(two_ops(distances, grad), slope, rtol=1e-4, atol=2e-5)


def measure(queries: int, classes: int, rounds: int, seconds: float) -> dict[str, float]:
    """µs of every side at one size, the sides alternated round by round."""
    generator = torch.Generator().manual_seed(0)
    distances = 2.0 * torch.rand(queries, classes, FRAMES, FRAMES, generator=generator)
    grad = torch.randn(queries, classes, generator=generator)
    agree(distances, grad)
    sides: dict[str, Callable[[], object]] = {
        "forward a": lambda: both_cell_by_cell(distances),
        "forward b": lambda: row_by_row(distances),
        "forward ours": lambda: ours(distances),
        "both a": lambda: autograd(both_cell_by_cell, distances, grad),
        "both b": lambda: autograd(row_by_row, distances, grad),
        "both ours, ops": lambda: two_ops(distances, grad),
        "both ours, autograd": lambda: autograd(ours, distances, grad),
    }
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            times[name].append(fastest_us(side, seconds))
    return {name: statistics.median(values) for name, values in times.items()}


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith(("model name", "Model")):
                model = line.partition(":")[2].strip()
                break
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "kernels": kernels.status()[0].detail,
        "torch": torch.__version__,
        "torch_threads": torch.get_num_threads(),
        "load_average": round(os.getloadavg()[0], 2),
    }


def table(results: dict[str, dict[str, float]]) -> str:
    """The Markdown table: milliseconds of the torch sides, µs of ours, and the ratios."""
    lines = [
        "| queries × classes of 8×8 | (a) ms | (b) ms | ours µs | a / ours | b / ours |",
        "|---|---|---|---|---|---|",
    ]
    for title, prefix, mine in (
        ("forward", "forward", "forward ours"),
        ("forward + backward, op calls", "both", "both ours, ops"),
        ("forward + backward, autograd", "both", "both ours, autograd"),
    ):
        for size, times in results.items():
            a, b, own = times[f"{prefix} a"], times[f"{prefix} b"], times[mine]
            lines.append(
                f"| {title}, {size} | {a / 1e3:.2f} | {b / 1e3:.3f} | {own:.1f} "
                f"| {a / own:.0f}× | {b / own:.1f}× |"
            )
    return "\n".join(lines)


def main() -> None:
    """Measure, print the table, and keep it with --write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.4, help="of calls, a side and round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--write", action="store_true", help=f"keep the table in {RESULTS.name}/")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    kernels.set_num_threads(options.threads)
    facts = machine()
    results = {
        f"{queries}×{classes}": measure(queries, classes, options.rounds, options.seconds)
        for queries, classes in SIZES
    }
    text = "\n".join(f"- {key}: {value}" for key, value in facts.items())
    text = f"# OTAM, both directions, λ = {LAM}\n\n{text}\n\n{table(results)}\n"
    print(text)
    if options.write:
        RESULTS.mkdir(exist_ok=True)
        slug = "-".join(
            "".join(c if c.isalnum() else " " for c in str(facts["cpu"])).lower().split()
        )
        stem = RESULTS / f"otam-{slug}"
        stem.with_suffix(".md").write_text(text, encoding="utf-8")
        record = {"machine": facts, "microseconds": results}
        stem.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
