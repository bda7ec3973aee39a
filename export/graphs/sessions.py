"""ONNX graphs run on ONNX Runtime's CPU provider, as they are or as a changed copy (no torch)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import onnxruntime
from numpy.typing import NDArray

from mafsar.errors import MismatchError
from mafsar.model.names import graph_file
from mafsar.runtime.engines.onnx_encoder import available_threads


class OnnxRunner:
    """Runs a bundle's graphs of one precision; each is opened when it is first used.

    Args:
        folder: The bundle.
        precision: "fp32", "fp16" or "int8".
    """

    def __init__(self, folder: Path, precision: str) -> None:
        self._folder, self._precision = folder, precision
        self._sessions: dict[str, onnxruntime.InferenceSession] = {}

    def __call__(self, branch: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Runs a branch: inputs by name → outputs by name."""
        if branch not in self._sessions:
            path = self._folder / graph_file(branch, self._precision)
            self._sessions[branch] = open_session(path)
        return _run(self._sessions[branch], inputs)


def open_session(path: Path) -> onnxruntime.InferenceSession:
    """Opens a graph on the CPU.

    Raises:
        MismatchError: ONNX Runtime opened it on another provider.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    options.intra_op_num_threads = available_threads()
    session = onnxruntime.InferenceSession(
        str(path), sess_options=options, providers=["CPUExecutionProvider"]
    )
    if session.get_providers() != ["CPUExecutionProvider"]:
        raise MismatchError(f"{path}: ONNX Runtime opened it on {session.get_providers()}")
    return session


def open_altered(path: Path, write: Callable[[Path], object]) -> onnxruntime.InferenceSession:
    """Opens a changed copy of a graph on the CPU.

    Args:
        path: The graph. The copy exists beside it until it is open, because ONNX Runtime looks for
            the weights file in the graph's folder.
        write: Called with the copy's path; writes it.
    """
    copy = path.with_name(f".{path.stem}.scan.onnx")
    try:
        write(copy)
        return open_session(copy)
    finally:
        copy.unlink(missing_ok=True)


def run_graph(path: Path, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Runs a graph once on the CPU: inputs by name → outputs by name."""
    return _run(open_session(path), inputs)


def _run(
    session: onnxruntime.InferenceSession, inputs: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))
