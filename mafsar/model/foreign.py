"""Weights of CLIP as other programs write them: recognised, and renamed as open_clip has them.

Hugging Face's `CLIPModel` splits the towers' projections, and names and transposes them otherwise.
Wrappers put `module.` (distributed training) or `_orig_mod.` (compiled) before each name. Files that
hold a pickle or a program are never opened; the error has the line that converts them.
"""

from __future__ import annotations

import re
import shlex
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from mafsar.documents import parse_json, read_text
from mafsar.errors import InputError, MismatchError
from mafsar.model.config import Activation

_WRAPPERS = ("module.", "_orig_mod.")
_TOWERS = {"vision_model": "visual.", "text_model": ""}
# Of Hugging Face's names, after the tower's own; the first that fits counts.
_RENAMES = (
    (r"embeddings\.patch_embedding\.weight", "conv1.weight"),
    (r"embeddings\.class_embedding", "class_embedding"),
    (r"embeddings\.position_embedding\.weight", "positional_embedding"),
    (r"embeddings\.token_embedding\.weight", "token_embedding.weight"),
    (r"pre_layrnorm\.(.*)", r"ln_pre.\1"),  # their spelling
    (r"post_layernorm\.(.*)", r"ln_post.\1"),
    (r"final_layer_norm\.(.*)", r"ln_final.\1"),
    (r"encoder\.layers\.(\d+)\.layer_norm([12])\.(.*)", r"transformer.resblocks.\1.ln_\2.\3"),
    (r"encoder\.layers\.(\d+)\.self_attn\.(.*)", r"transformer.resblocks.\1.attn.\2"),
    (r"encoder\.layers\.(\d+)\.mlp\.fc1\.(.*)", r"transformer.resblocks.\1.mlp.c_fc.\2"),
    (r"encoder\.layers\.(\d+)\.mlp\.fc2\.(.*)", r"transformer.resblocks.\1.mlp.c_proj.\2"),
)
_PROJECTIONS = {
    "visual_projection.weight": "visual.proj",
    "text_projection.weight": "text_projection",
}
_IDS = "embeddings.position_ids"  # a constant in files of older versions


def as_open_clip(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict by open_clip's names; one that has them already is returned without wrappers.

    Args:
        state: Tensors by the names of open_clip or of Hugging Face's `CLIPModel`, each name perhaps
            behind `module.` or `_orig_mod.`.

    Raises:
        MismatchError: A single tower of Hugging Face's, or one without its projection.
    """
    bare = {_unwrapped(name): value for name, value in state.items()}
    if not any(name.startswith(tuple(f"{tower}." for tower in _TOWERS)) for name in bare):
        return bare
    missing = [f"{tower}.…" for tower in _TOWERS if not any(n.startswith(tower) for n in bare)]
    missing += [name for name in _PROJECTIONS if name not in bare]
    if missing:
        raise MismatchError(
            f"weights by Hugging Face's names without {', '.join(missing)}: both towers and their "
            "projections are needed; save the whole CLIPModel"
        )
    found: dict[str, Tensor] = {}
    for name, value in bare.items():
        if name.endswith(_IDS):
            continue
        if name in _PROJECTIONS:
            found[_PROJECTIONS[name]] = value.T
            continue
        found[_renamed(name)] = value
    return found


def _unwrapped(name: str) -> str:
    while name.startswith(_WRAPPERS):
        name = name.split(".", 1)[1]
    return name


def _renamed(name: str) -> str:
    """Open_clip's name of one of Hugging Face's; an unknown one stays, and is refused as extra."""
    tower, _, rest = name.partition(".")
    if tower in _TOWERS:
        for pattern, new in _RENAMES:
            match = re.fullmatch(pattern, rest)
            if match:
                return _TOWERS[tower] + match.expand(new)
    return name


def unreadable(path: Path) -> InputError:
    """The error about a file that is not safetensors, with the line that converts it."""
    kind = _kind(path)
    if kind is None:
        return InputError(
            f"{path}: only safetensors weights are read, and this is neither these nor a file of "
            "torch; copy it again, or export it with safetensors.torch.save_file"
        )
    out = path.with_suffix(".safetensors").name
    if kind == "TorchScript":
        what, load = (
            "a TorchScript program",
            f"torch.jit.load({path.name!r}, map_location='cpu').state_dict()",
        )
    else:
        what = "a pickle"
        load = f"torch.load({path.name!r}, map_location='cpu', weights_only=True)"
    code = (
        f"import torch; from safetensors.torch import save_file; d = {load}; "
        "d = d.get('state_dict', d); "
        "save_file({k: v.clone().contiguous() for k, v in d.items() if hasattr(v, 'clone')}, "
        f"{out!r})"
    )
    return InputError(
        f"{path}: {what}, which can run code, so only safetensors weights are read; convert it in "
        f"its folder: python -c {shlex.quote(code)}"
    )


def _kind(path: Path) -> str | None:
    """ "TorchScript" or "pickle"; None for anything else."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
            return "TorchScript"
        return "pickle" if any(name.endswith("data.pkl") for name in names) else None
    with path.open("rb") as file:
        return "pickle" if file.read(2) in (b"\x80\x02", b"\x80\x04", b"\x80\x05") else None


def stated_activation(path: Path) -> Activation | None:
    """The activation that the configuration beside a weights file names, or None.

    Args:
        path: Weights; the configuration is Hugging Face's `config.json` or open_clip's own.
    """
    document = _read(path.with_name("open_clip_config.json"))
    model = document.get("model_cfg")
    if isinstance(model, dict):
        return "quickgelu" if model.get("quick_gelu") else "gelu"
    document = _read(path.with_name("config.json"))
    if document.get("model_type") != "clip":
        return None
    vision = document.get("vision_config")
    # Their default, which files may leave out.
    named = vision.get("hidden_act", "quick_gelu") if isinstance(vision, dict) else "quick_gelu"
    activations: dict[object, Activation] = {"quick_gelu": "quickgelu", "gelu": "gelu"}
    return activations.get(named)


def _read(path: Path) -> dict[str, Any]:
    try:
        document = parse_json(read_text(path), str(path))
    except InputError:
        return {}
    return document if isinstance(document, dict) else {}
