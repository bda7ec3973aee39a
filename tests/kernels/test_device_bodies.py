"""The GPU's kernel bodies, run on the CPU thread by thread, against float64.

These tests do not run the four calls of the matrix units (csrc/device/warp_tile.h) and the launchers
in csrc/cuda. tests/kernels/test_cuda.py runs them on a GPU.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mafsar import kernels
from mafsar.kernels import reference

EPS = {torch.float32: 2.0**-23, torch.float16: 2.0**-10, torch.bfloat16: 2.0**-7}


def near(got: Tensor, twin: Tensor, want: Tensor, dtype: torch.dtype) -> None:
    """Check that error ≤ 2 × the error of the twin of the same storage + 8·eps·(1 + largest)."""
    assert got.isfinite().all()
    error = (got.double() - want).abs().max().item() if want.numel() else 0.0
    twin_error = (twin.double() - want).abs().max().item() if want.numel() else 0.0
    largest = want.abs().max().item() if want.numel() else 0.0
    allowed = 2.0 * twin_error + 8.0 * EPS[dtype] * (1.0 + largest)
    assert error <= allowed, f"error {error:.3g}, allowed {allowed:.3g}"


def gradient(function: Any, x: Tensor, grad: Tensor) -> Tensor:
    leaf = x.detach().clone().requires_grad_()
    return torch.autograd.grad(function(leaf), leaf, grad.to(leaf.dtype))[0]


STORAGES = pytest.mark.parametrize("dtype", list(EPS), ids=str)


@STORAGES
@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (9, 97), (2, 768)])
def test_norm(bodies, generator, dtype, shape):
    width = shape[1]
    x = (torch.randn(shape, generator=generator) * 3 + 5).to(dtype)
    weight = torch.randn(width, generator=generator).to(dtype)
    bias = torch.randn(width, generator=generator).to(dtype)
    grad = torch.randn(shape, generator=generator).to(dtype)

    def norm(x: Tensor) -> Tensor:
        return F.layer_norm(x, (width,), weight.to(x.dtype), bias.to(x.dtype))

    near(bodies.norm(x, weight, bias), norm(x), norm(x.double()), dtype)
    got = bodies.norm(x, weight, bias, grad=grad)
    want = gradient(lambda x: x + norm(x), x.double(), grad)
    near(got, gradient(lambda x: x + norm(x), x, grad), want, dtype)


def attention(qkv: Tensor, heads: int) -> Tensor:
    q, k, v = qkv.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    weights = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(-1)
    return (weights @ v).transpose(1, 2).flatten(2)


@STORAGES
@pytest.mark.parametrize("sizes", [(1, 1, 1, 32), (1, 8, 2, 64), (2, 7, 3, 33), (1, 17, 1, 128)])
def test_attention(bodies, generator, dtype, sizes):
    clips, frames, heads, own = sizes
    qkv = torch.randn(clips, frames, 3 * heads * own, generator=generator).to(dtype)
    grad = torch.randn(clips, frames, heads * own, generator=generator).to(dtype)
    near(bodies.attend(qkv, heads), attention(qkv, heads), attention(qkv.double(), heads), dtype)
    got = bodies.attend(qkv, heads, grad=grad)
    want = gradient(lambda x: attention(x, heads), qkv.double(), grad)
    near(got, gradient(lambda x: attention(x, heads), qkv, grad), want, dtype)


@STORAGES
def test_gelu(bodies, generator, dtype):
    x = torch.cat((torch.linspace(-12, 12, 997), torch.tensor([0.0, -0.0, 1e4, -1e4]))).to(dtype)
    grad = torch.randn(x.shape, generator=generator).to(dtype)
    near(bodies.gelu(x), F.gelu(x), F.gelu(x.double()), dtype)
    want = gradient(F.gelu, x.double(), grad)
    near(bodies.gelu(x, grad=grad), gradient(F.gelu, x, grad), want, dtype)


WAYS = ["x Wᵀ", "grad W", "gradᵀ x"]


def operands(generator, sizes, way, dtype) -> tuple[Tensor, Tensor]:
    rows, columns, depth = sizes

    def numbers(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(dtype)

    a = numbers(depth, rows).t() if way == "gradᵀ x" else numbers(rows, depth)
    b = numbers(columns, depth) if way == "x Wᵀ" else numbers(depth, columns).t()
    return a, b


def check_product(bodies, generator, sizes, way, dtype, form=None) -> None:
    """Check out, with and without what is fused with it, and the sums of the rows."""
    a, b = operands(generator, sizes, way, dtype)
    rows, columns, _ = sizes
    bias = torch.randn(columns, generator=generator).to(dtype)
    skip, hidden = torch.randn(2, rows, columns, generator=generator).to(dtype)

    def plain(a: Tensor) -> Tensor:
        return a @ b.to(a.dtype).t()

    out, sums = bodies.product(a, b, sums=True, form=form)
    near(out, plain(a), plain(a.double()), dtype)
    near(sums, a.sum(1), a.double().sum(1), dtype)

    def with_all(a: Tensor) -> Tensor:
        one = torch.ones_like(hidden, dtype=a.dtype)
        slope = gradient(F.gelu, hidden.to(a.dtype), one)
        return (plain(a) + bias.to(a.dtype)) * slope + skip.to(a.dtype)

    out = bodies.product(a, b, bias=bias, skip=skip, hidden=hidden, form=form)[0]
    near(out, with_all(a), with_all(a.double()), dtype)


@STORAGES
@pytest.mark.parametrize("sizes", [(1, 1, 1), (8, 97, 70), (17, 64, 129), (33, 130, 32)])
@pytest.mark.parametrize("way", WAYS)
def test_product(bodies, generator, dtype, sizes, way):
    check_product(bodies, generator, sizes, way, dtype)


# Whole vectors: less than a tile, padded tiles, more tiles than stages.
@STORAGES
@pytest.mark.parametrize("sizes", [(8, 8, 8), (24, 72, 136), (16, 64, 840)])
@pytest.mark.parametrize(
    ("way", "form"),
    [*((way, form) for way in WAYS[:2] for form in ("any", "streamed", "deep")), (WAYS[2], "any"), (WAYS[2], "streamed")],
)  # fmt: skip
def test_product_in_every_form(bodies, generator, dtype, sizes, way, form):
    check_product(bodies, generator, sizes, way, dtype, form)


def test_products_of_parts_of_vectors_are_not_streamed(bodies, generator):
    for sizes, way in [((8, 8, 12), "x Wᵀ"), ((8, 12, 8), "grad W"), ((12, 8, 8), "gradᵀ x")]:
        a, b = operands(generator, sizes, way, torch.float16)
        with pytest.raises(AssertionError, match="no form fits"):
            bodies.product(a, b, form="streamed")
    a, b = operands(generator, (8, 8, 16), "x Wᵀ", torch.float16)
    bodies.product(a, b, form="streamed")
    with pytest.raises(AssertionError, match="no form fits"):
        bodies.product(a, b, form="streamed", prepare_b="gelu")


@STORAGES
@pytest.mark.parametrize("depth", [97, 96, 264])
@pytest.mark.parametrize("form", [None, "streamed", "deep"])
def test_product_of_prepared_operands(bodies, generator, dtype, depth, form):
    if depth % 8 and form:
        pytest.skip("streamed are whole vectors")
    a, b = torch.randn(19, depth, generator=generator), torch.randn(70, depth, generator=generator)
    a, b = a.to(dtype) + 2.0, b.to(dtype)
    weight = torch.randn(depth, generator=generator).to(dtype)
    bias = torch.randn(depth, generator=generator).to(dtype)

    def normed(a: Tensor) -> Tensor:
        return F.layer_norm(a, (depth,), weight.to(a.dtype), bias.to(a.dtype)) @ b.to(a.dtype).t()

    norm = {"prepare_a": "norm", "norm_weight": weight, "norm_bias": bias}
    out = bodies.product(a, b, form=form, **norm)[0]
    near(out, normed(a), normed(a.double()), dtype)
    out = bodies.product(a, b, prepare_a="gelu", form=form)[0]
    near(out, F.gelu(a) @ b.t(), F.gelu(a.double()) @ b.double().t(), dtype)
    if form != "deep":
        a, b = operands(generator, (depth, 72, 19), "gradᵀ x", dtype)
        out = bodies.product(a, b, prepare_b="gelu", form=form)[0]
        near(out, a @ F.gelu(b).t(), a.double() @ F.gelu(b.double()).t(), dtype)
    if form is None:
        a, b = operands(generator, (19, 70, depth), "x Wᵀ", dtype)
        out = bodies.product(a, b, prepare_a="gelu", prepare_b="gelu")[0]
        near(out, F.gelu(a) @ F.gelu(b).t(), F.gelu(a.double()) @ F.gelu(b.double()).t(), dtype)


def costs(distances: Tensor, lam: float | None, lengths: Any, bidirectional: bool) -> Tensor:
    if lam is None:
        return reference.bimhm(distances, lengths)
    return reference.otam(distances, lam, bidirectional, lengths)


@pytest.mark.parametrize("lam", [None, 1e-3, 0.5, 10.0])
@pytest.mark.parametrize(
    "sizes", [(1, 1, 1), (0, 8, 8), (70, 8, 8), (5, 7, 17), (3, 32, 8), (1, 64, 5)], ids=str
)
def test_align(bodies, generator, lam, sizes):
    distances = 2.0 * torch.rand(sizes, generator=generator)
    grad = torch.randn(sizes[0], generator=generator)
    for bidirectional in (True, False) if lam is not None else (True,):

        def cost(d: Tensor, both: bool = bidirectional) -> Tensor:
            return costs(d, lam, None, both)

        got = bodies.align(distances, lam, bidirectional=bidirectional)
        near(got, cost(distances), cost(distances.double()), torch.float32)
        got = bodies.align(distances, lam, bidirectional=bidirectional, grad=grad)
        twin, want = (gradient(cost, d, grad) for d in (distances, distances.double()))
        near(got, twin, want, torch.float32)


@pytest.mark.parametrize("lam", [None, 0.1])
def test_align_ragged_large_and_tied(bodies, generator, lam):
    distances = 2e4 * torch.rand(40, 9, 8, generator=generator) - 1e4
    distances[10:20] = 1.0
    lengths = torch.stack([torch.randint(1, n + 1, (40,), generator=generator) for n in (9, 8)], -1)
    lengths = lengths.contiguous()
    inside = torch.zeros(40, 9, 8, dtype=torch.bool)
    for i, (rows, columns) in enumerate(lengths.tolist()):
        inside[i, :rows, :columns] = True
    distances[~inside] = float("nan")
    got = bodies.align(distances, lam, lengths=lengths)
    near(got, costs(distances, lam, lengths, True), costs(distances.double(), lam, lengths, True), torch.float32)  # fmt: skip
    got = bodies.align(distances, lam, lengths=lengths, grad=torch.ones(40))
    assert not got[~inside].any()
    assert got.isfinite().all()
    # Each row of a clip passes on at least the whole gradient: its weights sum to 1 or more.
    if lam is not None:
        assert (got.sum(-1)[inside.any(-1)] > 0.99).all()


MATCHES = [
    (1, 1, 1, 1, 1, 1),
    (2, 3, 4, 8, 8, 64),
    (1, 5, 9, 7, 5, 33),
    (1, 1, 17, 8, 8, 97),
    (2, 9, 2, 1, 3, 40),
    (1, 2, 2, 33, 17, 7),
    (1, 1, 2, 64, 6, 5),
]


def scores(query: Tensor, prototypes: Tensor, lam: float | None, lengths: Any) -> Tensor:
    if lam is None:
        return reference.bimhm_match(query, prototypes, *lengths)
    return reference.otam_match(query, prototypes, lam, *lengths)


@pytest.mark.parametrize("lam", [None, 0.5])
@pytest.mark.parametrize("case", MATCHES, ids=str)
@pytest.mark.parametrize("ragged", [False, True], ids=["whole", "ragged"])
def test_match(bodies, generator, lam, case, ragged):
    batch, queries, classes, rows, columns, width = case
    query = 3.0 * torch.randn(batch, queries, rows, width, generator=generator)
    prototypes = 0.1 * torch.randn(batch, classes, columns, width, generator=generator)
    query[0, 0, 0] = 0.0
    lengths: tuple[Tensor | None, Tensor | None] = (None, None)
    if ragged:
        lengths = (
            torch.randint(1, rows + 1, (batch, queries), generator=generator),
            torch.randint(1, columns + 1, (batch, classes), generator=generator),
        )
        for side, own in zip((query, prototypes), lengths, strict=True):
            outside = torch.arange(side.shape[2])[None, None] >= own[..., None]
            side[outside] = 1e4
    grad = torch.randn(batch, queries, classes, generator=generator)

    got = bodies.match(query, prototypes, lam, lengths=lengths)
    want = scores(query.double(), prototypes.double(), lam, lengths)
    near(got, scores(query, prototypes, lam, lengths), want, torch.float32)

    for of_prototypes, slices in ((False, 1), (True, 1), (False, 3)):
        got = bodies.match(
            query, prototypes, lam, lengths=lengths, grad=grad, of_prototypes=of_prototypes,
            slices=slices,
        ).sum(0)  # fmt: skip

        def both(dtype: torch.dtype, of_prototypes: bool = of_prototypes) -> Tensor:
            q, s = query.to(dtype), prototypes.to(dtype)
            if of_prototypes:
                return gradient(lambda x: scores(q, x, lam, lengths), s, grad)
            return gradient(lambda x: scores(x, s, lam, lengths), q, grad)

        near(got, both(torch.float32), both(torch.float64), torch.float32)


def test_largest_tiles(bodies, generator):
    """64 × 64 frames fill the shared memory; Bi-MHM's twin is fast enough for this size."""
    query = torch.randn(1, 2, 64, 5, generator=generator)
    prototypes = torch.randn(1, 1, 64, 5, generator=generator)
    grad = torch.randn(1, 2, 1, generator=generator)
    want = scores(query.double(), prototypes.double(), None, (None, None))
    near(bodies.match(query, prototypes, None), want.float(), want, torch.float32)
    got = bodies.match(query, prototypes, None, grad=grad)[0]
    want = gradient(
        lambda q: scores(q, prototypes.double(), None, (None, None)), query.double(), grad
    )
    near(got, want.float(), want, torch.float32)
    distances = torch.rand(1, 64, 64, generator=generator)
    got = bodies.align(distances, 0.5, grad=torch.ones(1))
    # In both directions, the first row and the last column receive at least the whole gradient.
    assert got.isfinite().all()
    assert got.sum() > 127.0
    near(
        bodies.align(distances, 0.5),
        kernels.otam(distances),
        kernels.otam(distances.double()),
        torch.float32,
    )
