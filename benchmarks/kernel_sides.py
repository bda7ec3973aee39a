"""What benchmarks/kernels.py compares: every way to compute one thing, name → one call.

Sides are compared with each other before they are timed. `bytes` and operations are counted from
the sizes: every weight and token once a pass, two operations a product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mafsar import kernels
from mafsar.kernels import metrics, numpy_reference, reference
from mafsar.model import adapters, class_scores
from mafsar.model.config import named_config
from mafsar.model.network import build_network
from mafsar.training.precision import autocast

FRAMES, WIDTH, HEADS, HIDDEN, EMBED = 8, 768, 12, 192, 512
LAM = 0.5
ROTATING = 6  # sets of weights: more than a cache keeps, as the blocks of a network are
EPISODES = 10_000
GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if GPU else "cpu")
Side = Callable[[int], object]


def captured(side: Side) -> Side:
    """The side's work on its first inputs as a CUDA graph."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            side(0)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        side(0)
    return lambda _: graph.replay()


# --- the temporal adapter -------------------------------------------------------------------------


def eager(c: Tensor, *weights: Tensor) -> Tensor:
    """As the network's modules have it: q, k and v one by one, torch's fused attention."""
    norm_w, norm_b, qkv_w, qkv_b, out_w, out_b, down_w, down_b, up_w, up_b = weights
    normed = F.layer_norm(c, (WIDTH,), norm_w, norm_b)
    parts = [
        F.linear(normed, qkv_w[rows], qkv_b[rows]).unflatten(-1, (HEADS, -1)).transpose(1, 2)
        for rows in (slice(i * WIDTH, (i + 1) * WIDTH) for i in range(3))
    ]
    mixed = F.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2)
    hidden = F.gelu(F.linear(F.linear(mixed, out_w, out_b), down_w, down_b))
    return c + F.linear(hidden, up_w, up_b)


def twin(c: Tensor, *weights: Tensor) -> Tensor:
    """The specification."""
    return reference.temporal_adapter(c, *weights, HEADS)


def ours(c: Tensor, *weights: Tensor) -> Tensor:
    """The op as users call it."""
    return kernels.temporal_adapter(c, *weights, heads=HEADS)


def adapter_weights(dtype: torch.dtype) -> list[Tensor]:
    """Random weights, the last four tuned, the rest frozen."""
    shapes: list[tuple[int, ...]] = [
        *((WIDTH,), (WIDTH,), (3 * WIDTH, WIDTH), (3 * WIDTH,), (WIDTH, WIDTH), (WIDTH,)),
        *((HIDDEN, WIDTH), (HIDDEN,), (WIDTH, HIDDEN), (WIDTH,)),
    ]
    weights = [0.02 * torch.randn(shape, device=DEVICE) for shape in shapes]
    weights[0] += 1.0
    return [w.to(dtype).requires_grad_(i >= 6) for i, w in enumerate(weights)]


def unaligned(weights: list[Tensor]) -> list[Tensor]:
    """The same weights, two bytes off the alignment that the streamed products need."""
    moved = []
    for weight in weights:
        room = torch.empty(weight.numel() + 1, dtype=weight.dtype, device=weight.device)
        view = room[1:].view(weight.shape)
        moved.append(view.copy_(weight.detach()).requires_grad_(weight.requires_grad))
    return moved


def products_only(c: Tensor, grad: Tensor, weights: list[Tensor]) -> None:
    """The matrix products of both passes and nothing else: what no fusion can remove."""
    _, _, qkv_w, qkv_b, out_w, out_b, down_w, down_b, up_w, up_b = weights
    with torch.no_grad():
        x, g = c.view(-1, WIDTH), grad.view(-1, WIDTH)
        qkv = torch.addmm(qkv_b, x, qkv_w.t())
        attended = torch.addmm(out_b, x, out_w.t())
        hidden = torch.addmm(down_b, attended, down_w.t())
        torch.addmm(up_b, hidden, up_w.t())
        step = g.mm(up_w)
        g.t().mm(hidden)
        step.t().mm(attended)
        step.mm(down_w).mm(out_w)
        qkv.mm(qkv_w)


