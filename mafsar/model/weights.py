"""Weights by name: reads open_clip's state dicts and safetensors, writes safetensors, and hashes.

Nothing is unpickled. A missing or an extra key is an error that lists it, because a half-loaded
network gives features that look right.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mafsar.documents import parse_json
from mafsar.errors import InputError, MismatchError, MissingError
from mafsar.model.config import ModelConfig
from mafsar.model.foreign import as_open_clip, unreadable
from mafsar.model.network import TUNABLE_PREFIXES, MafsarNetwork, empty_network

_LISTED = 8
# Prefixes that belong to the text tower in a flat CLIP state dict.
_FLAT_TEXT = (
    "transformer.",
    "token_embedding.",
    "ln_final.",
    "positional_embedding",
    "text_projection",
)
# Constants in some checkpoints; they are in the configuration or computed.
_CONSTANTS = ("input_resolution", "context_length", "vocab_size", "attn_mask", "text.attn_mask")


def from_open_clip(state: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """Renames the tensors of an open_clip state dict (3.x or 4.x, flat or with a `text.` prefix).

    Args:
        state: Tensors by open_clip's names or those of `mafsar.model.foreign`, any float dtype.
        config: The configuration that they must fit; its adapters are ignored.

    Returns:
        The towers' tensors by the names of `MafsarNetwork`, float32.

    Raises:
        MismatchError: Keys that are missing or extra, or tensors of another shape.
    """
    renamed: dict[str, Tensor] = {}
    for name, value in _joined_projections(as_open_clip(state)).items():
        if name in _CONSTANTS or name.endswith(".num_batches_tracked"):
            continue
        name = f"text.{name}" if name.startswith(_FLAT_TEXT) else name
        renamed[name] = value.reshape(()) if name == "logit_scale" else value
    shapes = {
        name: value.shape for name, value in empty_network(config.plain()).state_dict().items()
    }
    check_keys(renamed, shapes, what=f"weights of {config.name}")
    return {name: renamed[name].detach().float().contiguous() for name in shapes}


def _joined_projections(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Joins q, k and v if a checkpoint stores them separately."""
    joined: dict[str, Tensor] = {}
    for key, value in state.items():
        if ".attn.q_proj." in key:
            kind = key.rsplit(".", 1)[1]
            parts = [key.replace(".q_proj.", f".{part}_proj.") for part in "qkv"]
            if all(part in state for part in parts):
                together = torch.cat([state[part] for part in parts])
                joined[key.replace(f".q_proj.{kind}", f".in_proj_{kind}")] = together
                continue
        elif ".attn.k_proj." in key or ".attn.v_proj." in key:
            query = key.replace(".k_proj.", ".q_proj.").replace(".v_proj.", ".q_proj.")
            if query in state:
                continue
        joined[key] = value
    return joined


def check_keys(found: Mapping[str, Tensor], wanted: Mapping[str, torch.Size], *, what: str) -> None:
    """Checks names and shapes.

    Raises:
        MismatchError: Lists missing and extra names and the first tensor of another shape.
    """
    problems = []
    for word, names in (
        ("missing", [name for name in wanted if name not in found]),
        ("extra", [name for name in found if name not in wanted]),
    ):
        if names:
            more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
            problems.append(f"{len(names)} {word}: {', '.join(names[:_LISTED])}{more}")
    if not problems:
        problems = [
            f"{name} has shape {tuple(found[name].shape)}, needs {tuple(shape)}"
            for name, shape in wanted.items()
            if found[name].shape != shape
        ][:1]
    if problems:
        raise MismatchError(
            f"{what}: keys do not fit the network ({'; '.join(problems)}); "
            "check the model's name and configuration"
        )


def save_weights(network: MafsarNetwork, path: Path, *, tunable_only: bool = False) -> None:
    """Writes a network's weights and configuration as safetensors; the file appears when complete.

    Args:
        network: The network.
        path: The file, `.safetensors`.
        tunable_only: Write only the tuned parts; the towers are then identified by their hash.
    """
    state = {
        name: value.detach().cpu().contiguous()
        for name, value in network.state_dict().items()
        if not tunable_only or name.startswith(TUNABLE_PREFIXES)
    }
    metadata = {
        "format": "mafsar-weights-1",
        "config": json.dumps(network.config.to_json(), sort_keys=True),
        "base_sha256": base_sha256(network),
    }
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        save_file(state, beside, metadata=metadata)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def load_weights(network: MafsarNetwork, path: Path, *, tunable_only: bool = False) -> None:
    """Fills a network from a file that `save_weights` wrote.

    Raises:
        MissingError: No such file.
        InputError: Not a safetensors file.
        MismatchError: Keys that are missing or extra, or adapters that were trained on other
            towers.
    """
    state, metadata = read_safetensors(path)
    own = network.state_dict()
    wanted = {
        name: value.shape
        for name, value in own.items()
        if not tunable_only or name.startswith(TUNABLE_PREFIXES)
    }
    check_keys(state, wanted, what=str(path))
    base = metadata.get("base_sha256")
    if tunable_only and base and base != base_sha256(network):
        raise MismatchError(
            f"{path}: these adapters were trained on other towers (hash {base[:12]}, here "
            f"{base_sha256(network)[:12]}); load the model they were trained on"
        )
    grad = {name: parameter.requires_grad for name, parameter in network.named_parameters()}
    filled = {name: state[name].to(own[name].dtype) for name in wanted}
    network.load_state_dict(filled, strict=not tunable_only, assign=own["logit_scale"].is_meta)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(grad[name])


def load_network(path: Path) -> MafsarNetwork:
    """Builds the network of a complete file that `save_weights` wrote, by its own configuration.

    Raises:
        MissingError: No such file.
        InputError: Not a safetensors file.
        MismatchError: A file without a configuration, or without the towers.
    """
    state, metadata = read_safetensors(path)
    if "config" not in metadata:
        raise MismatchError(
            f"{path}: contains no model configuration; name its model as NAME:{path}"
        )
    network = empty_network(config_in(path, metadata))
    shapes = {name: value.shape for name, value in network.state_dict().items()}
    check_keys(state, shapes, what=str(path))
    network.load_state_dict(state, assign=True)
    return network.eval()


def config_in(path: Path, metadata: Mapping[str, str]) -> ModelConfig:
    """The configuration in the metadata of a weights file.

    Raises:
        InputError: It is not one.
    """
    try:
        return ModelConfig.from_json(parse_json(metadata["config"], "its configuration"))
    except InputError as error:
        raise InputError(f"{path}: ", error) from error


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Reads tensors and metadata of a safetensors file.

    Raises:
        MissingError: No such file.
        InputError: Another format; of pickles and programs, the line that converts them.
    """
    if not path.is_file():
        raise MissingError(f"{path}: no such weights file")
    if path.suffix != ".safetensors":
        raise unreadable(path)
    try:
        with safe_open(path, framework="pt") as opened:
            names: list[str] = list(opened.keys())
            state = {name: opened.get_tensor(name) for name in names}
            metadata: dict[str, Any] = opened.metadata() or {}
    except (SafetensorError, OSError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not a safetensors file ({error}); copy it again") from error
    return state, metadata


def weights_sha256(network: MafsarNetwork) -> str:
    """Hash of all weights by name, shape, dtype and bytes; identifies the model of a bank or cache."""
    return _sha256(network.state_dict())


def base_sha256(network: MafsarNetwork) -> str:
    """Hash of the frozen towers only."""
    state = network.state_dict()
    return _sha256({k: v for k, v in state.items() if not k.startswith(TUNABLE_PREFIXES)})


def _sha256(state: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
