"""Writes a network as a bundle: ONNX graphs that share one weights file, tokenizer, manifest."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mafsar.errors import InputError, MismatchError, MissingError, UnavailableError, option
from mafsar.export.bundle_draft import describe_file
from mafsar.export.bundle_folder import replace_folder
from mafsar.export.graphs.sessions import run_graph
from mafsar.export.graphs.tokenizer import CLIP_VOCABULARY, write_clip_tokenizer
from mafsar.export.graphs.trace import example_inputs, graph_specs, trace
from mafsar.export.graphs.weight_store import WeightStore
from mafsar.export.thresholds import thresholds
from mafsar.export.versions import CLIP, GRAPHS, NETWORK, made_by
from mafsar.model.config import parameter_counts
from mafsar.model.names import (
    MANIFEST,
    SHIPPED,
    SHIPPED_BUNDLE,
    TOKENIZER_FILE,
    backbone,
    given_path,
    graph_file,
)
from mafsar.model.network import MafsarNetwork
from mafsar.model.sources import create_network, load_trained
from mafsar.model.weights import weights_sha256
from mafsar.runtime.engines.bundle import temporal_contract
from mafsar.runtime.engines.parity import Parity, compare
from mafsar.runtime.engines.torch_encoder import known_words

SCHEMA = 1
MIN_COSINE = 0.9999
_BATCHES = (1, 3)  # batch sizes of the verification; neither is that of the trace


def export_bundle(
    network: MafsarNetwork,
    tokenizer_json: str | Path,
    out: Path,
    *,
    extra: dict[str, Any] | None = None,
    overwrite: bool = False,
) -> Path:
    """Writes a bundle and verifies it against the network on the same pixels.

    The folder is written beside `out` and renamed when it is complete.

    Args:
        network: On any device, in any mode; a float32 copy on the CPU is exported.
        tokenizer_json: The text tower's tokenizer, a file of the `tokenizers` library.
        out: The folder to make, `NAME.mafsar`.
        extra: Manifest entries that replace the defaults: `known_words`, `notice`, `match`,
            `backbone`, and entries that the caller adds.
        overwrite: Replace an existing bundle.

    Returns:
        `out`.

    Raises:
        InputError: `out` exists and `overwrite` is off.
        MissingError: No such tokenizer file.
        MismatchError: ONNX Runtime's features differ from torch's.
        UnavailableError: The exporter failed.
    """
    out, tokenizer = Path(out), Path(tokenizer_json)
    if out.exists() and not overwrite:
        raise InputError(f"{out}: exists already; add ", option(overwrite=True), " to replace it")
    if not tokenizer.is_file():
        raise MissingError(f"{tokenizer}: no such tokenizer file")
    # A copy, so that the caller's network keeps its device, mode and dtype.
    network = copy.deepcopy(network).cpu().float().eval()
    beside = out.with_name(f".{out.name}.{os.getpid()}.part")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        _write_graphs(network, beside)
        shutil.copyfile(tokenizer, beside / TOKENIZER_FILE)
        parity = verify_bundle(network, beside)
        manifest = bundle_manifest(network, beside, parity) | dict(extra or {})
        manifest["config"]["match"] = manifest["match"]
        text = json.dumps(manifest, indent=1, ensure_ascii=False, allow_nan=False)
        (beside / MANIFEST).write_text(text + "\n", encoding="utf-8")
        replace_folder(beside, out)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return out


def _write_graphs(network: MafsarNetwork, folder: Path) -> None:
    """Traces each graph and writes it, its large weights into the shared file."""
    with WeightStore(folder, "fp32") as store:
        for spec in graph_specs(network):
            store.write(trace(network, spec), graph_file(spec.name))


class TorchRunner:
    """Runs the network itself, the reference of its graphs: torch, float32, CPU."""

    def __init__(self, network: MafsarNetwork) -> None:
        self._specs = {spec.name: spec for spec in graph_specs(network)}

    def __call__(self, branch: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Runs a branch: inputs by name → outputs by name."""
        spec = self._specs[branch]
        tensors = [torch.from_numpy(np.ascontiguousarray(inputs[name])) for name in spec.inputs]
        with torch.inference_mode():
            outputs = spec.module(*tensors)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        return {name: out.numpy() for name, out in zip(spec.outputs, outputs, strict=True)}


