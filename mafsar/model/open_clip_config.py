"""Reads open_clip's model configurations, without importing open_clip or torch.

Models that the method cannot adapt are refused with the reason.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mafsar.documents import parse_json, read_text, record
from mafsar.errors import InputError, MissingError, UnavailableError
from mafsar.model.config import (
    CLIP_MEAN,
    CLIP_STD,
    Activation,
    ModelConfig,
    ResNetConfig,
    TextConfig,
    VisionConfig,
    named_config,
)
from mafsar.model.config_layout import OPEN_CLIP, OPEN_CLIP_PIXELS, check_open_clip_towers
from mafsar.model.names import OPEN_CLIP_NAMES, SHIPPED, ModelName

_CONFIG_FILE = "open_clip_config.json"
# Settings with the one value that a plain vision transformer with a class token has.
_PLAIN_VISION: dict[str, Any] = {
    "ls_init_value": None,
    "attentional_pool": False,
    "no_ln_pre": False,
    "pos_embed_type": "learnable",
    "final_ln_after_pool": False,
    "pool_type": "tok",
}
_PLAIN_TEXT: dict[str, Any] = {
    "ls_init_value": None,
    "embed_cls": False,
    "no_causal_mask": False,
    "pool_type": "argmax",
    "proj_bias": False,
    "proj_type": "linear",
    "final_ln_after_pool": False,
    "hf_tokenizer_name": None,
}
_PLAIN_BOTH: dict[str, Any] = {
    "act_kwargs": None,
    "norm_kwargs": None,
    "block_type": None,
    "qk_norm": False,
    "scaled_cosine_attn": False,
    "scale_heads": False,
    "scale_attn_inner": False,
    "scale_attn": False,
    "scale_fc": False,
}


def config_of(name: ModelName) -> ModelConfig:
    """Returns the configuration of a model, with the parts that training tunes; downloads nothing.

    Args:
        name: Any name but `hf-hub:`, whose configuration is on the hub.

    Raises:
        InputError: A name that neither mafsar nor the installed open_clip knows.
        MissingError: A `local-dir:` without a configuration.
        UnavailableError: A tower that is not supported, with the reason, or open_clip is not
            installed.
    """
    if name.source == "hf-hub":
        raise UnavailableError(
            f"{name}: its configuration is on the hub; download it and use local-dir:FOLDER"
        )
    if name.source == "local-dir":
        path = Path(name.value).expanduser() / _CONFIG_FILE
        if not path.is_file():
            hint = "give the folder of an open_clip model"
            if (path.with_name("config.json")).is_file():
                hint = (
                    "a folder of Hugging Face's transformers is read by its file: "
                    f"NAME:{path.with_name('model.safetensors')}, as vit-b-32 or ViT-B-32 for NAME"
                )
            raise MissingError(f"{name}: {path} does not exist; {hint}")
        try:
            return from_open_clip_json(parse_json(read_text(path), "the file"), str(name))
        except InputError as error:
            raise InputError(f"{path}: ", error) from error
    if name.base in (*OPEN_CLIP_NAMES, SHIPPED):
        return named_config(name.base)
    return from_open_clip_json(_installed_json(name), name.base)


def from_open_clip_json(document: Mapping[str, Any], name: str) -> ModelConfig:
    """Reads an open_clip configuration, bare or with `model_cfg` and `preprocess_cfg`.

    Raises:
        UnavailableError: A tower that is not supported, with the reason.
    """
    record({}, open_to_more=True)(document, "the configuration")
    model = document.get("model_cfg", document)
    pixels = document.get("preprocess_cfg", {})
    OPEN_CLIP(model, "model_cfg")
    OPEN_CLIP_PIXELS(pixels, "preprocess_cfg")
    vision, text = dict(model["vision_cfg"]), dict(model["text_cfg"])
    _refuse_towers(name, vision, text, whole=model)
    check_open_clip_towers(vision, text)
    activation: Activation = "quickgelu" if model.get("quick_gelu") else "gelu"
    config = ModelConfig(
        name=name,
        embed_dim=model["embed_dim"],
        vision=_vision(vision, activation),  # type: ignore[arg-type]
        text=TextConfig(
            width=text.get("width", 512),
            layers=text.get("layers", 12),
            heads=text.get("heads", 8),
            context_length=text.get("context_length", 77),
            vocab_size=text.get("vocab_size", 49408),
            mlp_ratio=text.get("mlp_ratio", 4.0),
            activation=activation,
        ),
        adapters=None,
    )
    return with_pixels(config.tunable(), pixels)


def _vision(values: Mapping[str, Any], activation: Activation) -> VisionConfig | ResNetConfig:
    width, head_width = values.get("width", 768), values.get("head_width", 64)
    image_size = values.get("image_size", 224)
    if isinstance(values.get("layers"), list):
        return ResNetConfig(tuple(values["layers"]), width, image_size, head_width)
    return VisionConfig(
        width=width,
        layers=values.get("layers", 12),
        heads=width // head_width,
        patch_size=values.get("patch_size", 16),
        image_size=image_size,
        mlp_ratio=values.get("mlp_ratio", 4.0),
        activation=activation,
    )


def with_pixels(config: ModelConfig, pixels: Mapping[str, Any]) -> ModelConfig:
    """The configuration with the pixel statistics that its weights were trained with.

    Raises:
        UnavailableError: The weights need another way of resizing.
    """
    for key, value in (("interpolation", "bicubic"), ("resize_mode", "shortest")):
        if pixels.get(key, value) != value:
            raise UnavailableError(
                f"{config.name}: its images are resized with {key} = {pixels[key]}, but mafsar "
                f"supports only {value}; use one of {', '.join(OPEN_CLIP_NAMES)}"
            )
    mean, std = tuple(pixels.get("mean", CLIP_MEAN)), tuple(pixels.get("std", CLIP_STD))
    return dataclasses.replace(config, mean=mean, std=std)


def _refuse_towers(
    name: str, vision: Mapping[str, Any], text: Mapping[str, Any], *, whole: Mapping[str, Any]
) -> None:
    reason = None
    if vision.get("timm_model_name"):
        reason = f"its vision tower is timm's {vision['timm_model_name']}"
    elif text.get("hf_model_name"):
        reason = f"its text tower is {text['hf_model_name']} of transformers"
    elif whole.get("multimodal_cfg"):
        reason = "it has a third tower"
    elif not isinstance(vision.get("image_size", 224), int):
        reason = f"its images are not square: {vision['image_size']}"
    else:
        for tower, values, plain in (
            ("vision", vision, _PLAIN_VISION | _PLAIN_BOTH),
            ("text", text, _PLAIN_TEXT | _PLAIN_BOTH),
        ):
            for key, value in plain.items():
                if values.get(key, value) not in (value, {}) and reason is None:
                    reason = f"its {tower} tower has {key} = {values[key]}"
    if reason:
        raise UnavailableError(
            f"{name}: {reason}; mafsar supports CLIP's vision transformers with a class token and "
            f"its ResNets, such as {', '.join(OPEN_CLIP_NAMES)}"
        )


def _installed_json(name: ModelName) -> Mapping[str, Any]:
    """The configuration file of the installed open_clip."""
    spec = importlib.util.find_spec("open_clip")
    if spec is None or not spec.submodule_search_locations:
        raise UnavailableError(
            f"{name}: this name needs open_clip, which is not installed; "
            "pip install 'mafsar[train]'"
        )
    folder = Path(next(iter(spec.submodule_search_locations))) / "model_configs"
    path = folder / f"{name.base}.json"
    if not path.is_file():
        known = sorted(item.stem for item in folder.glob("*.json"))
        near = difflib.get_close_matches(name.base, known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else "see open_clip.list_models()"
        raise InputError(f"{name}: open_clip has no model {name.base!r}; {hint}")
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document
