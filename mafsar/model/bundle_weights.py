"""A network from its bundle, by the names that the exporter gave the weights in the graphs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mafsar.errors import MismatchError, MissingError, UnavailableError
from mafsar.model.config import ModelConfig
from mafsar.model.names import MANIFEST, graph_file
from mafsar.model.network import MafsarNetwork, empty_network
from mafsar.model.weight_names import Array, gathered
from mafsar.model.weights import weights_sha256

_GRAPHS = tuple(graph_file(branch) for branch in ("support", "query", "text"))
_SCALE = "logit_scale"  # in no graph; the manifest has it to the last bit


def load_bundle_network(folder: Path) -> MafsarNetwork:
    """Builds the network that a bundle was exported from, in evaluation mode.

    Args:
        folder: The bundle.

    Raises:
        MissingError: No manifest, or no graphs.
        UnavailableError: onnx is not installed, or the graphs do not hold every parameter.
        MismatchError: The weights are not those of the manifest.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise MissingError(f"{path}: missing, so this is no bundle; copy it again")
    manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    config = manifest.get("config") or {}
    if "vision" not in config:
        raise UnavailableError(
            f"{folder}: says nothing of the sizes of its towers, so no torch network can be made "
            "of it; use --engine onnx"
        )
    network = empty_network(ModelConfig.from_json(config))
    if not network.config.has_tokens:
        raise UnavailableError(
            f"{folder}: its graphs hold a ResNet whose batch norms are folded into its "
            "convolutions, so no torch network can be made of them; use --engine onnx, or the run "
            "or the name that it was exported from"
        )
    held = _initializers(folder)
    state: dict[str, Tensor] = {}
    for name, value in network.state_dict().items():
        if name == _SCALE and _SCALE in manifest:
            state[name] = torch.tensor(manifest[_SCALE], dtype=torch.float32)
            continue
        found = gathered(name, tuple(value.shape), held)
        if found is None:
            raise UnavailableError(
                f"{folder}: its graphs do not hold {name} by its name (an older version exported "
                "it, or these weights were never trained), so no torch network can be made of "
                "them; use --engine onnx, or export it again"
            )
        state[name] = torch.from_numpy(found)
    network.load_state_dict(state, assign=True)
    # Bit by bit: a tensor that is transposed or taken from another block would give features that
    # look right.
    if weights_sha256(network) != manifest["weights_sha256"]:
        raise MismatchError(
            f"{folder}: the weights in its graphs are not those of its manifest; copy it again"
        )
    return network.eval()


def _initializers(folder: Path) -> dict[str, Array]:
    """The float tensors of all graphs by name."""
    try:
        import onnx
    except ImportError as error:
        raise UnavailableError(
            f"{folder}: reading weights out of its graphs needs onnx, not installed; "
            "pip install 'mafsar[train]'"
        ) from error
    held: dict[str, Array] = {}
    for path in (folder / name for name in _GRAPHS):
        if path.is_file():
            for tensor in onnx.load(str(path)).graph.initializer:
                if tensor.data_type == onnx.TensorProto.FLOAT:
                    held.setdefault(tensor.name, onnx.numpy_helper.to_array(tensor))
    if not held:
        raise MissingError(f"{folder}: holds no graph; copy it again")
    return held