def open_network(name: str, *, frames: int | None) -> tuple[MafsarNetwork, dict[str, Any]]:
    """Opens the network of a model for export.

    Args:
        name: As for `mafsar.load_model`, except bundles.
        frames: Frames per clip; None keeps the model's. Only a plain CLIP takes another number.

    Returns:
        The network, in evaluation mode on the CPU, and entries to add to the bundle's manifest.

    Raises:
        InputError: Trained adapters and another number of frames.
        MafsarError: No such model.
    """
    path = given_path(name)
    network = create_network(name) if path is None else load_trained(path)
    if frames is not None and frames != network.config.frames:
        if network.config.adapters is not None:
            raise InputError(
                option(frames=frames),
                f": {name} was trained with {network.config.frames} frames per clip and takes no "
                "other number; omit ",
                option("frames"),
            )
        network.config = dataclasses.replace(network.config, frames=frames)
    notice = None
    if name.endswith(":random"):
        notice = f"{name} has random weights: use it for shapes and speed, its answers mean nothing"
    words = known_words(network.config.name)
    extra = {"notice": notice, "known_words": None if words is None else sorted(words)}
    return network.cpu().float().eval(), extra


def write_tokenizer(network: MafsarNetwork, path: Path) -> Path:
    """Writes the tokenizer of a network's text tower.

    Raises:
        UnavailableError: The vocabulary is neither CLIP's nor the shipped model's.
    """
    config = network.config
    if config.text.vocab_size == CLIP_VOCABULARY:
        return write_clip_tokenizer(path)
    shipped = SHIPPED_BUNDLE / TOKENIZER_FILE
    if backbone(config.name) == SHIPPED and shipped.is_file():
        shutil.copyfile(shipped, path)
        return path
    raise UnavailableError(
        f"{config.name}: no tokenizer for its {config.text.vocab_size} tokens; "
        "export a model whose text tower is CLIP's"
    )


def verify_bundle(network: MafsarNetwork, folder: Path) -> Parity:
    """Compares every graph in ONNX Runtime with torch, on the same inputs and several batches.

    Raises:
        MismatchError: An output's smallest cosine is below 0.9999.
    """
    worst = Parity()
    for spec in graph_specs(network):
        path = folder / graph_file(spec.name)
        for batch in _BATCHES:
            inputs = example_inputs(network, spec, batch)
            with torch.no_grad():
                outputs = spec.module(*inputs)
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
            named = {k: v.numpy() for k, v in zip(spec.inputs, inputs, strict=True)}
            wanted = {k: v.numpy() for k, v in zip(spec.outputs, outputs, strict=True)}
            found = run_graph(path, named)
            for name, reference in wanted.items():
                parity = compare(reference, found[name])
                if not parity.min_cosine >= MIN_COSINE:
                    raise MismatchError(
                        f"{path.name}: output {name} differs from torch at batch {batch} "
                        f"({parity}, at least {MIN_COSINE} wanted); "
                        "try other versions of torch and onnxscript"
                    )
                worst = worst.worse(parity)
    return worst


def describe_model(network: MafsarNetwork) -> dict[str, Any]:
    """The manifest entries that identify the model of a bundle."""
    config = network.config
    return {
        "frames": config.frames,
        "image_size": config.input_size,
        "prompts": list(config.prompts),
        "match": config.match.to_json(),
        "weights_sha256": weights_sha256(network),
    }


def bundle_manifest(network: MafsarNetwork, folder: Path, parity: Parity) -> dict[str, Any]:
    """The content of `bundle.json` for a network and the files in `folder`."""
    config = network.config
    # For a plain CLIP, the number of parameters that training would tune, as `mafsar info` gives it.
    total, tunable = parameter_counts(config.tunable())
    tokenizer = {"file": TOKENIZER_FILE, "context_length": config.text.context_length}
    is_clip = config.text.vocab_size == CLIP_VOCABULARY
    return {
        "schema": SCHEMA,
        "name": config.name,
        "backbone": backbone(config.name),
        "adapters": "none" if config.adapters is None else "trained",
        "fully_tuned": config.fully_tuned,
        **describe_model(network),
        "embed_dim": config.feature_dim,
        "parameters_total": total,
        "parameters_tunable": tunable,
        "preprocess": {
            "size": config.input_size,
            "resample": "bicubic",
            "mean": list(config.mean),
            "std": list(config.std),
        },
        "text": True,
        "tokenizer": tokenizer,
        "known_words": None,
        "logit_scale": float(network.logit_scale),
        "files": {path.name: describe_file(path) for path in sorted(folder.iterdir())},
        "parity": {
            "against": "torch, float32, CPU",
            "batches": list(_BATCHES),
            "max_error": parity.max_error,
            "min_cosine": parity.min_cosine,
        },
        "temporal": temporal_contract(config.frames),
        "thresholds": thresholds(),
        "made_by": made_by(*NETWORK, *GRAPHS, *(CLIP if is_clip else ())),
        "notice": None,
        "config": config.to_json(),
    }
