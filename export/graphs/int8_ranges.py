"""Ranges of int8 activations, from the values that an fp32 graph computes on clips (no torch)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
from numpy.typing import NDArray

from mafsar.errors import MismatchError, option
from mafsar.export.graphs.sessions import open_altered

LEVELS = 255  # steps between the smallest and the largest uint8
# Leading bits of a float32 that choose its bin: sign, exponent, 7 bits of the fraction (0.8 % wide).
_BITS = 16
_CUTS = 100  # candidate ends of the range on each side
_GROUP = 64  # graph values that are read in one run; 0.4 GB for ViT-B/16


@dataclass(frozen=True, eq=False)
class ValueRange:
    """What calibration measured of one value of a graph.

    Attributes:
        low: Lower end of the range that uint8 covers, ≤ 0.
        high: Upper end, ≥ 0.
        means: Mean of each channel.
        shape: Shape of the value without its first axis.
    """

    low: float
    high: float
    means: NDArray[np.float64]
    shape: tuple[int, ...]

    @property
    def scale(self) -> np.float32:
        """Size of one step."""
        return np.float32((self.high - self.low) / LEVELS or 1.0)

    @property
    def zero_point(self) -> np.uint8:
        """The step that represents 0."""
        return np.uint8(np.clip(np.rint(-self.low / self.scale), 0, LEVELS))


class Histogram:
    """Counts of numbers in bins of equal relative width, so that the range need not be known."""

    def __init__(self) -> None:
        self._counts = np.zeros(1 << _BITS, np.int64)
        self._ends = (np.inf, -np.inf)

    def add(self, values: NDArray[np.float32]) -> None:
        """Counts numbers of any shape."""
        bits = np.ascontiguousarray(values, np.float32).view(np.uint32).ravel()
        self._counts += np.bincount(bits >> (32 - _BITS), minlength=len(self._counts))
        low, high = self._ends
        self._ends = (min(low, float(values.min())), max(high, float(values.max())))

    def best_range(self) -> tuple[float, float]:
        """The range in which uint8 steps have the smallest squared error.

        The error is that of rounding inside the range and of clipping outside it.

        Returns:
            (low ≤ 0, high ≥ 0); 0 is exactly one step.

        Raises:
            MismatchError: A number was not finite.
        """
        bins = np.arange(len(self._counts), dtype=np.uint32) << (32 - _BITS)
        with np.errstate(invalid="ignore"):  # bins of NaNs
            centres = (bins | (1 << (31 - _BITS))).view(np.float32).astype(np.float64)
        seen = self._counts > 0
        if not np.isfinite(centres[seen]).all():
            raise MismatchError("calibration found a number that is not finite")
        order = np.argsort(centres[seen])
        values = np.clip(centres[seen][order], *self._ends)
        counts = self._counts[seen][order].astype(np.float64)
        parts = np.arange(1, _CUTS + 1) / _CUTS
        highs = parts * max(values[-1], 0.0)
        lows = parts * min(values[0], 0.0)
        # Zeros are exact with every step size.
        rounding = ((highs[None] - lows[:, None]) / LEVELS) ** 2 / 12 * counts[values != 0].sum()
        clipping = _clipping_error(values, counts, highs)[None]
        clipping = clipping + _clipping_error(-values[::-1], counts[::-1], -lows)[:, None]
        low, high = np.unravel_index(int((rounding + clipping).argmin()), rounding.shape)
        return float(lows[low]), float(highs[high])


def _clipping_error(
    values: NDArray[np.float64], counts: NDArray[np.float64], ends: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Squared error of clipping ascending values at each end: Σ n (v − end)² over v > end."""
    sums = [np.append(np.cumsum((counts * values**power)[::-1])[::-1], 0) for power in range(3)]
    first = np.searchsorted(values, ends, side="right")
    zeroth, linear, square = (total[first] for total in sums)
    return np.asarray(np.maximum(square - 2 * ends * linear + ends**2 * zeroth, 0.0))


def observe(
    path: Path, axes: Mapping[str, int], runs: Iterable[Mapping[str, NDArray[Any]]]
) -> dict[str, ValueRange]:
    """Runs an fp32 graph and measures some of its values.

    Args:
        path: The graph.
        axes: The float values to measure, by name, and the axis of their channels.
        runs: Inputs by name, one clip each.

    Returns:
        What was measured, by name of the value.

    Raises:
        MismatchError: A value is not finite on some clip.
    """
    runs, names = list(runs), list(axes)
    found = {}
    for start in range(0, len(names), _GROUP):
        group = names[start : start + _GROUP]
        measurements = [_Measurement(axes[name]) for name in group]
        session = _session(path, group)
        for inputs in runs:
            for measurement, values in zip(
                measurements, session.run(group, dict(inputs)), strict=True
            ):
                measurement.add(values)
        for name, measurement in zip(group, measurements, strict=True):
            try:
                found[name] = measurement.result()
            except MismatchError as error:
                raise MismatchError(
                    f"{path}: ", error, f", in {name}; use ", option(precision="fp32")
                ) from error
    return found


class _Measurement:
    """Collects the measurements of one value, clip by clip."""

    def __init__(self, axis: int) -> None:
        self._axis = axis
        self._histogram = Histogram()
        self._means: list[NDArray[np.float64]] = []
        self._shape: tuple[int, ...] = ()

    def add(self, values: NDArray[np.float32]) -> None:
        self._histogram.add(values)
        others = tuple(i for i in range(values.ndim) if i != self._axis % values.ndim)
        self._means.append(values.mean(axis=others, dtype=np.float64))
        self._shape = values.shape[1:]

    def result(self) -> ValueRange:
        low, high = self._histogram.best_range()
        return ValueRange(low, high, np.mean(self._means, axis=0), self._shape)


def _session(path: Path, names: Sequence[str]) -> onnxruntime.InferenceSession:
    """Opens the graph with the named values as its outputs."""
    model = ir.load(path)
    values = {value.name: value for node in model.graph for value in node.outputs}
    model.graph.outputs[:] = [values[name] for name in names]
    for value in model.graph.outputs:
        value.type = ir.TensorType(ir.DataType.FLOAT)
    return open_altered(path, lambda copy: ir.save(model, copy))
