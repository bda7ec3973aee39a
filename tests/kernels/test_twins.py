"""The torch and numpy twins against the restatement and against known values."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mafsar.kernels import numpy_reference, reference

SIZES = [(1, 1), (1, 7), (7, 1), (2, 2), (8, 8), (5, 9), (9, 4)]


def random_distances(pairs, rows, columns, scale=1.0, seed=0):
    values = np.random.default_rng(seed).uniform(-1.0, 1.0, (pairs, rows, columns))
    return scale * values


@pytest.mark.parametrize(("rows", "columns"), SIZES)
@pytest.mark.parametrize(("lam", "scale"), [(0.5, 1.0), (1e-3, 1.0), (10.0, 1e4), (1e-3, 1e4)])
def test_otam_is_the_restatement(truth, rows, columns, lam, scale):
    distances = random_distances(3, rows, columns, scale)
    leaf = torch.tensor(distances, requires_grad=True)
    for bidirectional, one in ((True, truth.both), (False, truth.otam)):
        want = [one(pair, lam) for pair in distances]
        values = np.array([pair.value for pair in want])
        cost = reference.otam(leaf, lam, bidirectional)
        np.testing.assert_allclose(cost.detach().numpy(), values, rtol=1e-12, atol=1e-10)
        np.testing.assert_allclose(
            numpy_reference.otam(distances, lam, bidirectional), values, rtol=1e-12, atol=1e-10
        )
        (gradient,) = torch.autograd.grad(cost.sum(), leaf)
        slopes = np.stack([pair.gradient for pair in want])
        # At λ = 1e-3 and ±1e4 one rounding of a cost changes a weight's exponent by 1e-9.
        np.testing.assert_allclose(gradient.numpy(), slopes, atol=1e-7)
        if bidirectional:
            np.testing.assert_allclose(
                numpy_reference.otam_gradient(distances, lam), slopes, atol=1e-7
            )


@pytest.mark.parametrize(("rows", "columns"), SIZES)
def test_bimhm_is_the_restatement(truth, rows, columns):
    distances = random_distances(4, rows, columns)
    distances = np.round(distances * 3.0) / 3.0  # ties: the first index takes the gradient
    leaf = torch.tensor(distances, requires_grad=True)
    cost = reference.bimhm(leaf)
    (gradient,) = torch.autograd.grad(cost.sum(), leaf)
    for p, pair in enumerate(distances):
        want = truth.bimhm(pair)
        assert cost[p].item() == pytest.approx(want.value, abs=1e-12)
        assert numpy_reference.bimhm(distances)[p] == pytest.approx(want.value, abs=1e-12)
        np.testing.assert_allclose(gradient[p].numpy(), want.gradient, atol=1e-12)


@pytest.mark.parametrize(("lam", "value"), [(0.1, -0.8436), (0.5, -4.2178)])
def test_zero_distances_have_the_known_cost(truth, lam, value):
    """The cost of an all-zero 8×8 table is negative: a soft minimum over many ways."""
    zeros = np.zeros((8, 8))
    assert truth.otam(zeros, lam).value == pytest.approx(value, abs=5e-5)
    assert truth.otam([[0.2, 0.3, 0.4]], lam).value == pytest.approx(0.9)
    assert reference.otam(torch.tensor(zeros), lam, False).item() == pytest.approx(value, abs=5e-5)
    assert numpy_reference.otam(zeros, lam, False) == pytest.approx(value, abs=5e-5)


def test_one_row_is_its_plain_sum():
    row = torch.tensor([[[0.5, 1.5, -0.25]]], dtype=torch.float64)
    assert reference.otam(row, 0.5, False).item() == pytest.approx(1.75)


def test_a_float32_logsumexp_would_lose_the_gradient(truth):
    """Why the minimum is subtracted first: the usual form is off by 1.0 at λ = 1e-3, |d| = 1e4."""
    distances = torch.tensor(random_distances(6, 8, 8, 1e4), dtype=torch.float32)
    leaf = distances.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(reference.otam(leaf, 1e-3).sum(), leaf)
    for p, pair in enumerate(distances.double().numpy()):
        np.testing.assert_allclose(gradient[p].numpy(), truth.both(pair, 1e-3).gradient, atol=1e-6)


def test_ragged_lengths_are_the_unpadded_pair():
    distances = torch.tensor(random_distances(5, 6, 7))
    lengths = torch.tensor([[6, 7], [1, 1], [3, 7], [6, 2], [4, 5]])
    padded = distances.clone()
    for p, (rows, columns) in enumerate(lengths.tolist()):
        padded[p, rows:] = float("nan")
        padded[p, :, columns:] = float("nan")
    leaf = padded.requires_grad_()
    for twin, ragged, in_numpy in (
        (
            lambda d: reference.otam(d, 0.3),
            reference.otam(leaf, 0.3, True, lengths),
            numpy_reference.otam(padded.detach().numpy(), 0.3, True, lengths.numpy()),
        ),
        (
            reference.bimhm,
            reference.bimhm(leaf, lengths),
            numpy_reference.bimhm(padded.detach().numpy(), lengths.numpy()),
        ),
    ):
        (gradient,) = torch.autograd.grad(ragged.sum(), leaf)
        for p, (rows, columns) in enumerate(lengths.tolist()):
            own = distances[p, :rows, :columns].clone().requires_grad_()
            value = twin(own)
            (slope,) = torch.autograd.grad(value, own)
            assert ragged[p].item() == pytest.approx(value.item(), abs=1e-12)
            assert in_numpy[p] == pytest.approx(value.item(), abs=1e-12)
            torch.testing.assert_close(gradient[p, :rows, :columns], slope)
            assert gradient[p].isfinite().all()
            assert gradient[p].abs().sum() == pytest.approx(slope.abs().sum().item())


def test_gradients_pass_finite_differences(generator):
    distances = torch.rand(2, 4, 5, dtype=torch.float64, generator=generator, requires_grad=True)
    lengths = torch.tensor([[4, 5], [3, 2]])
    assert torch.autograd.gradcheck(lambda d: reference.otam(d, 0.2), distances)
    assert torch.autograd.gradcheck(lambda d: reference.otam(d, 0.2, True, lengths), distances)
    assert torch.autograd.gradgradcheck(lambda d: reference.otam(d, 0.2), distances)
    assert torch.autograd.gradcheck(reference.bimhm, distances)
    query = torch.randn(2, 3, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    support = torch.randn(3, 2, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    for match in (reference.otam_match, reference.bimhm_match, reference.mean_match):
        assert torch.autograd.gradcheck(match, (query, support))


def test_frame_distances_are_the_restatement(truth):
    numbers = np.random.default_rng(1)
    query, support = numbers.normal(size=(2, 3, 4, 6)), numbers.normal(size=(2, 5, 3, 6))
    query[0, 0, 1] = 0.0
    query[0, 1, 2] = 1e-8  # shorter than 1e-6, where the norm is clamped
    want = np.array(
        [[[truth.frame_distances(q, s) for s in support[b]] for q in query[b]] for b in range(2)]
    )
    assert want[0, 0, :, 1] == pytest.approx(1.0)
    np.testing.assert_allclose(numpy_reference.frame_distances(query, support), want, atol=1e-12)
    ours = reference.frame_distances(torch.tensor(query), torch.tensor(support))
    np.testing.assert_allclose(ours.numpy(), want, atol=1e-12)
    mean = [[truth.distance("mean", q, s, 0.5) for s in support[1]] for q in query[1]]
    np.testing.assert_allclose(numpy_reference.mean_match(query, support)[1], mean, atol=1e-12)
    ours = reference.mean_match(torch.tensor(query), torch.tensor(support))
    np.testing.assert_allclose(ours[1].numpy(), mean, atol=1e-12)
