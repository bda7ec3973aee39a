"""Bundles on OpenVINO, on the CPU; compiled graphs are kept in the cache."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mafsar.choices import EngineChoice, check_device
from mafsar.errors import InputError, Message, UnavailableError, option
from mafsar.extras import require
from mafsar.files import written_beside
from mafsar.runtime.cache.bundles import bundles_folder
from mafsar.runtime.cache.speeds import measured_speeds
from mafsar.runtime.encoder import Features, Float32
from mafsar.runtime.engines.bundle import Bundle
from mafsar.runtime.engines.graph_encoder import MAX_BATCH, GraphEncoder
from mafsar.runtime.engines.onnx_encoder import OnnxEncoder, available_threads, has_cuda_driver

_DIGEST_BYTES = hashlib.sha256().digest_size  # a kept graph starts with the sha256 of the rest


class OpenVinoEncoder(GraphEncoder):
    """A bundle on OpenVINO; follows `mafsar.runtime.encoder.Encoder`.

    Args:
        bundle: An opened bundle.
        device: "auto" or "cpu".
        precision: "fp32", "fp16" or "int8"; the bundle must have its graphs. Apart from int8's
            products, all is computed in float32.
        threads: CPU threads; None = OMP_NUM_THREADS, else one per core.
        cache: Whether compiled graphs are read from the cache and kept there.
        max_batch: Clips per run; longer calls are split.

    Raises:
        InputError: A number out of range, or an unknown device.
        UnavailableError: OpenVINO, the device or the precision is not available; says what to do.
    """

    engine = "openvino"
    device = "cpu"

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: str = "auto",
        precision: str = "fp32",
        threads: int | None = None,
        cache: bool = True,
        max_batch: int = MAX_BATCH,
    ) -> None:
        check_device(device)
        if device not in ("auto", "cpu"):
            raise UnavailableError(
                option(device=device),
                ": the openvino engine runs on the CPU; use ",
                option(device="cpu"),
                ", or ",
                option(engine="onnx"),
            )
        if threads is not None and threads < 1:
            raise InputError(f"threads must be ≥ 1, got {threads}")
        if max_batch < 1:
            raise InputError(f"max_batch must be ≥ 1, got {max_batch}")
        require(option(engine="openvino"), "openvino", extra="openvino")
        bundle.graph("query", precision)  # raises now if the precision is missing
        super().__init__(bundle, precision, max_batch)
        self.choice = Message.of("engine: openvino on cpu (as requested)")
        self._threads = threads or available_threads()
        self._cache = cache
        self._graphs: dict[str, Any] = {}
        self._one_at_a_time = threading.Lock()  # a compiled graph has one set of buffers
        # The text tower runs once per class: not worth compiling.
        self._words = OnnxEncoder(bundle, device="cpu", threads=threads)

    def __repr__(self) -> str:
        return f"OpenVinoEncoder({self.spec.name!r}, {self.precision})"

    def encode_text(self, texts: Sequence[str]) -> Float32:
        """Raw embeddings of class texts, (n, E): means over the model's prompts."""
        return self._words.encode_text(texts)

    def _run(self, branch: str, inputs: dict[str, Any]) -> Features:
        with self._one_at_a_time:
            # Inputs are read in place; outputs are copied, because the next call reuses them.
            found = self._graph(branch)(inputs, share_inputs=True)
        return Features(
            np.asarray(found["features"], np.float32), np.asarray(found["pooled"], np.float32)
        )

    def _graph(self, branch: str) -> Any:
        """The compiled graph of a branch, from the cache if it is there."""
        if branch not in self._graphs:
            import openvino

            core = openvino.Core()
            path = self.bundle.graph(branch, self.precision)
            settings = {
                "PERFORMANCE_HINT": "LATENCY",
                "NUM_STREAMS": "1",
                "INFERENCE_NUM_THREADS": self._threads,
                # The default on processors with bfloat16 products would be bfloat16.
                "INFERENCE_PRECISION_HINT": "f32",
                # A pinned thread waits for its core even when another one is free.
                "ENABLE_CPU_PINNING": False,
            }
            facts = {
                "openvino": openvino.__version__,
                "processor": core.get_property("CPU", "FULL_DEVICE_NAME"),
                "settings": settings,
                "graph": path.name,
                "files": {n: entry["sha256"] for n, entry in self.bundle.manifest["files"].items()},
            }
            key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
            # Beside the bundles, so that the cache's size, its cap and `clear` include it.
            kept = bundles_folder() / f".openvino-{key[:32]}" / "graph.blob"
            graph = self._read(core, kept, settings) if self._cache else None
            if graph is None:
                try:
                    graph = core.compile_model(core.read_model(path), "CPU", settings)
                except RuntimeError as error:
                    first = str(error).strip().splitlines()[-1]
                    raise UnavailableError(
                        f"{path}: OpenVINO {openvino.__version__} cannot open it ({first}); use ",
                        option(engine="onnx"),
                    ) from error
                if self._cache:
                    _write(graph, kept)
            self._graphs[branch] = graph
        return self._graphs[branch]

    @staticmethod
    def _read(core: Any, kept: Path, settings: dict[str, Any]) -> Any | None:
        """A kept graph, or None if there is none that is whole."""
        try:
            content = kept.read_bytes()
        except OSError:
            return None
        digest, blob = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        if hashlib.sha256(blob).digest() != digest:
            return None
        with contextlib.suppress(OSError):
            os.utime(kept.parent)  # the modification time orders the cache by last use
        try:
            return core.import_model(io.BytesIO(blob), "CPU", settings)
        except RuntimeError:
            return None


def _write(graph: Any, kept: Path) -> None:
    """Keeps a compiled graph; a cache that cannot be written is no error."""
    blob = graph.export_model().getvalue()
    with contextlib.suppress(OSError), written_beside(kept) as temporary:
        temporary.write_bytes(hashlib.sha256(blob).digest() + blob)


def openvino_missing(bundle: Bundle, choice: EngineChoice) -> Message | None:
    """None where OpenVINO was measured to be faster than ONNX Runtime here, else an empty message.

    It is empty because what ONNX Runtime says of its own device is of more use.
    """
    if importlib.util.find_spec("openvino") is None or choice.device not in ("auto", "cpu"):
        return Message.of()
    if choice.device == "auto" and has_cuda_driver():
        return Message.of()  # an engine that uses the GPU is faster
    speeds = _speeds(bundle, choice)
    if not {"onnx", "openvino"} <= speeds.keys() or speeds["openvino"] >= speeds["onnx"]:
        return Message.of()
    return None


def load_openvino(bundle: Bundle, choice: EngineChoice) -> OpenVinoEncoder:
    """Opens a bundle; says why if `engine="auto"` has chosen OpenVINO."""
    encoder = OpenVinoEncoder(
        bundle,
        device=choice.device,
        precision=choice.precision,
        threads=choice.threads,
        cache=choice.cache,
    )
    if choice.engine == "auto":
        speeds = _speeds(bundle, choice)
        faster = speeds["onnx"] / speeds["openvino"]
        encoder.choice = Message.of(
            f"engine: openvino on cpu ({faster:.2f}× as fast as onnx in mafsar bench here; ",
            option(engine="onnx"),
            " turns it off)",
        )
    return encoder


def _speeds(bundle: Bundle, choice: EngineChoice) -> dict[str, float]:
    threads = choice.threads or available_threads()
    return measured_speeds(bundle.spec.weights_sha256, choice.precision, threads)