def adapter_sides(
    clips: int, dtype: torch.dtype, backward: bool, compile_too: bool
) -> dict[str, Side]:
    """Name → one call of a side, forward alone or with its backward."""
    sets = [adapter_weights(dtype) for _ in range(ROTATING)]
    tokens = [torch.randn(clips, FRAMES, WIDTH, device=DEVICE).to(dtype) for _ in range(ROTATING)]
    grad = torch.randn(clips, FRAMES, WIDTH, device=DEVICE).to(dtype)

    def side(function: Callable[..., Tensor], sets: list[list[Tensor]] = sets) -> Side:
        def call(number: int) -> object:
            weights, c = sets[number % ROTATING], tokens[number % ROTATING]
            if not backward:
                with torch.no_grad():
                    return function(c, *weights)
            leaf = c.detach().requires_grad_()
            return torch.autograd.grad(function(leaf, *weights), [leaf, *weights[6:]], grad)

        return call

    functions: dict[str, Callable[..., Tensor]] = {"eager": eager, "twin": twin, "ours": ours}
    agree_on_adapter({name: side(f)(0) for name, f in functions.items()}, dtype)
    sides = {name: side(function) for name, function in functions.items()}
    if compile_too:
        sides["compile"] = side(torch.compile(eager, dynamic=False))
        if GPU and not backward:
            sides["compile, reduce-overhead"] = side(
                torch.compile(eager, mode="reduce-overhead", dynamic=False)
            )
    if GPU:
        sides["eager, graph"] = captured(side(eager))
        sides["ours, graph"] = captured(side(ours))
        off = [unaligned(weights) for weights in sets]
        sides["ours, not streamed, graph"] = captured(side(ours, off))
    elif backward:
        sides["products only"] = lambda n: products_only(
            tokens[n % ROTATING], grad, sets[n % ROTATING]
        )
    return sides


def agree_on_adapter(results: dict[str, object], dtype: torch.dtype) -> None:
    """All sides must give one answer, or their times mean nothing."""
    step = 64 * torch.finfo(dtype).eps
    lists = {n: r if isinstance(r, tuple) else (r,) for n, r in results.items()}
    for name in ("eager", "ours"):
        for a, b in zip(lists[name], lists["twin"], strict=True):
            largest = float(b.abs().max())
            torch.testing.assert_close(a, b, rtol=0, atol=step * largest + 1e-6)


def adapter_counts(clips: int, size: int, backward: bool) -> tuple[float, float]:
    """(bytes, operations): every weight and token once a pass, two operations a product."""
    rows = clips * FRAMES
    weights = 4 * WIDTH * WIDTH + 2 * WIDTH * HIDDEN
    tokens = rows * (2 * WIDTH if not backward else 4 * WIDTH)
    moved = weights * (2 if backward else 1) + tokens + (2 * WIDTH * HIDDEN if backward else 0)
    operations = 2 * rows * weights * (2 if backward else 1)
    return moved * size, operations + (4 * rows * WIDTH * HIDDEN if backward else 0)


# --- matching -------------------------------------------------------------------------------------


def double_loop(query: Tensor, prototypes: Tensor) -> Tensor:
    """The field's way: both directions, a torch operation for each cell of all pairs."""

    def direction(distances: Tensor) -> Tensor:
        padded = F.pad(distances, (1, 1))
        rows, columns = padded.shape[-2:]
        zero = torch.zeros_like(padded[..., 0, 0])
        above = [zero]
        for m in range(1, columns):
            above.append(above[-1] + padded[..., 0, m])
        for row in range(1, rows):
            current = [zero]
            for m in range(1, columns):
                total = torch.exp(-above[m - 1] / LAM) + torch.exp(-current[m - 1] / LAM)
                if m in (1, columns - 1):
                    total = total + torch.exp(-above[m] / LAM)
                current.append(padded[..., row, m] - LAM * torch.log(total))
            above = current
        return above[-1]

    distances = reference.frame_distances(query, prototypes)
    return direction(distances) + direction(distances.transpose(-1, -2))


def row_steps(query: Tensor, prototypes: Tensor) -> Tensor:
    """A good torch form: one step a row, both directions stacked; see benchmarks/otam.py."""
    distances = reference.frame_distances(query, prototypes)
    columns = distances.shape[-1]
    stacked = torch.stack((distances, distances.transpose(-1, -2))) / LAM
    sums = F.pad(stacked.cumsum(-1), (1, 0))
    twice = torch.zeros(columns + 1, device=query.device)
    twice[0] = float(np.log(2.0))
    edges = torch.full((columns + 1,), -float("inf"), device=query.device)
    edges[0] = edges[-1] = 0.0
    diagonal, vertical = (sums + twice).unbind(-2), (sums + edges).unbind(-2)
    ends = torch.cat((sums[..., 1:], sums[..., -1:]), dim=-1).unbind(-2)
    cost = F.pad(ends[0], (1, 0))
    for row in range(1, distances.shape[-2]):
        ways = torch.logaddexp(diagonal[row] - cost[..., :-1], vertical[row] - cost[..., 1:])
        cost = F.pad(ends[row] - torch.logcumsumexp(ways, -1), (1, 0))
    return cost[..., -1].sum(0) * LAM


