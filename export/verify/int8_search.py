"""Makes int8 graphs that pass verification with as few float32 products as possible (no torch)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
from numpy.typing import NDArray

from mafsar.errors import MismatchError
from mafsar.export.graphs.int8 import products, to_int8, values_to_measure, write_int8_graphs
from mafsar.export.graphs.int8_ranges import ValueRange, observe
from mafsar.export.graphs.sessions import open_altered, open_session
from mafsar.export.verify.clips import ClipSet
from mafsar.export.verify.compare import Report
from mafsar.model.names import graph_file
from mafsar.runtime.encoder import Float32

_RANKED_CLIPS = 4  # clips that each product is tried on


@dataclass(frozen=True)
class Int8Result:
    """Which products of a model became int8.

    Attributes:
        weights: Names of all weights that int8 can hold, in the graph's order.
        kept_float32: Those whose products stay float32.
        report: How the graphs compare with their reference; None without verification.
    """

    weights: tuple[str, ...]
    kept_float32: tuple[str, ...]
    report: Report | None


class Int8Search:
    """Makes the int8 graphs of one bundle.

    Args:
        folder: The bundle, with its fp32 graphs.
        branches: Its visual branches.
        clips: Calibration clips.
        text: Raw text embeddings of the clips' classes, (C, E); None without a support graph.

    Raises:
        MismatchError: The graphs hold no weight that can become int8, or a value is not finite.
    """

    def __init__(
        self, folder: Path, branches: tuple[str, ...], clips: ClipSet, text: Float32 | None
    ) -> None:
        self._folder = folder
        self._runs = {branch: _inputs(branch, clips, text) for branch in branches}
        self._ranges: dict[str, dict[str, ValueRange]] = {}
        weights: dict[str, bool] = {}  # name → whether it is a convolution's
        for branch in branches:
            path = folder / graph_file(branch)
            graph = ir.load(path).graph
            weights |= {item.weight: item.node.op_type == "Conv" for item in products(graph)}
            self._ranges[branch] = observe(path, values_to_measure(graph), self._runs[branch])
        if not weights:
            raise MismatchError(
                f"{folder.name}: the weights in its graphs are not named after the network's "
                "parameters (an old version exported it); export the model again"
            )
        self._weights = weights

    def run(self, verify: Callable[[], Report] | None) -> Int8Result:
        """Writes the graphs with the fewest float32 products that pass verification.

        Args:
            verify: Verifies the graphs in the folder; raises MismatchError where they do not pass.
                None makes every product int8 without verification.

        Raises:
            MismatchError: The graphs do not pass with half of the products in float32.
        """
        weights = tuple(self._weights)
        if verify is None:
            self._write(())
            return Int8Result(weights, (), None)
        check, reason = verify, MismatchError("")

        def attempt(count: int) -> Int8Result | None:
            nonlocal reason
            kept = self._with_earlier_convolutions(order[:count])
            self._write(kept)
            try:
                return Int8Result(weights, kept, check())
            except MismatchError as error:
                reason = error
                return None

        order: list[str] = []
        best = attempt(0)
        if best is not None:
            return best
        order = self._by_noise()
        failed, passed, most = 0, 1, len(order) // 2
        while best is None and failed < most:  # doubling finds a number that passes
            best = attempt(passed)
            if best is None:
                failed, passed = passed, min(2 * passed, most)
        if best is None:
            raise MismatchError(reason, " (tried with half of its products in float32)")
        while passed - failed > 1:  # halving finds the smallest such number
            middle = (passed + failed) // 2
            found = attempt(middle)
            if found is None:
                failed = middle
            else:
                passed, best = middle, found
        self._write(best.kept_float32)
        return best

    def _write(self, kept: Collection[str]) -> None:
        write_int8_graphs(self._folder, self._ranges, self._folder, kept)

    def _with_earlier_convolutions(self, chosen: Collection[str]) -> tuple[str, ...]:
        """The chosen weights, and with a convolution all convolutions before it, in graph order.

        A float convolution between uint8 values gave larger errors than the int8 one that it
        replaced, as if ONNX Runtime made it int8 with one scale for the whole weight.
        """
        names = list(self._weights)
        last = max((names.index(name) for name in chosen if self._weights[name]), default=-1)
        return tuple(
            name
            for index, name in enumerate(names)
            if name in chosen or (self._weights[name] and index < last)
        )

    def _by_noise(self) -> list[str]:
        """Weights by the noise that each alone causes in the query branch's outputs, worst first."""
        branch, ranges = next(iter(self._ranges.items()))
        path = self._folder / graph_file(branch)
        runs = self._runs[branch][:_RANKED_CLIPS]
        exact = _outputs(open_session(path), runs)
        noise = {}
        for weight in self._weights:
            others = [name for name in self._weights if name != weight]
            alone = to_int8(ir.load(path), ranges, others)
            session = open_altered(path, functools.partial(ir.save, alone))
            noise[weight] = _noise(exact, _outputs(session, runs))
        return sorted(noise, key=lambda name: -noise[name])


def _inputs(branch: str, clips: ClipSet, text: Float32 | None) -> list[dict[str, NDArray[Any]]]:
    runs = []
    for index, class_index in enumerate(clips.class_index):
        inputs: dict[str, NDArray[Any]] = {"frames": clips.frames[index : index + 1]}
        if branch == "support" and text is not None:
            inputs["text"] = text[class_index : class_index + 1]
        runs.append(inputs)
    return runs


def _outputs(
    session: onnxruntime.InferenceSession, runs: list[dict[str, NDArray[Any]]]
) -> list[NDArray[np.float64]]:
    """Every output over all runs, (rows, width)."""
    found = [session.run(None, inputs) for inputs in runs]
    return [
        np.concatenate([values.reshape(-1, values.shape[-1]) for values in column]).astype(
            np.float64
        )
        for column in zip(*found, strict=True)
    ]


def _noise(exact: list[NDArray[np.float64]], found: list[NDArray[np.float64]]) -> float:
    """Squared error relative to the variance over the clips, summed over the outputs."""
    total = 0.0
    for wanted, given in zip(exact, found, strict=True):
        spread = ((wanted - wanted.mean(axis=0)) ** 2).sum()
        total += float(((given - wanted) ** 2).sum() / max(spread, 1e-30))
    return total
