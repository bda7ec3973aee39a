"""Builds a network from its bundle, by the names that the exporter gave the weights in the graphs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mafsar.documents import number, optional, parse_json, read_text, record, sha256
from mafsar.errors import MismatchError, MissingError, UnavailableError, option
from mafsar.model.config import ModelConfig
from mafsar.model.names import MANIFEST, graph_file
from mafsar.model.network import MafsarNetwork, empty_network
from mafsar.model.weight_forms import Array, assembled
from mafsar.model.weights import weights_sha256

_MANIFEST = record(
    {"weights_sha256": sha256},
    {"config": optional(record({}, open_to_more=True)), "logit_scale": number()},
    open_to_more=True,
)
_GRAPHS = tuple(graph_file(branch) for branch in ("support", "query", "text"))
_SCALE = "logit_scale"  # in no graph; the manifest has it to the last bit


def load_bundle_network(folder: Path) -> MafsarNetwork:
    """Builds the network that a bundle was exported from, in evaluation mode.

    Args:
        folder: The bundle.

    Raises:
        MissingError: No manifest, or no graphs.
        UnavailableError: onnx is not installed, or the graphs do not contain every parameter.
        MismatchError: The weights differ from those that the manifest names.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise MissingError(f"{path}: missing, so this is not a complete bundle; copy it again")
    manifest: dict[str, Any] = parse_json(read_text(path), str(path))
    _MANIFEST(manifest, str(path))
    config = manifest.get("config") or {}
    if "vision" not in config:
        raise UnavailableError(
            f"{folder}: its manifest lacks the sizes of the towers, so no torch network can be built "
            "from it; use ",
            option(engine="onnx"),
        )
    network = empty_network(ModelConfig.from_json(config))
    if not network.config.has_tokens:
        raise UnavailableError(
            f"{folder}: its graphs contain a ResNet whose batch norms are folded into its "
            "convolutions, so no torch network can be built from them; use ",
            option(engine="onnx"),
            ", or the run folder or model name that it was exported from",
        )
    held = _initializers(folder)
    state: dict[str, Tensor] = {}
    for name, value in network.state_dict().items():
        if name == _SCALE and _SCALE in manifest:
            state[name] = torch.tensor(manifest[_SCALE], dtype=torch.float32)
            continue
        found = assembled(name, tuple(value.shape), held)
        if found is None:
            raise UnavailableError(
                f"{folder}: its graphs do not contain {name} by name (an older version exported "
                "them, or these weights were never trained), so no torch network can be built from "
                "them; use ",
                option(engine="onnx"),
                ", or export the model again",
            )
        state[name] = torch.from_numpy(found)
    network.load_state_dict(state, assign=True)
    # Compared bit by bit: a transposed tensor, or one of another block, would give features that
    # look right.
    if weights_sha256(network) != manifest["weights_sha256"]:
        raise MismatchError(
            f"{folder}: the weights in its graphs differ from its manifest; copy it again"
        )
    return network.eval()


def _initializers(folder: Path) -> dict[str, Array]:
    """Returns the float tensors of all graphs by name."""
    try:
        import onnx
    except ImportError as error:
        raise UnavailableError(
            f"{folder}: reading weights from its graphs needs onnx, which is not installed; "
            "pip install 'mafsar[train]'"
        ) from error
    held: dict[str, Array] = {}
    for path in (folder / name for name in _GRAPHS):
        if path.is_file():
            try:
                graph = onnx.load(str(path)).graph
            except Exception as error:  # protobuf's own kinds, and onnx's
                raise MismatchError(
                    f"{path}: not an ONNX graph ({str(error)[:200]}); copy the bundle again"
                ) from error
            for tensor in graph.initializer:
                if tensor.data_type == onnx.TensorProto.FLOAT:
                    held.setdefault(tensor.name, onnx.numpy_helper.to_array(tensor))
    if not held:
        raise MissingError(f"{folder}: contains no graphs; copy it again")
    return held
