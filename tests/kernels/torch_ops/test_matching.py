"""The torch ops: registration, compilation, export, second derivatives, and refused arguments."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import mafsar.kernels.torch_ops.matching_cuda  # noqa: F401 - registers the ops
from mafsar import kernels
from mafsar.kernels.torch_ops.library import OPS

EIGHT = torch.ones(3, 8, 8)
QUERY, SUPPORT = torch.ones(2, 3, 8, 4), torch.ones(2, 5, 6, 4)


def op_calls():
    """Every op with each kind of arguments: (name, args)."""
    generator = torch.Generator().manual_seed(3)
    distances = torch.rand(3, 8, 5, generator=generator)
    lengths = torch.tensor([[8, 5], [1, 1], [4, 3]])
    query, support = torch.randn(2, 3, 8, 6), torch.randn(2, 4, 5, 6)
    rows, columns = torch.full((2, 3), 7), torch.full((2, 4), 2)
    grad, grads = torch.rand(3), torch.rand(2, 3, 4)
    for sizes in (None, lengths):
        yield "otam", (distances, 0.5, True, sizes)
        yield "otam_backward", (grad, distances, 0.5, False, sizes)
        yield "bimhm", (distances.transpose(1, 2), None if sizes is None else sizes.flip(-1))
        yield "bimhm_backward", (grad, distances, sizes)
    for first, second in ((None, None), (rows, None), (rows, columns)):
        yield "otam_match", (query, support, 0.1, first, second)
        yield "otam_match_backward", (grads, query, support, 0.1, first, second)
        yield "bimhm_match", (query, support, first, second)
        yield "bimhm_match_backward", (grads, query, support, first, second)
    # float64, which no kernel accepts: the twin and its gradients, inside the op.
    double, twice = distances.double(), (query.double(), support.double())
    yield "otam", (double, 0.5, True, None)
    yield "otam_backward", (grad.double(), double, 0.5, True, lengths)
    yield "bimhm_backward", (grad.double(), double, None)
    yield "otam_match_backward", (grads.double(), *twice, 0.1, rows, None)
    yield "bimhm_match_backward", (grads.double(), *twice, None, columns)


@pytest.mark.parametrize(("name", "args"), [pytest.param(*call, id=call[0]) for call in op_calls()])
def test_opcheck(name, args):
    torch.library.opcheck(getattr(OPS, name).default, args)


def pipeline(query, support, distances):
    """Everything that a training step would call."""
    cost = kernels.otam_match(query, support, 0.5).sum() + kernels.otam(distances, 0.2).sum()
    cost = cost + kernels.bimhm(distances).sum() + kernels.bimhm_match(query, support).sum()
    return cost + kernels.mean_match(query, support).sum()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_compiles_in_one_graph():
    torch.manual_seed(0)
    inputs = [torch.randn(2, 8, 6), torch.randn(3, 8, 6), torch.rand(4, 8, 8)]
    compiled = torch.compile(pipeline, fullgraph=True, backend="aot_eager")
    results = []
    for function in (pipeline, compiled):
        leaves = [x.clone().requires_grad_() for x in inputs]
        value = function(*leaves)
        results.append((value, *torch.autograd.grad(value, leaves)))
    for got, want in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(got, want)
    with torch.no_grad():
        torch.testing.assert_close(compiled(*inputs), results[0][0].detach())


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_exports_as_plain_torch():
    """The exported graph holds the twin, and no op of ours, which other runtimes do not know."""

    class Match(torch.nn.Module):
        def forward(self, query, support):
            return kernels.otam_match(query, support, 0.5)

    query, support = torch.randn(2, 3, 6), torch.randn(4, 3, 6)
    program = torch.export.export(Match(), (query, support))
    assert "mafsar" not in program.graph_module.code
    torch.testing.assert_close(program.module()(query, support), kernels.otam_match(query, support))


@pytest.mark.parametrize("name", ["otam", "bimhm", "otam_match", "bimhm_match"])
def test_a_second_derivative_is_refused_by_name(name):
    if name.endswith("match"):
        leaves = [torch.randn(2, 4, 6, requires_grad=True), torch.randn(3, 4, 6)]
    else:
        leaves = [torch.rand(2, 4, 4, requires_grad=True)]
    cost = getattr(kernels, name)(*leaves).sum()
    (slope,) = torch.autograd.grad(cost, leaves[0], create_graph=True)
    with pytest.raises(RuntimeError, match=f"{name} is differentiable once"):
        slope.sum().backward()


def test_only_the_side_that_asks_gets_a_gradient():
    query, support = torch.randn(2, 4, 6), torch.randn(3, 4, 6, requires_grad=True)
    kernels.otam_match(query, support).sum().backward()
    assert query.grad is None
    assert support.grad is not None


WRONG = [
    (lambda a: kernels.otam(a(torch.ones(8))), ValueError, "distances must have shape"),
    (lambda a: kernels.otam(a(torch.ones(2, 0, 8))), ValueError, "distances must have Tq ≥ 1"),
    (lambda a: kernels.otam(a(torch.ones(2, 8, 8).int())), TypeError, "distances must be one of"),
    (lambda a: kernels.bimhm(a(torch.ones(2, 8, 8) > 0)), TypeError, "distances must be one of"),
    (lambda a: kernels.otam(a(EIGHT), 0.0), ValueError, "lam must be finite and > 0, got 0"),
    (lambda a: kernels.otam(a(EIGHT), float("nan")), ValueError, "lam must be finite"),
    (lambda a: kernels.otam(a(EIGHT.double()), -1.0), ValueError, "lam must be finite"),
    (
        lambda a: kernels.otam(a(EIGHT), lengths=a(torch.ones(3).int())),
        ValueError,
        r"lengths must have shape \(3, 2\), got \(3,\)",
    ),
    (lambda a: kernels.otam(a(EIGHT), lengths=a(torch.ones(3, 2))), TypeError, "lengths must be"),
    (
        lambda a: kernels.bimhm(a(EIGHT), lengths=a(torch.full((3, 2), 9))),
        ValueError,
        "lengths must be between 1 and 8 frames, got 9",
    ),
    (
        lambda a: kernels.otam(a(EIGHT.double()), lengths=a(torch.zeros(3, 2).int())),
        ValueError,
        "lengths must be between 1 and 8 frames, got 0",
    ),
    (lambda a: kernels.otam_match(a(EIGHT[0]), a(SUPPORT)), ValueError, "query must have shape"),
    (
        lambda a: kernels.otam_match(a(QUERY), a(SUPPORT[..., :3])),
        ValueError,
        "prototypes must have the leading sizes .* and the E = 4",
    ),
    (
        lambda a: kernels.bimhm_match(a(QUERY), a(SUPPORT[:1])),
        ValueError,
        "prototypes must have the leading sizes",
    ),
    (
        lambda a: kernels.mean_match(a(QUERY), a(SUPPORT.double())),
        TypeError,
        "prototypes must be float32 as query is, got float64",
    ),
    (
        lambda a: kernels.frame_distances(a(QUERY.long()), a(SUPPORT.long())),
        TypeError,
        "query must be one of",
    ),
    (
        lambda a: kernels.otam_match(a(QUERY), a(SUPPORT), query_lengths=a(torch.ones(2, 5).int())),
        ValueError,
        r"query_lengths must have shape \(2, 3\)",
    ),
    (
        lambda a: kernels.bimhm_match(
            a(QUERY), a(SUPPORT), prototype_lengths=a(torch.full((2, 5), 7))
        ),
        ValueError,
        "prototype_lengths must be between 1 and 6 frames, got 7",
    ),
    (
        lambda a: kernels.otam_match(a(QUERY), a(SUPPORT), prototype_lengths=a(torch.ones(2, 5))),
        TypeError,
        "prototype_lengths must be whole numbers",
    ),
]


@pytest.mark.parametrize("library", ["torch", "numpy"])
@pytest.mark.parametrize(("call", "kind", "message"), WRONG)
def test_what_is_wrong_is_named(library, call, kind, message):
    with pytest.raises(kind, match=message) as caught:
        call((lambda x: x) if library == "torch" else (lambda x: x.numpy()))
    assert "\n" not in str(caught.value)


def test_devices_must_agree():
    with pytest.raises(RuntimeError, match="prototypes must be on cpu as query is, got meta"):
        kernels.otam_match(QUERY, SUPPORT.to("meta"))


def test_ops_check_for_themselves():
    """Called without the public functions, they must not read memory outside their arguments."""
    with pytest.raises(TypeError, match="distances must be one of"):
        OPS.otam(EIGHT.int(), 0.5, True, None)
    with pytest.raises(ValueError, match="grad must have shape"):
        OPS.otam_backward(torch.ones(2), EIGHT, 0.5, True, None)
    with pytest.raises(ValueError, match="grad must have shape"):
        OPS.otam_match_backward(torch.ones(3, 5), QUERY, SUPPORT, 0.5, None, None)


def test_lengths_may_be_a_plain_list():
    want = kernels.otam(EIGHT[:1, :2, :3])
    got = kernels.otam(EIGHT[:1], lengths=[[2, 3]])
    torch.testing.assert_close(got, want)
    np.testing.assert_allclose(kernels.otam(EIGHT[:1].numpy(), lengths=[[2, 3]]), want.numpy())
