"""Engines of a draft on the GPU that they were built on, held to the reference (no torch)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mafsar.errors import MismatchError
from mafsar.export.engines.add import BuiltEngine
from mafsar.export.verify.clips import ClipSet
from mafsar.export.verify.compare import OnnxRunner, Outputs, compare
from mafsar.runtime.encoder import Float32
from mafsar.runtime.engines.trt_encoder import Device, load_engine
from mafsar.runtime.engines.trt_engine import TrtEngine


class EngineRunner:
    """`mafsar.export.verify.compare.Runner` on engines; class texts go through the text graph.

    Args:
        folder: The draft, with the graphs that the engines were built from.
        built: Its engines, one a branch.
        device: The GPU; None looks.
    """

    def __init__(
        self, folder: Path, built: Sequence[BuiltEngine], device: Device | None = None
    ) -> None:
        self._words = OnnxRunner(folder, "fp32")
        self._folder, self._built = folder, {item.entry["branch"]: item for item in built}
        self._device = device
        self._engines: dict[str, TrtEngine] = {}

    def __call__(self, branch: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Runs a branch."""
        if branch == "text":
            return self._words(branch, inputs)
        if branch not in self._engines:
            built = self._built[branch]
            device = self._device = self._device or Device.here(0)
            self._engines[branch] = load_engine(self._folder / built.name, built.entry, device)
        whole = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
        return self._engines[branch].run(whole)

    def close(self) -> None:
        """Gives the engines' buffers back."""
        for engine in self._engines.values():
            engine.close()
        self._engines.clear()


def check_buckets(
    runner: EngineRunner,
    built: Sequence[BuiltEngine],
    clips: ClipSet,
    text: Float32 | None,
    wanted: Outputs,
    limit: float,
) -> None:
    """Every batch size of every engine: each profile has kernels of its own.

    Args:
        runner: The engines.
        built: Their entries.
        clips: n clips; a larger batch is padded.
        text: Raw text embeddings of the classes, (C, E), or None.
        wanted: What the reference made of the clips, by `branch/output`.
        limit: Least cosine.

    Raises:
        MismatchError: A batch size gives something else.
    """
    for item in built:
        branch = item.entry["branch"]
        for bucket in item.entry["buckets"]:
            rows = slice(0, min(bucket, len(clips)))
            inputs: dict[str, NDArray[Any]] = {"frames": clips.frames[rows]}
            if branch == "support" and text is not None:
                inputs["text"] = text[clips.owners[rows]]
            for name, values in runner(branch, inputs).items():
                parity = compare(wanted[f"{branch}/{name}"][rows], values.astype(np.float32))
                if not parity.min_cosine >= limit:
                    raise MismatchError(
                        f"{item.name}: {name} at batch {bucket} has {parity}, a cosine of at least "
                        f"{limit:g} wanted; nothing was kept, use another --batch or --engine onnx"
                    )
