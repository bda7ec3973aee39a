"""The native ops on given distances, with every instruction set, against the restatement."""

from __future__ import annotations

import ctypes
import functools
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch

from mafsar import kernels
from mafsar.kernels import dispatch, reference
from mafsar.kernels.torch_ops.library import share_torch_threads

SIZES = [(1, 1), (1, 7), (7, 1), (7, 7), (8, 8), (8, 17)]
SCALES = [(0.5, 1.0), (0.1, 2.0), (1e-3, 1.0), (10.0, 1.0), (1e-3, 1e4), (10.0, 1e4)]
CASES = [
    *((rows, columns, *scale, True) for rows, columns in SIZES for scale in SCALES),
    *((rows, columns, *scale, False) for rows, columns in [(8, 8), (7, 17)] for scale in SCALES),
    (17, 8, 0.1, 2.0, True),
    (32, 32, 0.1, 2.0, True),
]
PAIRS = 405  # whole tiles and a rest; enough pairs to measure the twin's worst rounding


def random_distances(generator, *shape, scale=1.0):
    return scale * (2.0 * torch.rand(*shape, generator=generator) - 1.0)


def gradient_of(function, distances, weights):
    leaf = distances.detach().clone().requires_grad_()
    return torch.autograd.grad(function(leaf), leaf, weights)[0]


@functools.cache
def otam_case(rows, columns, lam, scale, bidirectional):
    """Distances and the results of both twins, which do not depend on the instruction set."""
    generator = torch.Generator().manual_seed(rows * 100 + columns)
    distances = random_distances(generator, PAIRS, rows, columns, scale=scale)

    def answers(d):
        leaf = d.clone().requires_grad_()
        cost = reference.otam(leaf, lam, bidirectional)
        return cost.detach().numpy(), torch.autograd.grad(cost.sum(), leaf)[0].numpy()

    return distances, answers(distances), answers(distances.double())


@functools.cache
def otam_loops(truth, rows, columns, lam, scale, bidirectional):
    """The restated costs of some of the pairs, and the step between them; more for near ties."""
    distances = otam_case(rows, columns, lam, scale, bidirectional)[0]
    one = truth.both if bidirectional else truth.otam
    step = 11 if scale == 1e4 and rows * columns < 200 else 41 + rows * columns // 5
    return [one(pair, lam) for pair in distances[::step].double().numpy()], step


@pytest.mark.parametrize(("rows", "columns", "lam", "scale", "bidirectional"), CASES)
@pytest.mark.usefixtures("isa")
def test_otam(truth, check_values, check_gradients, rows, columns, lam, scale, bidirectional):
    case = (rows, columns, lam, scale, bidirectional)
    distances, (twin, twin_slope), (exact, exact_slope) = otam_case(*case)
    loops, step = otam_loops(truth, *case)
    largest = max(pair.largest for pair in loops)
    cost = kernels.otam(distances, lam, bidirectional).numpy()
    np.testing.assert_allclose(exact[::step], [pair.value for pair in loops], rtol=1e-11, atol=1e-9)
    check_values(cost, twin, exact, largest)

    slope = gradient_of(
        lambda d: kernels.otam(d, lam, bidirectional), distances, torch.ones(PAIRS)
    ).numpy()
    assert (slope >= 0).all()
    slopes = np.stack([pair.gradient for pair in loops])
    np.testing.assert_allclose(exact_slope[::step], slopes, atol=1e-6)
    if scale < 1e4:
        check_gradients(slope, twin_slope, exact_slope)
    else:  # near a tie, rounding decides which way is taken
        judged = [pair.gap > 1e-2 * (1.0 + pair.largest) for pair in loops]
        check_gradients(slope[::step][judged], twin_slope[::step][judged], slopes[judged])
    if lam >= 0.1 and scale <= 2.0:
        assert np.abs(slope - exact_slope).max() <= 1e-4


@functools.cache
def long_case(truth, shape):
    """One pair, its restated cost, and its cost by the float32 twin."""
    generator = torch.Generator().manual_seed(97)
    distances = random_distances(generator, 1, *shape)
    with torch.no_grad():
        twin = reference.otam(distances, 0.5).numpy()
    return distances, truth.both(distances[0].double().numpy(), 0.5), twin


