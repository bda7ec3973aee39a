"""The metric by name: `bimhm` is Bi-MHM, and an unknown name is an error in every entry point."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mafsar.kernels import checks, dispatch, numpy_ops, numpy_reference, reference
from mafsar.kernels.torch_ops import matching, matching_cuda

ARRAYS = np.random.default_rng(5).uniform(0, 2, (2, 3, 4)).astype(np.float32)
D = torch.tensor(ARRAYS)
Q, S = D[None], D[None, :1] + 1.0
GRAD, GRADS = torch.ones(2), torch.ones(1, 2, 1)

ENTRIES = {
    "check": checks.check_metric,
    "numpy_ops.align": lambda m: numpy_ops.align(m, ARRAYS, 0.5, True, None),
    "numpy_ops.match": lambda m: numpy_ops.match(m, Q.numpy(), S.numpy(), 0.5, None, None),
    "numpy_reference.align": lambda m: numpy_reference.align(m, ARRAYS, 0.5, True, None),
    "numpy_reference.match": lambda m: numpy_reference.match(
        m, Q.numpy(), S.numpy(), 0.5, None, None
    ),
    "reference.align": lambda m: reference.align(m, D, 0.5, True, None),
    "reference.match": lambda m: reference.match(m, Q, S, 0.5, None, None),
    "torch align": lambda m: matching.align(m, D, 0.5, True, None),
    "torch align_backward": lambda m: matching.align_backward(m, GRAD, D, 0.5, True, None),
    "torch match": lambda m: matching.match(m, Q, S, 0.5, None, None),
    "torch match_backward": lambda m: matching.match_backward(m, GRADS, Q, S, 0.5, None, None),
    "cuda align": lambda m: matching_cuda.align(m, D, 0.5, True, None),
    "cuda align_backward": lambda m: matching_cuda.align_backward(m, GRAD, D, 0.5, True, None),
    "cuda match": lambda m: matching_cuda.match(m, Q, S, 0.5, None, None),
    "cuda match_backward": lambda m: matching_cuda.match_backward(m, GRADS, Q, S, 0.5, None, None),
}
# Without any pair, so that no address is read.
NATIVE = {
    "align_forward": lambda f, m: f(m, 0, 0, 0, 1, 1, 0.5, True, 0),
    "align_backward": lambda f, m: f(m, 0, 0, 0, 0, 1, 1, 0.5, True, 0),
    "match_forward": lambda f, m: f(m, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 0.5, 0),
    "match_backward": lambda f, m: f(m, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 0.5, 0, 0),
    "cuda_align": lambda f, m: f(m, 0, 0, 0, 0, 1, 1, 0.5, True, 0, 0),
    "cuda_match": lambda f, m: f(m, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 0.5, 1, 0, 0),
}


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
@pytest.mark.parametrize("metric", ["dtw", "mean", "OTAM", "", None])
def test_an_unknown_metric_is_refused(entry, metric):
    with pytest.raises(ValueError, match="metric must be one of otam, bimhm, got"):
        entry(metric)


@pytest.mark.parametrize(("name", "call"), NATIVE.items(), ids=NATIVE)
def test_the_native_module_refuses_an_unknown_metric(name, call):
    function = getattr(dispatch.native(), name, None)
    if function is None:
        pytest.skip(f"the native module is missing or was built without {name}")
    for metric in ("dtw", "mean", "OTAM", ""):
        with pytest.raises(ValueError, match="metric must be one of otam, bimhm, got"):
            call(function, metric)
    for metric in ("otam", "bimhm"):
        call(function, metric)


@pytest.mark.parametrize("metric", ["otam", "bimhm"])
def test_a_metric_is_what_its_name_says(truth, metric):
    """Costs and gradients by name, of every entry point on the CPU, against the restatement."""
    want = [truth.both(d, 0.5) if metric == "otam" else truth.bimhm(d) for d in ARRAYS]
    values = np.array([one.value for one in want])
    slopes = np.stack([one.gradient for one in want])
    for got in (
        numpy_ops.align(metric, ARRAYS, 0.5, True, None),
        numpy_reference.align(metric, ARRAYS, 0.5, True, None),
        reference.align(metric, D, 0.5, True, None).numpy(),
        matching.align(metric, D, 0.5, True, None).numpy(),
        matching.align(metric, D.double(), 0.5, True, None).numpy(),
    ):
        np.testing.assert_allclose(got, values, atol=1e-5)
    for d in (D, D.double()):
        got = matching.align_backward(metric, GRAD.to(d.dtype), d, 0.5, True, None)
        np.testing.assert_allclose(got, slopes, atol=1e-5)

    costs = np.array(
        [[truth.distance(metric, q, s, 0.5) for s in S[0].numpy()] for q in Q[0].numpy()]
    )
    for got in (
        numpy_ops.match(metric, Q.numpy(), S.numpy(), 0.5, None, None),
        numpy_reference.match(metric, Q.numpy(), S.numpy(), 0.5, None, None),
        reference.match(metric, Q, S, 0.5, None, None).numpy(),
        matching.match(metric, Q, S, 0.5, None, None).numpy(),
    ):
        np.testing.assert_allclose(got[0], costs, atol=1e-4)
    leaves = [x.double().requires_grad_() for x in (Q, S)]
    cost = reference.match(metric, *leaves, 0.5, None, None)
    exact = torch.autograd.grad(cost, leaves, GRADS.double())
    got = matching.match_backward(metric, GRADS, Q, S, 0.5, None, None)
    for a, b in zip(got, exact, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=0, atol=1e-5)
