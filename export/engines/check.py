"""Verifies the engines of a draft on the GPU that they were built for (no torch)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mafsar.errors import MismatchError, option
from mafsar.export.engines.add import BuiltEngine
from mafsar.export.graphs.sessions import OnnxRunner
from mafsar.export.verify.compare import Report
from mafsar.export.verify.verifier import Reference, Verifier
from mafsar.runtime.engines.parity import compare
from mafsar.runtime.engines.trt_encoder import Device, load_engine
from mafsar.runtime.engines.trt_engine import TrtEngine


class EngineRunner:
    """Runs engines as `mafsar.export.verify.compare.Runner`; class texts use the text graph.

    Args:
        folder: The draft, with the graphs that the engines were built from.
        built: Its engines, one per branch.
        device: The GPU; None looks for it when an engine is first run.
    """

    def __init__(
        self, folder: Path, built: Sequence[BuiltEngine], device: Device | None = None
    ) -> None:
        self._text = OnnxRunner(folder, "fp32")
        self._folder, self._built = folder, {item.entry["branch"]: item for item in built}
        self._device = device
        self._engines: dict[str, TrtEngine] = {}

    def __call__(self, branch: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Runs a branch: inputs by name → outputs by name."""
        if branch == "text":
            return self._text(branch, inputs)
        if branch not in self._engines:
            built = self._built[branch]
            device = self._device = self._device or Device.here(0)
            self._engines[branch] = load_engine(self._folder / built.name, built.entry, device)
        contiguous = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
        return self._engines[branch].run(contiguous)

    def close(self) -> None:
        """Frees the engines' buffers."""
        for engine in self._engines.values():
            engine.close()
        self._engines.clear()


def verify_engines(verifier: Verifier, built: Sequence[BuiltEngine]) -> Report:
    """Verifies engines of one precision on the GPU of this machine, with every batch size.

    Args:
        verifier: Of the draft that holds the engines.
        built: The engines, one per branch.

    Raises:
        MismatchError: They are too far from the reference.
    """
    precision = str(built[0].entry["precision"])
    name = f"trt {precision}"
    runner = EngineRunner(verifier.draft.folder, built)
    try:
        report = verifier.measure(runner, precision, name)
        report.check(name)
        _check_batch_sizes(runner, built, verifier.reference(), report.min_cosine)
    finally:
        runner.close()
    return report


def _check_batch_sizes(
    runner: EngineRunner, built: Sequence[BuiltEngine], reference: Reference, limit: float
) -> None:
    """Compares every batch size of every engine: each profile has kernels of its own."""
    clips = reference.clips
    for item in built:
        branch = item.entry["branch"]
        for size in item.entry["buckets"]:
            # Repeated where there are fewer clips: those might be run by a smaller profile.
            rows = np.arange(size) % len(clips)
            inputs: dict[str, NDArray[Any]] = {"frames": clips.frames[rows]}
            if branch == "support" and reference.text is not None:
                inputs["text"] = reference.text[clips.class_index[rows]]
            for name, values in runner(branch, inputs).items():
                wanted = reference.outputs[f"{branch}/{name}"][rows]
                parity = compare(wanted, values.astype(np.float32))
                if not parity.min_cosine >= limit:
                    raise MismatchError(
                        f"{item.name}: {name} at batch {size} has {parity}, a cosine of at least "
                        f"{limit:g} wanted; nothing was kept, use another ",
                        option("batch"),
                        " or ",
                        option(engine="onnx"),
                    )
