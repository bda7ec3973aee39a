"""Which products of an int8 graph stay float32: the fewest with which it passes (no torch)."""

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
from mafsar.export.graphs.int8 import products, to_int8, values_to_see, write_int8_graphs
from mafsar.export.graphs.int8_ranges import Seen, observe
from mafsar.export.verify.clips import ClipSet
from mafsar.export.verify.compare import Report, open_altered, open_session
from mafsar.model.names import graph_file
from mafsar.runtime.encoder import Float32

_RANKED_CLIPS = 4  # every product is tried by itself, on these
_MOST_KEPT = 0.5  # of the products; with more, int8 is not worth its file


@dataclass(frozen=True)
class Choice:
    """What became of a model's products.

    Attributes:
        weights: Names of all weights that int8 can hold, in the graph's order.
        kept: Those whose products stay float32.
        report: How the graphs compare with their reference; None where nobody asked.
    """

    weights: tuple[str, ...]
    kept: tuple[str, ...]
    report: Report | None


class Int8Maker:
    """Makes the int8 graphs of one bundle.

    Args:
        folder: The bundle, with its fp32 graphs.
        branches: Of `query` and `support`.
        clips: To calibrate with.
        text: Raw text embeddings of the clips' classes, (C, E); None without a support graph.

    Raises:
        MismatchError: The graphs hold no weight that int8 knows, or a value is not finite.
    """

    def __init__(
        self, folder: Path, branches: tuple[str, ...], clips: ClipSet, text: Float32 | None
    ) -> None:
        self._folder = folder
        self._runs = {branch: _inputs(branch, clips, text) for branch in branches}
        self._seen: dict[str, dict[str, Seen]] = {}
        weights: dict[str, bool] = {}  # whether it is a convolution's
        for branch in branches:
            path = folder / graph_file(branch)
            graph = ir.load(path).graph
            weights |= {item.weight: item.node.op_type == "Conv" for item in products(graph)}
            self._seen[branch] = observe(path, values_to_see(graph), self._runs[branch])
        if not weights:
            raise MismatchError(
                f"{folder.name}: its weights have no names to tell the towers by (a bundle made "
                "before they had); export the model again"
            )
        self._weights = weights

    def make(self, verify: Callable[[], Report] | None) -> Choice:
        """Writes the graphs, with as few float32 products as pass.

        Args:
            verify: Judges what lies in the folder and raises MismatchError where it does not
                pass; None = nothing is kept and nothing judged.

        Raises:
            MismatchError: It does not pass with half of the products in float32.
        """
        weights = tuple(self._weights)
        if verify is None:
            self._write(())
            return Choice(weights, (), None)
        check, reason = verify, MismatchError("")

        def attempt(count: int) -> Choice | None:
            nonlocal reason
            kept = self._with_those_before(order[:count])
            self._write(kept)
            try:
                return Choice(weights, kept, check())
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
            raise MismatchError(f"{reason} (tried with half of its products in float32)")
        while passed - failed > 1:  # halving finds the least
            middle = (passed + failed) // 2
            found = attempt(middle)
            if found is None:
                failed = middle
            else:
                passed, best = middle, found
        self._write(best.kept)
        return best

    def _write(self, kept: Collection[str]) -> None:
        write_int8_graphs(self._folder, self._seen, self._folder, kept)

    def _with_those_before(self, chosen: Collection[str]) -> tuple[str, ...]:
        """Weights that stay float32: with a convolution all before it, in the graph's order.

        A float convolution between uint8 values came out worse than the int8 one that it was to
        mend, as if ONNX Runtime made it int8 with one scale for the whole weight.
        """
        names = list(self._weights)
        last = max((names.index(name) for name in chosen if self._weights[name]), default=-1)
        return tuple(
            name
            for index, name in enumerate(names)
            if name in chosen or (self._weights[name] and index < last)
        )

    def _by_noise(self) -> list[str]:
        """Weights by how much of the query branch's outputs each alone drowns, the worst first."""
        branch, seen = next(iter(self._seen.items()))
        path = self._folder / graph_file(branch)
        runs = self._runs[branch][:_RANKED_CLIPS]
        exact = _outputs(open_session(path), runs)
        noise = {}
        for weight in self._weights:
            others = [name for name in self._weights if name != weight]
            alone = to_int8(ir.load(path), seen, others)
            session = open_altered(path, functools.partial(ir.save, alone))
            noise[weight] = _noise(exact, _outputs(session, runs))
        return sorted(noise, key=lambda name: -noise[name])


def _inputs(branch: str, clips: ClipSet, text: Float32 | None) -> list[dict[str, NDArray[Any]]]:
    runs = []
    for index, owner in enumerate(clips.owners):
        inputs: dict[str, NDArray[Any]] = {"frames": clips.frames[index : index + 1]}
        if branch == "support" and text is not None:
            inputs["text"] = text[owner : owner + 1]
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
    """Squared error over what the set's mean leaves, summed over the outputs."""
    total = 0.0
    for wanted, given in zip(exact, found, strict=True):
        spread = ((wanted - wanted.mean(axis=0)) ** 2).sum()
        total += float(((given - wanted) ** 2).sum() / max(spread, 1e-30))
    return total