@pytest.mark.parametrize("shape", [(97, 97), (97, 8), (33, 64)])
@pytest.mark.usefixtures("isa")
def test_long_clips(truth, check_values, shape):
    distances, want, twin = long_case(truth, shape)
    check_values(kernels.otam(distances).numpy(), twin, np.array([want.value]), want.largest)
    slope = gradient_of(kernels.otam, distances, torch.ones(1))
    np.testing.assert_allclose(slope[0], want.gradient, atol=1e-4)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 7), (8, 8), (17, 5), (32, 97)])
@pytest.mark.parametrize("scale", [1.0, 1e4])
@pytest.mark.usefixtures("isa")
def test_bimhm(truth, generator, rows, columns, scale):
    distances = random_distances(generator, 37, rows, columns, scale=scale)
    distances[::2] = (distances[::2] * 3 / scale).round() * scale / 3  # ties
    want = [truth.bimhm(pair) for pair in distances.double().numpy()]
    values = np.array([pair.value for pair in want])
    np.testing.assert_allclose(kernels.bimhm(distances), values, rtol=1e-6, atol=1e-6 * scale)
    slope = gradient_of(kernels.bimhm, distances, torch.ones(37))
    np.testing.assert_allclose(slope, np.stack([pair.gradient for pair in want]), atol=1e-6)


@pytest.mark.usefixtures("isa")
def test_ties_share_the_gradient_as_the_method_says():
    """All-equal distances: OTAM's weights are those of the twin, Bi-MHM takes the first index."""
    for value in (0.0, 1.0, -1e4):
        flat = torch.full((3, 8, 8), value)
        slope = gradient_of(kernels.otam, flat, torch.ones(3))
        exact = gradient_of(reference.otam, flat.double(), torch.ones(3, dtype=torch.float64))
        torch.testing.assert_close(slope.double(), exact, rtol=0, atol=2e-3 if value < 0 else 1e-6)
    first = torch.zeros(8, 8)
    first[0] += 1 / 8
    first[:, 0] += 1 / 8
    torch.testing.assert_close(gradient_of(kernels.bimhm, flat, torch.ones(3))[1], first)


@pytest.mark.parametrize(("lam", "value"), [(0.1, -0.8436), (0.5, -4.2178)])
@pytest.mark.usefixtures("isa")
def test_zero_distances_have_the_known_cost(lam, value):
    zeros = torch.zeros(20, 8, 8)
    torch.testing.assert_close(
        kernels.otam(zeros, lam, False), torch.full((20,), value), rtol=0, atol=5e-5
    )


@pytest.mark.usefixtures("isa", "two_threads")
def test_ragged_lengths_are_the_unpadded_pair(generator):
    distances = random_distances(generator, 150, 9, 6)
    lengths = torch.stack(
        (
            torch.randint(1, 10, (150,), generator=generator),
            torch.randint(1, 7, (150,), generator=generator),
        ),
        dim=-1,
    )
    weights = torch.rand(150, generator=generator)
    padded = distances.clone()
    for p, (rows, columns) in enumerate(lengths.tolist()):
        padded[p, rows:] = float("nan")
        padded[p, :, columns:] = float("nan")
    for ragged, plain in (
        (lambda d: kernels.otam(d, 0.3, lengths=lengths), lambda d: kernels.otam(d, 0.3)),
        (lambda d: kernels.bimhm(d, lengths=lengths), kernels.bimhm),
    ):
        cost = ragged(padded)
        slope = gradient_of(ragged, padded, weights)
        for p, (rows, columns) in enumerate(lengths.tolist()):
            own = distances[p : p + 1, :rows, :columns]
            torch.testing.assert_close(cost[p : p + 1], plain(own), rtol=0, atol=0)
            want = torch.zeros(9, 6)
            want[:rows, :columns] = gradient_of(plain, own, weights[p : p + 1])[0]
            torch.testing.assert_close(slope[p], want, rtol=0, atol=0)


@pytest.mark.usefixtures("isa")
def test_strides_batches_and_empty_batches(generator):
    wide = random_distances(generator, 4, 10, 16, 3)
    view = wide[:, ::2, 1::2].permute(3, 0, 2, 1)  # (3, 4, 8, 5), not contiguous
    assert not view.is_contiguous()
    torch.testing.assert_close(kernels.otam(view), kernels.otam(view.contiguous()), rtol=0, atol=0)
    slope = gradient_of(kernels.otam, view, torch.ones(3, 4))
    assert slope.shape == view.shape
    assert kernels.otam(wide[0, 0, :8, :1].reshape(8, 1)).shape == ()
    for shape in ((0, 8, 8), (3, 0, 5, 7)):
        empty = torch.zeros(shape, requires_grad=True)
        for op in (kernels.otam, kernels.bimhm):
            cost = op(empty)
            assert cost.shape == shape[:-2]
            assert torch.autograd.grad(cost.sum(), empty)[0].shape == shape


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(generator, dtype):
    distances = random_distances(generator, 6, 8, 8).to(dtype).requires_grad_()
    cost = kernels.otam(distances)
    assert cost.dtype == torch.float32
    torch.testing.assert_close(cost, kernels.otam(distances.float()))
    (slope,) = torch.autograd.grad(cost.sum(), distances)
    assert slope.dtype == dtype