def match_sides(queries: int, classes: int) -> dict[str, Side]:
    """Forward and backward of all pairs, name → one call."""
    inputs = [
        [torch.randn(n, FRAMES, EMBED, device=DEVICE) for n in (queries, classes)] for _ in range(2)
    ]
    grad = torch.randn(queries, classes, device=DEVICE)

    def side(function: Callable[[Tensor, Tensor], Tensor]) -> Side:
        def call(number: int) -> object:
            leaves = [x.detach().requires_grad_() for x in inputs[number % 2]]
            return torch.autograd.grad(function(*leaves), leaves, grad)

        return call

    functions = {
        "double loop": double_loop,
        "row steps": row_steps,
        "ours": lambda q, s: kernels.otam_match(q, s, LAM),
    }
    results = [side(f)(0) for f in functions.values()]
    for result in results[:-1]:
        for a, b in zip(results[-1], result, strict=True):  # type: ignore[call-overload]
            torch.testing.assert_close(a, b, rtol=0, atol=1e-4 * float(b.abs().max()) + 1e-6)
    sides = {name: side(function) for name, function in functions.items()}
    if GPU:
        sides["ours, graph"] = captured(sides["ours"])
    return sides


def match_counts(queries: int, classes: int) -> tuple[float, float]:
    """(bytes, operations) of forward and backward: features in, gradients out; three products."""
    videos = (queries + classes) * FRAMES * EMBED * 4
    return 3 * videos, 3 * 2 * queries * classes * FRAMES * FRAMES * EMBED


# --- whole programs -------------------------------------------------------------------------------


@contextmanager
def without_kernels() -> Iterator[None]:
    """The network and the matching as plain torch: eager modules, twins.

    Within autocast, torch casts each of their products, as it does for any user's network.
    """

    def modules(c: Tensor, *weights: Tensor, heads: int, eps: float) -> Tensor:
        del eps
        normed = F.layer_norm(c, c.shape[-1:], *weights[:2])
        width = c.shape[-1]
        parts = [
            F.linear(normed, weights[2][i * width : (i + 1) * width], weights[3][i * width : (i + 1) * width])
            .unflatten(-1, (heads, -1))
            .transpose(1, 2)
            for i in range(3)
        ]  # fmt: skip
        mixed = F.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2)
        hidden = F.gelu(F.linear(F.linear(mixed, *weights[4:6]), *weights[6:8]))
        return c + F.linear(hidden, *weights[8:])

    with (
        mock.patch.object(adapters, "temporal_adapter", modules),
        mock.patch.object(metrics, "otam_match", reference.otam_match),
    ):
        yield


def whole_sides(name: str) -> dict[str, tuple[Side, Side]]:
    """Program → (kernels on, kernels off)."""
    network = build_network(named_config(name)).to(DEVICE)
    config = network.config
    side = config.vision.image_size
    shape = (10, config.frames, side, side, 3)
    frames = torch.randint(0, 256, shape, dtype=torch.uint8, device=DEVICE)
    text = torch.randn(5, config.embed_dim, device=DEVICE)
    labels = torch.arange(5, device=DEVICE)
    optimiser = torch.optim.AdamW(list(network.tunable_parameters().values()), lr=1e-5)

    def step(_: int) -> object:
        # As `mafsar.training` runs an episode: the network in the run's default precision, the
        # scores in float32.
        with autocast("auto", DEVICE.type):
            support, _pooled = network.encode_support(frames[:5], text)
            query, pooled = network.encode_query(frames[5:])
        scores = class_scores.class_scores(
            query.float(), support.float(), config.match, pooled=pooled.float(), text=text
        )
        optimiser.zero_grad()
        nn.functional.cross_entropy(scores.visual_logits, labels).backward()
        optimiser.step()
        return None

    episodes = torch.randn(2, 250, 5, FRAMES, EMBED, device=DEVICE)

    def evaluate(match: Callable[[Tensor, Tensor], Tensor]) -> Side:
        def call(_: int) -> object:
            with torch.no_grad():
                for _batch in range(EPISODES // 250):
                    match(*episodes).argmin(-1)
            return None

        return call

    bank = np.random.default_rng(0).standard_normal((1, 5, config.frames, config.embed_dim))
    bank = bank.astype(np.float32)

    def one_match(match: Callable[..., object]) -> Side:
        def call(_: int) -> object:
            with torch.no_grad():
                features, _pooled = network.encode_query(frames[:1])
            return match(features[None].float().cpu().numpy(), bank)

        return call

    def off(side: Side) -> Side:
        def call(number: int) -> object:
            with without_kernels():
                return side(number)

        return call

    plain = one_match(lambda q, s: numpy_reference.match("otam", q, s, LAM, None, None))
    return {
        f"training step, {name}, 5-way 1-shot": (step, off(step)),
        f"{EPISODES} episodes of 5 × 5": (
            evaluate(lambda q, s: kernels.otam_match(q, s, LAM)),
            evaluate(lambda q, s: reference.otam_match(q, s, LAM)),
        ),
        f"one match, {name}, 5 classes": (one_match(kernels.otam_match), off(plain)),
    }
