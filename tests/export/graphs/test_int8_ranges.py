"""Ranges of int8 activations: compared with a search over ranges in float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from mafsar.errors import MismatchError
from mafsar.export.graphs.int8_ranges import LEVELS, Histogram, ValueRange, observe

RNG = np.random.default_rng(0)
TAILS = RNG.standard_t(3, 40_000)
SAMPLES = {
    "normal": RNG.standard_normal(40_000),
    "heavy tails": TAILS,
    "one far outlier": np.append(RNG.standard_normal(40_000), 60.0),
    "relu6": np.clip(3 * RNG.standard_normal(40_000), 0, 6),
    "all negative": -np.abs(TAILS) - 0.1,
}


def squared_error(values: np.ndarray, low: float, high: float) -> float:
    """Squared error of rounding to uint8 and back."""
    seen = ValueRange(low, high, np.zeros(1), ())
    scale, zero = float(seen.scale), int(seen.zero_point)
    steps = np.clip(np.rint(values / scale) + zero, 0, LEVELS)
    return float((((steps - zero) * scale - values) ** 2).mean())


@pytest.mark.parametrize("kind", SAMPLES)
def test_the_range_has_nearly_the_least_error(kind: str) -> None:
    values = SAMPLES[kind].astype(np.float32)
    histogram = Histogram()
    for part in np.array_split(values, 7):
        histogram.add(part)
    low, high = histogram.best_range()
    assert low <= 0 <= high
    exact = values.astype(np.float64)
    cuts = np.linspace(0.05, 1, 60)
    tried = [
        squared_error(exact, a * min(exact.min(), 0), b * max(exact.max(), 0))
        for a in cuts
        for b in cuts
    ]
    assert squared_error(exact, low, high) <= 1.03 * min(tried)


def test_a_range_ends_where_the_values_do() -> None:
    """ReLU6 must give exactly 6 although bins are wider, or ONNX Runtime keeps its node."""
    histogram = Histogram()
    histogram.add(np.array([0, 0.5, 6, 6, 6], np.float32))
    assert histogram.best_range() == (0.0, 6.0)
    assert ValueRange(0.0, 6.0, np.zeros(1), ()).zero_point == 0


def test_only_zeros_and_values_that_are_not_finite() -> None:
    histogram = Histogram()
    histogram.add(np.zeros(5, np.float32))
    seen = ValueRange(*histogram.best_range(), np.zeros(1), ())
    assert (seen.scale, seen.zero_point) == (1, 0)
    histogram.add(np.array([1, np.nan], np.float32))
    with pytest.raises(MismatchError, match="not finite"):
        histogram.best_range()


def test_values_of_a_graph_are_measured(tmp_path: Path) -> None:
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [
        helper.make_node("Add", ["x", "one"], ["sum"]),
        helper.make_node("Exp", ["sum"], ["grown"]),
        helper.make_node("Neg", ["grown"], ["y"]),
    ]
    one = onnx.numpy_helper.from_array(np.array([1, 2], np.float32), "one")
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, ["n", 3, 2])],
        [helper.make_tensor_value_info("y", kind, ["n", 3, 2])],
        [one],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, tmp_path / "g.onnx")
    runs = [{"x": RNG.uniform(-1, 1, (1, 3, 2)).astype(np.float32)} for _ in range(4)]
    found = observe(tmp_path / "g.onnx", {"sum": -1, "grown": 1}, runs)
    sums = np.concatenate([run["x"] for run in runs]) + np.array([1, 2], np.float32)
    assert found["sum"].shape == found["grown"].shape == (3, 2)
    assert np.allclose(found["sum"].means, sums.mean(axis=(0, 1)))
    assert np.allclose(found["grown"].means, np.exp(sums).mean(axis=(0, 2)))
    assert found["grown"].high <= np.exp(sums).max() * 1.0001
    assert [path.name for path in tmp_path.iterdir()] == ["g.onnx"]
    bad = [{"x": np.full((1, 3, 2), 1e3, np.float32)}]
    with pytest.raises(MismatchError, match="not finite, in grown; use precision='fp32'"):
        observe(tmp_path / "g.onnx", {"grown": -1}, bad)
