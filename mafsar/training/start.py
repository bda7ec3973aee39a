"""The start of a run: the network with its parts to tune, and the embedded class texts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from mafsar.choices import Scoring
from mafsar.errors import InputError, MafsarError, MismatchError, UnavailableError, option
from mafsar.model.config import AdapterConfig, ModelConfig
from mafsar.model.initial import random_state
from mafsar.model.names import given_path, parse_model_name
from mafsar.model.network import TUNABLE_PREFIXES, MafsarNetwork, empty_network
from mafsar.model.sources import create_network
from mafsar.runtime.engines.torch_encoder import TorchEncoder
from mafsar.training.config import TrainConfig, resolved_model


def start_network(config: TrainConfig) -> MafsarNetwork:
    """The towers that the configuration names, with new parts to tune.

    Adapters that come with the named weights are tuned further, unless `model.fresh` replaces them
    by new ones. The seed draws the new parts and never the towers: a run refers to its towers by
    name and hash, so `NAME:random` must always be the same network.

    Raises:
        MafsarError: The model is unknown, or its weights are not available here.
        MismatchError: Its adapters have other sizes than the configuration says.
    """
    name = _findable(config.model.name)
    found = create_network(name)
    own = found.config if ":" not in name else dataclasses.replace(found.config, name=name)
    network = empty_network(_model_config(own, config))
    state = random_state(network, config.seed, prefixes=TUNABLE_PREFIXES)
    shapes = {name: value.shape for name, value in network.state_dict().items()}
    for name, value in found.state_dict().items():
        if name not in shapes or (config.model.fresh and name.startswith(TUNABLE_PREFIXES)):
            continue
        if value.shape != shapes[name]:
            raise MismatchError(
                f"{config.model.name}: its trained {name} has shape {tuple(value.shape)}, but the "
                f"configuration needs {tuple(shapes[name])}; leave model.ratio and model.frames as "
                "they are, or set model.fresh to true for new adapters"
            )
        state[name] = value
    network.load_state_dict(state, assign=True)
    tuned = network.tunable_parameters()
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name in tuned)
    network.recompute = config.run.recompute
    return network


def embed_texts(encoder: TorchEncoder, texts: Sequence[str | None]) -> Tensor:
    """Raw embeddings of class texts, (C, E), on the encoder's device.

    Raises:
        UnavailableError: A class has no text, or the model has no tokenizer.
    """
    without = next((i for i, text in enumerate(texts) if text is None), None)
    if without is not None:
        raise UnavailableError(
            f"class {without} of {len(texts)} has only a number and no name; add its name to the "
            "lists, or train without class names by setting text to false"
        )
    try:
        rows = encoder.encode_text([text for text in texts if text is not None])
    except UnavailableError as error:
        # The rest of its message is about the arguments of enrolling and matching.
        reason = str(error).partition("; use ")[0]
        raise UnavailableError(
            f"{reason}; train without class names by setting text to false"
        ) from error
    return torch.from_numpy(rows).to(encoder.device)


def embed_texts_or_none(encoder: TorchEncoder, texts: Sequence[str | None]) -> Tensor | None:
    """`embed_texts` if every class has a text, else None."""
    return None if None in texts else embed_texts(encoder, texts)


def _findable(name: str) -> str:
    """The model's name with an absolute path, so that a run finds it from any folder.

    Raises:
        InputError: It is a folder or a file instead of a name.
    """
    if given_path(name) is not None and ":" not in name:
        raise InputError(
            option(model=name),
            ": a run refers to its towers by name; give the name of a model, as vit-b-16, "
            "NAME:/path/weights.safetensors or tiny",
        )
    try:
        parsed = parse_model_name(name)
    except MafsarError:
        return name
    if parsed.source in ("file", "local-dir"):
        path = Path(parsed.value).expanduser().resolve()
        return str(dataclasses.replace(parsed, value=str(path)))
    return name


def _model_config(found: ModelConfig, config: TrainConfig) -> ModelConfig:
    fields = resolved_model(config.model)
    if fields.tune == "adapters" and not found.has_tokens:
        raise InputError(
            f"model.tune=adapters: {config.model.name} has a ResNet, which has no tokens to adapt; "
            "use model.tune=full"
        )
    parts = dataclasses.replace(
        found.adapters or AdapterConfig(),
        ratio=fields.ratio,
        joint_scale=fields.joint_scale,
        gta=fields.gta,
        lma=fields.lma,
        lma_text=fields.lma_text and config.text,
        joint=fields.joint,
        temporal=fields.temporal,
        tpcm=bool(fields.tpcm),
    )
    adapters: AdapterConfig | None = parts
    if fields.tune == "full":
        adapters = parts.prototypes_only() if fields.tpcm else None
    match = Scoring(
        metric=config.metric,
        lam=config.lam,
        alpha=(config.alpha or 0.0) if config.text else 0.0,
        visual_scale=config.visual_scale,
        text_scale=found.match.text_scale,
    )
    return dataclasses.replace(
        found,
        adapters=adapters,
        fully_tuned=fields.tune == "full",
        match=match,
        frames=fields.frames,
        prompts=fields.prompts or found.prompts,
    )
