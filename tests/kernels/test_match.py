"""The fused ops on features: cosine distances, alignment and gradients, against the restatement."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mafsar import kernels
from mafsar.kernels import reference

# leading sizes, queries, classes, Tq, Ts, E; with more classes than queries the sides are swapped
CASES = [
    ((), 1, 1, 1, 1, 1),
    ((2,), 3, 4, 8, 8, 64),
    ((1,), 6, 2, 7, 9, 33),
    ((2, 2), 2, 5, 5, 3, 17),
    ((), 1, 41, 8, 8, 40),
    ((12,), 5, 5, 8, 8, 16),
    ((), 2, 1, 32, 17, 97),
]
METRICS = ["otam", "bimhm"]


def features(generator, lead, queries, classes, rows, columns, width):
    query = torch.randn(*lead, queries, rows, width, generator=generator)
    support = torch.randn(*lead, classes, columns, width, generator=generator)
    return query * 3.0, support * 0.1  # cosines do not see the scale


def run(metric, query, support, **lengths):
    if metric == "otam":
        return kernels.otam_match(query, support, 0.5, **lengths)
    return kernels.bimhm_match(query, support, **lengths)


def gradients(function, query, support, weights):
    leaves = [x.detach().clone().requires_grad_() for x in (query, support)]
    return torch.autograd.grad(function(*leaves), leaves, weights.to(query.dtype))


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.usefixtures("isa", "two_threads")
def test_match(truth, generator, check_values, check_gradients, metric, case):
    query, support = features(generator, *case)
    twin = getattr(reference, f"{metric}_match")
    cost = run(metric, query, support)
    exact = twin(query.double(), support.double())
    assert cost.shape == (*case[0], case[1], case[2])
    assert cost.dtype == torch.float32

    one_query = query.double().reshape(-1, *query.shape[-3:])[-1, -1].numpy()
    one_support = support.double().reshape(-1, *support.shape[-3:])[-1, -1].numpy()
    distances = truth.frame_distances(one_query, one_support)
    value = truth.both(distances, 0.5).value if metric == "otam" else truth.bimhm(distances).value
    assert exact.flatten()[-1].item() == pytest.approx(value, abs=1e-9)

    largest = 2.0 * max(case[3], case[4])
    check_values(cost.numpy(), twin(query, support).numpy(), exact.numpy(), largest)
    weights = torch.randn(cost.shape, generator=generator)
    ours = gradients(lambda q, s: run(metric, q, s), query, support, weights)
    of_twin = gradients(twin, query, support, weights)
    wanted = gradients(twin, query.double(), support.double(), weights)
    for got, other, want in zip(ours, of_twin, wanted, strict=True):
        size = max(1.0, want.abs().max().item())  # the support's small scale makes them large
        check_gradients(got.numpy() / size, other.numpy() / size, want.numpy() / size)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.usefixtures("isa", "two_threads")
def test_ragged_lengths_are_the_unpadded_videos(generator, metric):
    query, support = features(generator, (3,), 4, 6, 9, 7, 24)
    rows = torch.randint(1, 10, (3, 4), generator=generator)
    columns = torch.randint(1, 8, (3, 6), generator=generator)
    for b in range(3):
        for q, frames in enumerate(rows[b].tolist()):
            query[b, q, frames:] = float("nan")
        for c, frames in enumerate(columns[b].tolist()):
            support[b, c, frames:] = float("nan")

    def ragged(q, s):
        return run(metric, q, s, query_lengths=rows, prototype_lengths=columns)

    cost = ragged(query, support)
    weights = torch.randn(3, 4, 6, generator=generator)
    slopes = gradients(ragged, query, support, weights)
    wanted = [torch.zeros_like(x) for x in slopes]
    for b in range(3):
        for q, tq in enumerate(rows[b].tolist()):
            for c, ts in enumerate(columns[b].tolist()):
                own = query[b, q : q + 1, :tq], support[b, c : c + 1, :ts]
                torch.testing.assert_close(cost[b, q, c], run(metric, *own)[0, 0])
                part = gradients(
                    lambda x, y: run(metric, x, y), *own, weights[b, q, c].reshape(1, 1)
                )
                wanted[0][b, q, :tq] += part[0][0]
                wanted[1][b, c, :ts] += part[1][0]
    for got, want in zip(slopes, wanted, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)

    only_rows = run(metric, query[:, :, :1], support[:, :, :1], query_lengths=torch.ones_like(rows))
    torch.testing.assert_close(only_rows, run(metric, query[:, :, :1], support[:, :, :1]))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.usefixtures("isa")
def test_a_zero_frame_has_distance_one_and_gradient_zero(generator, metric):
    query, support = features(generator, (), 2, 3, 4, 5, 8)
    query[1, 2] = 0.0
    support[0] = 0.0
    cost = run(metric, query, support)
    ones = torch.ones(4, 5)
    alone = kernels.otam(ones) if metric == "otam" else kernels.bimhm(ones)
    torch.testing.assert_close(cost[:, 0], alone.expand(2))
    of_query, of_support = gradients(
        lambda q, s: run(metric, q, s), query, support, torch.ones(2, 3)
    )
    assert (of_query[1, 2] == 0).all()
    assert (of_support[0] == 0).all()
    assert of_query.isfinite().all()
    assert (of_support[1:].abs().sum(-1) > 0).any()


@pytest.mark.usefixtures("isa")
def test_a_short_frame_keeps_the_norm_of_the_method(generator):
    """Norms are max(‖·‖, 1e-6): for shorter vectors the cosine is linear in the vector."""
    query, support = features(generator, (), 1, 1, 3, 3, 8)
    query[0, 1] = 1e-7 * torch.randn(8, generator=generator)
    torch.testing.assert_close(
        kernels.otam_match(query, support).double(),
        reference.otam_match(query.double(), support.double()),
        rtol=0,
        atol=1e-5,
    )
    ones = torch.ones(1, 1)
    got = gradients(kernels.otam_match, query, support, ones)
    want = gradients(reference.otam_match, query.double(), support.double(), ones)
    for ours, theirs in zip(got, want, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(0, 2, 3), (2, 0, 3), (2, 3, 0)])
@pytest.mark.parametrize("metric", METRICS)
def test_nothing_to_match(metric, shape):
    lead, queries, classes = shape
    query = torch.randn(lead, queries, 4, 8, requires_grad=True)
    support = torch.randn(lead, classes, 4, 8, requires_grad=True)
    cost = run(metric, query, support)
    assert cost.shape == shape
    for slope in torch.autograd.grad(cost.sum(), (query, support)):
        assert (slope == 0).all()


def test_strides_and_half_precision(generator):
    wide = torch.randn(8, 3, 64, 2, generator=generator)
    query = wide[..., 0].transpose(0, 1)[..., ::2]  # (3, 8, 32), not contiguous
    support = wide[..., 1].transpose(0, 1)[:2, :, 1::2]
    want = kernels.otam_match(query.contiguous(), support.contiguous())
    torch.testing.assert_close(kernels.otam_match(query, support), want, rtol=0, atol=0)
    for dtype in (torch.float16, torch.bfloat16):
        cost = kernels.otam_match(query.to(dtype), support.to(dtype))
        assert cost.dtype == torch.float32
        exact = kernels.otam_match(query.to(dtype).float(), support.to(dtype).float())
        torch.testing.assert_close(cost, exact)


@pytest.mark.parametrize("case", [((1,), 25, 5, 8, 8, 32), ((3,), 5, 5, 8, 8, 32)], ids=str)
def test_threads_do_not_change_the_scores(generator, case):
    """The number of threads changes the order in which gradients are summed, but not the scores."""
    before = kernels.get_num_threads()
    lead, queries, classes, rows, columns, width = case
    query, support = features(generator, lead, queries, classes * 20, rows, columns, width)
    results = []
    for threads in (1, 2, 3, 2):
        kernels.set_num_threads(threads)
        weights = torch.ones(*lead, queries, classes * 20)
        slopes = gradients(kernels.otam_match, query, support, weights)
        results.append((kernels.otam_match(query, support), *slopes))
    kernels.set_num_threads(before)
    for got in results[1:]:
        assert torch.equal(got[0], results[0][0])
        for slope, other in zip(got[1:], results[0][1:], strict=True):
            torch.testing.assert_close(slope, other, rtol=1e-4, atol=1e-4)
    assert all(torch.equal(a, b) for a, b in zip(results[1], results[3], strict=True))


def test_numpy_gives_what_torch_gives(generator):
    query, support = features(generator, (2,), 3, 4, 8, 6, 32)
    rows, columns = np.array([[8, 3, 1], [2, 5, 8]]), np.array([[6, 1, 2, 4], [3, 3, 6, 5]])
    for metric in METRICS:
        in_torch = run(
            metric,
            query,
            support,
            query_lengths=torch.tensor(rows),
            prototype_lengths=torch.tensor(columns),
        )
        in_numpy = run(
            metric,
            query.numpy(),
            support.numpy(),
            query_lengths=rows,
            prototype_lengths=columns.tolist(),
        )
        assert isinstance(in_numpy, np.ndarray)
        np.testing.assert_array_equal(in_numpy, in_torch.numpy())
    for op in (kernels.mean_match, kernels.frame_distances):
        np.testing.assert_allclose(
            op(query.numpy(), support.numpy()), op(query, support).numpy(), atol=1e-6
        )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("op", [kernels.otam_match, kernels.bimhm_match])
def test_no_videos_give_no_costs(op, dtype) -> None:
    """A fuzzer's find: the twin could not shape the lengths of no videos."""
    features = np.ones((0, 17, 8), dtype)
    found = op(features, np.ones((3, 4, 8), dtype), query_lengths=np.ones(0, int))
    assert found.shape == (0, 3)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 3e38, -3e38])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_costs_that_are_no_numbers_are_refused(value, dtype) -> None:
    distances = np.full((2, 8, 8), 0.5, dtype)
    distances[1] = value
    if dtype == np.float64 and np.isfinite(value):
        assert np.isfinite(kernels.otam(distances)).all()
        return
    with pytest.raises(ValueError, match="distances must be finite"):
        kernels.otam(distances)
