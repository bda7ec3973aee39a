"""A network as a bundle: ONNX graphs that share one weights file, a tokenizer and a manifest."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch
from mafsar.export.graph import example_inputs, graph_specs, trace
from mafsar.export.verify import Parity, compare, run_graph

import mafsar
from mafsar.errors import InputError, MismatchError, MissingError
from mafsar.model.config import parameter_counts
from mafsar.model.names import backbone
from mafsar.model.network import MafsarNetwork
from mafsar.model.weights import weights_sha256

SCHEMA = 1
WEIGHTS_FILE = "weights-fp32.bin"
MANIFEST_FILE = "bundle.json"
TOKENIZER_FILE = "tokenizer.json"
SHARED_FROM_BYTES = 1024  # smaller tensors stay inside the graphs
MIN_COSINE = 0.9999
_ALIGNMENT = 64  # bytes: a cache line, and every vector width
_BATCHES = (1, 3)  # that the graphs are verified with; neither is the batch they were traced with


def export_bundle(
    network: MafsarNetwork,
    tokenizer_json: str | Path,
    out: Path,
    *,
    extra: dict[str, Any] | None = None,
    overwrite: bool = False,
) -> Path:
    """Writes a bundle and verifies it against the network on the same pixels.

    The folder is made beside `out` and renamed when it is whole.

    Args:
        network: Any device and mode; a float32 copy on the CPU is exported.
        tokenizer_json: The text tower's tokenizer, a file of the `tokenizers` library.
        out: The folder to make, `NAME.mafsar`.
        extra: Manifest entries that replace the defaults: `known_words`, `notice`, `match`,
            `backbone`, and any that the caller adds.
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
        raise InputError(f"{out}: exists already; remove it or ask to overwrite it")
    if not tokenizer.is_file():
        raise MissingError(f"{tokenizer}: no such tokenizer file")
    # A copy: the caller's device, mode and dtype stay as they are.
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
        (beside / MANIFEST_FILE).write_text(text + "\n", encoding="utf-8")
        _replace(beside, out)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return out


def _write_graphs(network: MafsarNetwork, folder: Path) -> None:
    """Traces each graph and writes it, its large weights into the shared file."""
    stored: dict[str, int] = {}  # sha256 of dtype, shape and bytes → offset
    with (folder / WEIGHTS_FILE).open("wb") as file:
        for spec in graph_specs(network):
            model = trace(network, spec)
            for value in model.graph.initializers.values():
                tensor = value.const_value
                if tensor is None or tensor.nbytes < SHARED_FROM_BYTES:
                    continue
                data = tensor.tobytes()
                kind = f"{tensor.dtype.name} {list(tensor.shape)}\n"
                key = hashlib.sha256(kind.encode() + data).hexdigest()
                if key not in stored:
                    file.write(b"\0" * (-file.tell() % _ALIGNMENT))
                    stored[key] = file.tell()
                    file.write(data)
                value.const_value = ir.ExternalTensor(
                    WEIGHTS_FILE,
                    offset=stored[key],
                    length=len(data),
                    dtype=tensor.dtype,
                    shape=ir.Shape(list(tensor.shape.numpy())),
                    name=value.name or "",
                    base_dir=folder,
                )
            proto = ir.to_proto(model)
            path = folder / graph_file(spec.name)
            path.write_bytes(proto.SerializeToString(deterministic=True))


def verify_bundle(network: MafsarNetwork, folder: Path) -> Parity:
    """Compares every graph in ONNX Runtime with torch, on the same inputs and several batches.

    Raises:
        MismatchError: An output's smallest cosine is under 0.9999.
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


def bundle_manifest(network: MafsarNetwork, folder: Path, parity: Parity) -> dict[str, Any]:
    """What `bundle.json` says of a network and the files in `folder`."""
    config = network.config
    # A plain CLIP counts what training would tune, as its bare name does.
    total, tunable = parameter_counts(config.tunable())
    tokenizer = {"file": TOKENIZER_FILE, "context_length": config.text.context_length}
    match = config.match
    return {
        "schema": SCHEMA,
        "name": config.name,
        "backbone": backbone(config.name),
        "adapters": "none" if config.adapters is None else "trained",
        "frames": config.frames,
        "image_size": config.vision.image_size,
        "embed_dim": config.embed_dim,
        "parameters_total": total,
        "parameters_tunable": tunable,
        "preprocess": {
            "size": config.vision.image_size,
            "resample": "bicubic",
            "mean": list(config.mean),
            "std": list(config.std),
        },
        "text": True,
        "prompts": list(config.prompts),
        "tokenizer": tokenizer,
        "known_words": None,
        "match": {
            "metric": match.metric,
            "lam": match.lam,
            "alpha": match.alpha,
            "visual_scale": match.visual_scale,
            "text_scale": match.text_scale,
        },
        "weights_sha256": weights_sha256(network),
        "files": {path.name: _described(path) for path in sorted(folder.iterdir())},
        "parity": {
            "against": "torch, float32, CPU",
            "batches": list(_BATCHES),
            "max_error": parity.max_error,
            "min_cosine": parity.min_cosine,
        },
        "made_by": {
            "mafsar": mafsar.__version__,
            "torch": torch.__version__,
            "onnx": version("onnx"),
        },
        "notice": None,
        "config": config.to_json(),
    }


def graph_file(name: str) -> str:
    """File name of a graph in a bundle; the text tower has one precision only."""
    return "text.onnx" if name == "text" else f"{name}-fp32.onnx"


def _described(path: Path) -> dict[str, Any]:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return {"sha256": digest.hexdigest(), "bytes": path.stat().st_size}


def _replace(new: Path, out: Path) -> None:
    """Puts `new` in the place of `out`; a kill in between leaves one of them whole."""
    old = out.with_name(f".{out.name}.{os.getpid()}.old")
    if out.exists():
        out.rename(old)
    new.rename(out)
    if old.is_dir():
        shutil.rmtree(old)
    else:
        old.unlink(missing_ok=True)
