"""Loads a network by its name: random, an open_clip tag, a file, a folder, or a trained run."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import logging
import math
import socket
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from mafsar.choices import Scoring
from mafsar.errors import InputError, MismatchError, MissingError, UnavailableError, option
from mafsar.model.bundle_weights import load_bundle_network
from mafsar.model.config import AdapterConfig, ModelConfig
from mafsar.model.fetching import may_fetch, nothing_fetched
from mafsar.model.foreign import stated_activation
from mafsar.model.initial import random_state
from mafsar.model.names import (
    ADAPTERS_FILE,
    MANIFEST,
    SHIPPED_BUNDLE,
    ModelName,
    backbone,
    parse_model_name,
)
from mafsar.model.network import (
    TUNABLE_PREFIXES,
    MafsarNetwork,
    build_network,
    empty_network,
)
from mafsar.model.open_clip_config import config_of, with_pixels
from mafsar.model.weights import (
    base_sha256,
    check_keys,
    config_in,
    from_open_clip,
    load_network,
    read_safetensors,
)

log = logging.getLogger(__name__)

_HUB_CONFIG = "open_clip_config.json"
_HUB_WEIGHTS = "open_clip_model.safetensors"


def create_network(name: str, *, seed: int = 0, adapters: bool = False) -> MafsarNetwork:
    """Loads the network with a model's name, in evaluation mode on the CPU.

    Args:
        name: See `mafsar.model.names.parse_model_name`.
        seed: For `NAME:random` and for new adapters.
        adapters: Add new adapters, for training, if the weights have none. Otherwise a CLIP is
            plain frozen CLIP.

    Raises:
        InputError: An unknown name or tag, or an activation that does not fit the tag.
        MissingError: A file or folder that does not exist.
        MismatchError: Weights that do not fit the network.
        UnavailableError: Towers that are not supported, or weights that cannot be downloaded.
    """
    parsed = parse_model_name(name)
    if parsed.source == "shipped":
        return load_bundle_network(SHIPPED_BUNDLE)
    if parsed.source == "file":
        state, metadata = read_safetensors(Path(parsed.value))
        if "config" in metadata:
            return _own_file(parsed, adapters=adapters, seed=seed)
        config = config_of(parsed)
        _check_activation(parsed, config)
    elif parsed.source == "random":
        config = dataclasses.replace(config_of(parsed), name=str(parsed))
        return build_network(config if adapters else config.plain(), seed=seed)
    elif parsed.source == "pretrained":
        config, path = _tagged(parsed)
        state, _ = read_safetensors(path)
    else:
        config, path = _folder(parsed)
        state, _ = read_safetensors(path)
    config = dataclasses.replace(config, name=str(parsed))
    towers = from_open_clip(state, config)
    config = _with_text_scale(config if adapters else config.plain(), towers)
    return _assemble(config, towers, seed)


def load_trained(path: Path) -> MafsarNetwork:
    """Loads the network of a run folder, of a weights file of a run, or of a bundle.

    A file of adapters names the towers that it was trained on by their hash; they are loaded too.

    Args:
        path: A folder with `adapters.safetensors`, a file that `save_weights` wrote, or a bundle.

    Raises:
        MissingError: No such file.
        MismatchError: The model that the file names has other towers here than the adapters were
            trained on, or a file without a configuration.
        UnavailableError: The file names a model of the hub that is not on this machine.
    """
    if (path / MANIFEST).is_file():
        return load_bundle_network(path)
    path = path / ADAPTERS_FILE if path.is_dir() else path
    state, metadata = read_safetensors(path)
    if "config" not in metadata:
        raise MismatchError(
            f"{path}: contains no model configuration; name its model as NAME:{path}"
        )
    if any(name.startswith("text.") for name in state):
        return load_network(path)
    config = config_in(path, metadata)
    # An open_clip tag is one of a list; any hub name could be in a file.
    with nothing_fetched() if config.name.startswith("hf-hub:") else contextlib.nullcontext():
        base = create_network(config.name)
    if base_sha256(base) != metadata.get("base_sha256"):
        raise MismatchError(
            f"{path}: was trained on other weights than {config.name} has here; "
            "name the weights it was trained on as NAME:/path/weights.safetensors"
        )
    network = _assemble(config, base.state_dict(), seed=0)
    # A fully tuned vision tower replaces the one that it started from.
    tuned = {name: value.shape for name, value in network.tunable_parameters().items()}
    check_keys(state, tuned, what=str(path))
    network.load_state_dict(state, strict=False)
    return network.eval()


def _assemble(config: ModelConfig, towers: dict[str, Tensor], seed: int) -> MafsarNetwork:
    """Builds a network from towers with values, with new adapters if the configuration has them."""
    network = empty_network(config)
    fresh = random_state(network, seed, prefixes=TUNABLE_PREFIXES)
    towers = {k: v for k, v in towers.items() if not k.startswith(TUNABLE_PREFIXES)}
    network.load_state_dict(towers | fresh, assign=True)
    return network.eval()


def _with_text_scale(config: ModelConfig, towers: dict[str, Tensor]) -> ModelConfig:
    """The configuration with the towers' trained temperature, within CLIP's own limit of 100."""
    scale = round(min(math.exp(float(towers["logit_scale"])), 100.0), 4)
    match = dataclasses.replace(config.match, text_scale=scale)
    return dataclasses.replace(config, match=match)


def _own_file(name: ModelName, *, adapters: bool, seed: int) -> MafsarNetwork:
    network = load_network(Path(name.value))
    if backbone(network.config.name) != name.base:
        raise MismatchError(
            f"{name.value}: contains {backbone(network.config.name)}, not {name.base}; "
            f"use {backbone(network.config.name)}:{name.value}"
        )
    if adapters and network.config.adapters is None:
        config = dataclasses.replace(
            network.config, name=str(name), adapters=AdapterConfig(), match=Scoring()
        )
        towers = network.state_dict()
        return _assemble(_with_text_scale(config, towers), towers, seed)
    return network


def _tagged(name: ModelName) -> tuple[ModelConfig, Path]:
    """Configuration and weights file of an open_clip tag, downloaded unless it is cached."""
    try:
        from open_clip.pretrained import (
            get_pretrained_cfg,
            list_pretrained_models_by_tag,
            list_pretrained_tags_by_model,
        )
    except ImportError as error:
        raise UnavailableError(
            f"{name}: finding these weights needs open_clip, which is not installed; "
            "pip install 'mafsar[train]'"
        ) from error
    config, tag = config_of(name), name.value
    details: dict[str, Any] = get_pretrained_cfg(name.open_clip, tag)
    relative = name.open_clip.removesuffix("-quickgelu")
    relative += "" if relative != name.open_clip else "-quickgelu"
    wanted = config.text.activation
    if not details and relative in list_pretrained_models_by_tag(tag):
        found = "gelu" if wanted == "quickgelu" else "quickgelu"
        raise _activation_error(name, wanted, found, relative)
    if not details:
        tags = list_pretrained_tags_by_model(name.open_clip)
        near = difflib.get_close_matches(tag, tags, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"tags: {', '.join(tags) or 'none'}"
        raise InputError(f"{name}: open_clip has no weights {tag!r} for {name.open_clip}; {hint}")
    found = "quickgelu" if details.get("quick_gelu") else "gelu"
    if found != wanted:
        raise _activation_error(name, wanted, found, relative)
    repository, _, file = str(details.get("hf_hub", "")).rpartition("/")
    if not repository:
        raise UnavailableError(
            f"{name}: these weights are published as a pickle only, and a pickle can run code; "
            f"convert them and use {name.base}:/path/weights.safetensors"
        )
    file = str(Path(file).with_suffix(".safetensors")) if file else _HUB_WEIGHTS
    return with_pixels(config, details), _download(name, repository, file)


def _check_activation(name: ModelName, config: ModelConfig) -> None:
    """Compares a file's activation with the name's, where a configuration beside it has one.

    Raises:
        InputError: They differ.
    """
    wanted = config.text.activation
    relative = name.open_clip.removesuffix("-quickgelu")
    relative += "" if relative != name.open_clip else "-quickgelu"
    found = stated_activation(Path(name.value))
    if found is None:
        log.warning(
            "%s: the file does not say which activation it was trained with, and %s computes %s; if "
            "it needs the other one (OpenAI's weights need quickgelu, most others gelu), use %s:%s",
            name.value, name.base, wanted, relative, name.value,
        )  # fmt: skip
    elif found != wanted:
        raise _activation_error(name, wanted, found, relative)


def _activation_error(name: ModelName, wanted: str, found: str, relative: str) -> InputError:
    return InputError(
        f"{name}: {name.open_clip} computes {wanted}, but the weights {name.value!r} were trained "
        f"with {found}; use {relative}:{name.value}"
    )


def _folder(name: ModelName) -> tuple[ModelConfig, Path]:
    """Configuration and weights file of `local-dir:` or `hf-hub:`."""
    if name.source == "hf-hub":
        folder = _download(name, name.value, _HUB_CONFIG).parent
        weights = _download(name, name.value, _HUB_WEIGHTS)
        return config_of(ModelName("", "local-dir", str(folder))), weights
    folder = Path(name.value).expanduser()
    config = config_of(name)
    files = sorted(folder.glob("*.safetensors"))
    preferred = [path for path in files if path.name == _HUB_WEIGHTS] or files
    if len(preferred) != 1:
        found = ", ".join(path.name for path in files) or "none"
        raise MissingError(
            f"{name}: needs one weights file {_HUB_WEIGHTS} in {folder}, found {found}"
        )
    return config, preferred[0]


def _download(name: ModelName, repository: str, file: str) -> Path:
    """Returns a file of the hub, from its cache or over the network."""
    advice = (
        f"give a local copy as {name.base or 'NAME'}:/path/{_HUB_WEIGHTS}, or use "
        f"{name.base or 'vit-b-32'}:random for shapes and speed"
    )
    try:
        from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
    except ImportError as error:
        raise UnavailableError(
            f"{name}: huggingface_hub is not installed; pip install 'mafsar[train]'"
        ) from error
    cached = try_to_load_from_cache(repository, file)
    if isinstance(cached, str):
        return Path(cached)
    if not may_fetch():
        raise UnavailableError(
            f"{name}: {file} of {repository} is not on this machine, and nothing is downloaded for a "
            "name that a file gives; to do so, name it with ",
            option(model=str(name)),
        )
    # The hub's client would retry a host that does not resolve for half a minute.
    host = urllib.parse.urlsplit(constants.ENDPOINT).hostname or ""
    if not urllib.request.getproxies() and not _resolves(host):
        raise UnavailableError(
            f"{name}: {file} of {repository} is not in the hub's cache, and {host} cannot be "
            f"reached; {advice}"
        )
    try:
        with _silent_hub():
            return Path(hf_hub_download(repository, file))
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UnavailableError(
            f"{name}: {file} of {repository} could not be downloaded ({reason}); {advice}"
        ) from error


def _resolves(host: str) -> bool:
    try:
        socket.getaddrinfo(host, 443)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _silent_hub() -> Iterator[None]:
    """Hides the hub client's retry messages; the error contains the last reason."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
