"""What a run starts from: the network with what is tuned, and its class texts embedded once."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from mafsar.choices import Scoring
from mafsar.errors import InputError, MafsarError, MismatchError, UnavailableError
from mafsar.model.config import AdapterConfig, ModelConfig
from mafsar.model.initial import random_state
from mafsar.model.names import parse_model_name
from mafsar.model.network import TUNABLE_PREFIXES, MafsarNetwork, empty_network
from mafsar.model.sources import create_network
from mafsar.runtime.engines.torch_encoder import TorchEncoder
from mafsar.training.config import TrainConfig, resolved_model


def start_network(config: TrainConfig) -> MafsarNetwork:
    """The towers that the configuration names, with fresh parts to tune.

    Adapters that the named weights bring are tuned further, unless `model.fresh` starts them anew.
    The seed draws what is fresh and never the towers: a run names its towers by name and hash, so
    `NAME:random` must be the same network whoever builds it.

    Raises:
        MafsarError: The model is unknown, or its weights cannot be had here.
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
                f"{config.model.name}: its trained {name} has shape {tuple(value.shape)}, and the "
                f"configuration wants {tuple(shapes[name])}; leave model.ratio and model.frames as "
                "they are, or start anew: model.fresh=true"
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
        UnavailableError: A class has no text, or the model no tokenizer; says what to do.
    """
    without = next((i for i, text in enumerate(texts) if text is None), None)
    if without is not None:
        raise UnavailableError(
            f"class {without} of {len(texts)} has only a number and no name; add its name to the "
            "lists, or train without class names: text=false"
        )
    try:
        rows = encoder.encode_text([text for text in texts if text is not None])
    except UnavailableError as error:
        reason = str(error).replace("use --text off", "train without class names: text=false")
        raise UnavailableError(reason) from error
    return torch.from_numpy(rows).to(encoder.device)


def embed_texts_or_none(encoder: TorchEncoder, texts: Sequence[str | None]) -> Tensor | None:
    """`embed_texts` where every class has a text, else None."""
    return None if None in texts else embed_texts(encoder, texts)


def _findable(name: str) -> str:
    """The model's name with an absolute path, so that a run folder finds it from anywhere.

    Raises:
        InputError: A folder or file where a name belongs.
    """
    if Path(name).expanduser().exists() and ":" not in name:
        raise InputError(
            f"--model {name}: a run keeps its towers by name; give the name of its model, as "
            "vit-b-16, NAME:/path/weights.safetensors or tiny"
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