def test_float64_is_the_twin(generator):
    distances = random_distances(generator, 6, 8, 8).double().requires_grad_()
    cost = kernels.otam(distances, 0.2)
    assert cost.dtype == torch.float64
    torch.testing.assert_close(cost, reference.otam(distances, 0.2), rtol=0, atol=0)
    assert torch.autograd.gradgradcheck(lambda d: kernels.otam(d, 0.2), distances[:1, :3, :3])


@pytest.mark.usefixtures("isa")
def test_not_a_number_is_seen():
    distances = torch.zeros(40, 8, 8)
    distances[7, 3, 4] = float("nan")
    for op in (kernels.otam, kernels.bimhm):
        assert op(distances).isnan().nonzero().flatten().tolist() == [7]


@pytest.mark.usefixtures("isa")
def test_threads_do_not_change_the_result(generator):
    before = kernels.get_num_threads()
    distances = random_distances(generator, 3000, 8, 8)
    results = []
    for threads in (1, 2, 5):
        kernels.set_num_threads(threads)
        slope = gradient_of(kernels.otam, distances, torch.ones(3000))
        results.append((kernels.otam(distances), slope))
    kernels.set_num_threads(before)
    for cost, slope in results[1:]:
        torch.testing.assert_close(cost, results[0][0], rtol=0, atol=0)
        torch.testing.assert_close(slope, results[0][1], rtol=0, atol=0)


@pytest.mark.usefixtures("two_threads")
def test_calls_from_several_threads_at_once(generator):
    distances = random_distances(generator, 2000, 8, 8)
    want = kernels.otam(distances)
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(20):
            if not torch.equal(kernels.otam(distances), want):
                wrong.append(number)

    workers = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []


@pytest.mark.usefixtures("two_threads")
def test_work_is_done_on_the_threads_of_another_library(generator):
    """The team calls the work as torch's OpenMP does, once per thread, here one after the other."""
    native = dispatch.native()
    if native is None:
        pytest.skip("the native module is not installed")
    distances = random_distances(generator, 3000, 8, 8)
    want = kernels.otam(distances)
    asked: list[int] = []
    work = ctypes.CFUNCTYPE(None, ctypes.c_void_p)

    def team(function, data, threads, _flags):
        asked.append(threads)
        for _ in range(threads):
            function(data)

    kind = ctypes.CFUNCTYPE(None, work, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
    entry = kind(team)
    native.use_team(ctypes.cast(entry, ctypes.c_void_p).value)
    try:
        got = kernels.otam(distances)
    finally:
        share_torch_threads()
    assert asked == [2]
    torch.testing.assert_close(got, want, rtol=0, atol=0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.usefixtures("two_threads")
def test_a_forked_child_has_threads_of_its_own():
    distances = np.random.default_rng(0).uniform(size=(3000, 8, 8)).astype(np.float32)
    want = kernels.otam(distances)  # the pool exists now
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(kernels.otam(distances), want) else 1)
    assert os.waitpid(child, 0)[1] == 0


AFTER_TORCH = """
import os, signal, warnings
import numpy as np
import torch
import mafsar.kernels.torch_ops.library
from mafsar import kernels

warnings.simplefilter("ignore", DeprecationWarning)
torch.set_num_threads(2)
kernels.set_num_threads(2)
torch.randn(512, 512) @ torch.randn(512, 512)  # torch's threads exist now, and no pool of ours
child = os.fork()
if child == 0:
    signal.alarm(20)
    kernels.otam(np.ones((3000, 8, 8), np.float32))
    os._exit(0)
raise SystemExit(os.waitpid(child, 0)[1])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_does_not_wait_for_the_threads_of_torch(tmp_path):
    command = [sys.executable, "-c", AFTER_TORCH]
    ended = subprocess.run(command, cwd=tmp_path, timeout=60, check=False)
    assert ended.returncode == 0
