"""Ranges that int8 activations shall cover, from what an fp32 graph computes on clips (no torch)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
from numpy.typing import NDArray

from mafsar.errors import MismatchError
from mafsar.export.verify.compare import open_altered

LEVELS = 255  # steps between the least and the largest uint8
_BITS = (
    16  # of a float32 that choose its bin: sign, exponent and 7 bits of the fraction, 0.8 % wide
)
_CUTS = 100  # ends that are tried on each side
_HELD = 64  # values of one clip that are held at a time; ViT-B/16's are 0.4 GB


@dataclass(frozen=True, eq=False)
class Seen:
    """What calibration saw of one value.

    Attributes:
        low: Least number that int8 shall tell apart, ≤ 0.
        high: Largest, ≥ 0.
        means: Mean of each channel.
        shape: Of the value, without its first axis.
    """

    low: float
    high: float
    means: NDArray[np.float64]
    shape: tuple[int, ...]

    @property
    def scale(self) -> np.float32:
        """Of one step."""
        return np.float32((self.high - self.low) / LEVELS or 1.0)

    @property
    def zero_point(self) -> np.uint8:
        """The step that stands for 0."""
        return np.uint8(np.clip(np.rint(-self.low / self.scale), 0, LEVELS))


class Histogram:
    """Counts of numbers in bins of equal relative width, so that no range need be known before."""

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
        """The range with the least squared error of uint8 steps: rounding within, cutting without.

        Returns:
            (low ≤ 0, high ≥ 0): 0 is a step of its own.

        Raises:
            MismatchError: A number was not finite.
        """
        bins = np.arange(len(self._counts), dtype=np.uint32) << (32 - _BITS)
        with np.errstate(invalid="ignore"):  # bins of NaNs
            centres = (bins | (1 << (31 - _BITS))).view(np.float32).astype(np.float64)
        seen = self._counts > 0
        if not np.isfinite(centres[seen]).all():
            raise MismatchError("calibration met a number that is not finite")
        order = np.argsort(centres[seen])
        values = np.clip(centres[seen][order], *self._ends)
        counts = self._counts[seen][order].astype(np.float64)
        parts = np.arange(1, _CUTS + 1) / _CUTS
        highs = parts * max(values[-1], 0.0)
        lows = parts * min(values[0], 0.0)
        # Zeros are exact, whatever the step.
        rounding = ((highs[None] - lows[:, None]) / LEVELS) ** 2 / 12 * counts[values != 0].sum()
        cut = _cut_off(values, counts, highs)[None]
        cut = cut + _cut_off(-values[::-1], counts[::-1], -lows)[:, None]
        low, high = np.unravel_index(int((rounding + cut).argmin()), rounding.shape)
        return float(lows[low]), float(highs[high])


def _cut_off(
    values: NDArray[np.float64], counts: NDArray[np.float64], ends: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Squared error of cutting ascending values at each end: Σ n (v − end)² over v > end."""
    sums = [np.append(np.cumsum((counts * values**power)[::-1])[::-1], 0) for power in range(3)]
    first = np.searchsorted(values, ends, side="right")
    zeroth, linear, square = (total[first] for total in sums)
    return np.asarray(np.maximum(square - 2 * ends * linear + ends**2 * zeroth, 0.0))


def observe(
    path: Path, axes: Mapping[str, int], runs: Iterable[Mapping[str, NDArray[Any]]]
) -> dict[str, Seen]:
    """Runs an fp32 graph and looks at some of its values.

    Args:
        path: The graph; changed copies lie beside it for a moment, as its weights file must.
        axes: Names of float values inside it, and the axis along which their channels lie.
        runs: Inputs by name, one clip each.

    Returns:
        What was seen of each value.

    Raises:
        MismatchError: A value is not finite on some clip.
    """
    runs, names = list(runs), list(axes)
    found = {}
    for start in range(0, len(names), _HELD):
        group = names[start : start + _HELD]
        watches = [_Watch(axes[name]) for name in group]
        session = _session(path, group)
        for inputs in runs:
            for watch, values in zip(watches, session.run(group, dict(inputs)), strict=True):
                watch.add(values)
        for name, watch in zip(group, watches, strict=True):
            try:
                found[name] = watch.seen()
            except MismatchError as error:
                raise MismatchError(f"{path}: {error}, in {name}; use --precision fp32") from error
    return found


class _Watch:
    """Gathers what is seen of one value, clip by clip."""

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

    def seen(self) -> Seen:
        low, high = self._histogram.best_range()
        return Seen(low, high, np.mean(self._means, axis=0), self._shape)


def _session(path: Path, names: Sequence[str]) -> onnxruntime.InferenceSession:
    """The graph with other outputs."""
    model = ir.load(path)
    values = {value.name: value for node in model.graph for value in node.outputs}
    model.graph.outputs[:] = [values[name] for name in names]
    for value in model.graph.outputs:
        value.type = ir.TensorType(ir.DataType.FLOAT)
    return open_altered(path, lambda copy: ir.save(model, copy))
