"""One adapted encoder in several programs, and the bundles that `encoders.py` times."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mafsar.errors import InputError, MafsarError
from mafsar.export.graphs.network_bundle import export_bundle, write_tokenizer
from mafsar.export.job import export_model
from mafsar.model.network import MafsarNetwork
from mafsar.model.sources import create_network
from mafsar.runtime.engines.bundle import Bundle
from mafsar.runtime.engines.onnx_encoder import OnnxEncoder
from mafsar.runtime.engines.openvino_encoder import OpenVinoEncoder

Frames = NDArray[np.uint8]
Side = Callable[[Frames], NDArray[np.float32]]  # (B, T, S, S, 3) → features (B, T, E)


def adapted_network(name: str) -> MafsarNetwork:
    """An adapted CLIP with random weights; its adapters too, which are born as zeros."""
    network = create_network(f"{name}:random", adapters=True)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.tunable_parameters().values():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    return network


def adapted_bundle(name: str, network: MafsarNetwork, work: Path) -> Bundle:
    """Its bundle, made where `work` has none yet; with int8 graphs where they can be made."""
    path = work / f"adapted-{name}.mafsar"
    if not path.exists():
        with tempfile.TemporaryDirectory() as folder:
            tokenizer = write_tokenizer(network, Path(folder) / "tokenizer.json")
            export_bundle(network, tokenizer, path)
    if "int8" not in Bundle.open(path).precisions():
        try:
            export_model(path, precision="int8", verify=False)
        except InputError:
            raise
        except MafsarError as error:
            print(f"{name}: no int8 graphs ({error})")
    return Bundle.open(path)


def ours(bundle: Bundle, threads: int, precision: str = "fp32") -> tuple[OnnxEncoder, Side]:
    """The bundle as `mafsar match` runs it on a CPU."""
    encoder = OnnxEncoder(bundle, device="cpu", precision=precision, threads=threads)
    return encoder, lambda frames: encoder.encode_query(frames).frames


def ours_on_openvino(bundle: Bundle, threads: int) -> Side | None:
    """The bundle as `mafsar match --engine openvino` runs it; None where OpenVINO is not."""
    if importlib.util.find_spec("openvino") is None:
        return None
    encoder = OpenVinoEncoder(bundle, threads=threads, cache=False)
    return lambda frames: encoder.encode_query(frames).frames


def torch_eager(network: MafsarNetwork) -> Side:
    """The network as it is."""

    def run(frames: Frames) -> NDArray[np.float32]:
        with torch.inference_mode():
            return network.encode_query(torch.from_numpy(frames))[0].numpy()

    return run


def torch_compiled(network: MafsarNetwork) -> Side:
    """The network through inductor, one fixed batch."""
    compiled = torch.compile(network.encode_query, dynamic=False)

    def run(frames: Frames) -> NDArray[np.float32]:
        with torch.inference_mode():
            return compiled(torch.from_numpy(frames))[0].numpy()

    return run


def openvino(bundle: Bundle, threads: int) -> Side | None:
    """The bundle's own fp32 query graph in OpenVINO, computed in float32; None where it is not.

    A yardstick only: left to itself it would compute in bfloat16 on some processors.
    """
    if importlib.util.find_spec("openvino") is None:
        return None
    from openvino import Core

    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
    }
    core = Core()
    compiled = core.compile_model(str(bundle.graph("query", "fp32")), "CPU", settings)
    request = compiled.create_infer_request()
    output = compiled.output("features")
    return lambda frames: np.array(request.infer({"frames": frames})[output])
