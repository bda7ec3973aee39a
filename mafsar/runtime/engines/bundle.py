"""Bundles: a model as a folder of graphs. Opening one checks its files against the manifest."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mafsar.choices import PRECISIONS, NonePrior, Scoring, ViewPrior
from mafsar.documents import parse_json, read_text, shortened
from mafsar.errors import (
    InputError,
    MismatchError,
    MissingError,
    Placeholder,
    UnavailableError,
    call,
    option,
)
from mafsar.files import file_sha256
from mafsar.model.names import BUNDLE_SUFFIX, MANIFEST, SHIPPED_BUNDLE, graph_file, weights_file
from mafsar.runtime.cache.room import mark_in_use
from mafsar.runtime.encoder import ModelSpec
from mafsar.runtime.engines.manifest import check_manifest
from mafsar.video.sampling import segment_times

SCHEMA = 1  # may get more entries: a bundle without them still opens
ENGINES_FOLDER = "engines"  # TensorRT's; the hash of an engine is checked when it is loaded
_ENGINE_NAME = re.compile(rf"{ENGINES_FOLDER}/[\w-][\w.-]*\.engine")
_LOCATION = re.compile(rb"\x0a\x08location(?:\x12(.))?", re.DOTALL)
_ENGINE_ENTRY = (
    "flavour", "version", "compute_capability", "branch", "precision",
    "graph", "graph_sha256", "weights", "weights_sha256", "sha256",
)  # fmt: skip


@dataclass(frozen=True)
class TokenizerSpec:
    """The text tower's tokenizer.

    Attributes:
        path: A file for the `tokenizers` library.
        context_length: Tokens per text; texts are cut, or padded with 0.
        cleaning: "clip" (ftfy, HTML unescape, white space, lower case) or "none".
    """

    path: Path
    context_length: int
    cleaning: str


@dataclass(frozen=True)
class Bundle:
    """An opened bundle, whose files have been checked against its manifest.

    Attributes:
        path: Its folder.
        spec: The model.
        tokenizer: The text tower's tokenizer; None if the model has no text tower.
        manifest: The content of `bundle.json`.
    """

    path: Path
    spec: ModelSpec
    tokenizer: TokenizerSpec | None
    manifest: dict[str, Any]

    @staticmethod
    def open(path: str | Path) -> Bundle:
        """Opens a bundle and checks the size and sha256 of every file that its manifest lists.

        Raises:
            MissingError: The folder, its manifest or a listed file is missing.
            InputError: The manifest cannot be read, has another schema, or names something unknown.
            MismatchError: A file differs from the manifest, or the model samples frames in another
                way than this version.
        """
        path = Path(path)
        manifest = read_manifest(path)
        try:
            check_manifest(manifest)
        except InputError as error:
            raise InputError(
                f"{path / MANIFEST}: damaged manifest: ", error, "; ", *fix(path)
            ) from error
        try:
            spec, tokenizer = spec_of(path, manifest), tokenizer_of(path, manifest)
            files = {
                str(k): (str(v["sha256"]), int(v["bytes"])) for k, v in manifest["files"].items()
            }
        except InputError as error:  # a value that this version does not know, as a metric
            raise InputError(f"{path / MANIFEST}: ", error, "; ", *fix(path)) from error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"{path / MANIFEST}: damaged manifest ({error!r}); ", *fix(path)
            ) from error
        temporal = manifest.get("temporal")
        if temporal not in (None, temporal_contract(spec.frames)):
            raise MismatchError(
                f"{path / MANIFEST}: needs frames of other moments of a clip ({shortened(temporal)}) than this "
                "version takes; pip install -U mafsar, or ",
                *fix(path),
            )
        for name, (sha256, size) in files.items():
            _check_file(path, name, sha256, size)
            if name.endswith(".onnx"):
                _check_weights_of(path, name, files)
        _check_engines(path, manifest.get("engines", {}))
        bundle = Bundle(path, spec, tokenizer, manifest)
        needed = [graph_file("query")]
        if tokenizer is not None:
            needed += [graph_file("text"), tokenizer.path.name]
        if spec.text_in_support:
            needed.append(graph_file("support"))
        if "none" in manifest:
            needed.append(manifest["none"]["file"])
        for name in needed:
            if name not in files:
                raise MissingError(f"{path / MANIFEST}: does not list {name}; ", *fix(path))
        mark_in_use(path)
        return bundle

    def graph(self, branch: str, precision: str) -> Path:
        """The file of a branch's graph ("query", "support" or "text") in a precision.

        Raises:
            UnavailableError: The bundle does not have it.
        """
        name = graph_file(branch, precision)
        if name in self.manifest["files"]:
            return self.path / name
        has = ", ".join(self.precisions()) or "none"
        raise UnavailableError(
            f"{self.path}: no {name} (precisions here: {has}); use ",
            option(precision=(self.precisions() or ["fp32"])[0]),
            ", or add it: ",
            *export_hint(self.path, precision=precision),
        )

    def files_sha256(self, precision: str) -> str:
        """Hash of the files that features in a precision are computed from, which `open` checked.

        The graphs and weights of the precision; of a model with text also the text graph, its
        weights and the tokenizer.
        """
        names = [graph_file("query", precision), graph_file("support", precision)]
        names.append(weights_file(precision))
        if self.tokenizer is not None:
            names += [graph_file("text"), weights_file("fp32"), self.tokenizer.path.name]
        files = self.manifest["files"]
        parts = [f"{name} {files[name]['sha256']}" for name in names if name in files]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def precisions(self) -> list[str]:
        """Precisions of the bundle, fp32 first."""
        return [
            precision
            for precision in PRECISIONS
            if graph_file("query", precision) in self.manifest["files"]
        ]


def is_bundle(path: str | Path) -> bool:
    """Whether a path is a folder with a manifest, or is named like one."""
    path = Path(path)
    return (path / MANIFEST).is_file() or (path.is_dir() and path.suffix == BUNDLE_SUFFIX)


def read_manifest(path: Path) -> dict[str, Any]:
    """Reads the manifest of a bundle and checks its schema only.

    Raises:
        MissingError: The folder or its manifest is missing.
        InputError: The manifest cannot be read or has another schema.
    """
    if not path.is_dir():
        raise MissingError(f"{path}: no such bundle; ", *fix(path))
    file = path / MANIFEST
    if not file.is_file():
        raise MissingError(f"{file}: missing, so this is not a bundle; ", *fix(path))
    try:
        manifest = parse_json(read_text(file), str(file))
        schema = manifest["schema"]
    except InputError as error:
        raise InputError(error, "; ", *fix(path)) from error
    except (KeyError, TypeError) as error:
        raise InputError(f"{file}: not the manifest of a bundle; ", *fix(path)) from error
    if schema != SCHEMA:
        newer = isinstance(schema, int) and schema > SCHEMA
        update = "pip install -U mafsar, or " if newer else ""
        raise InputError(
            f"{file}: schema {schema}, this version reads {SCHEMA}; {update}", *fix(path)
        )
    return dict(manifest)


def temporal_contract(frames: int) -> dict[str, Any]:
    """The moments of a clip at which a model's frames are taken: `temporal` in `bundle.json`.

    Args:
        frames: T.

    Returns:
        `clock`: seconds of the container's timestamps, from the first one on. `moments`: T numbers,
        0–1; frame i is the one shown at `moments[i]` of the clip's duration.
    """
    moments = segment_times(1.0, frames)
    return {"clock": "container, seconds", "moments": [round(float(t), 6) for t in moments]}


def fix(path: Path) -> tuple[object, ...]:
    """How to repair a bundle, as parts of a message."""
    if path.parent == SHIPPED_BUNDLE.parent:
        return ("install again: pip install --force-reinstall --no-deps mafsar",)
    again = call("export_model", Placeholder("model"), out=str(path), overwrite=True)
    return ("copy it again, or export it again: ", again)


def export_hint(path: Path, **options: Any) -> tuple[object, ...]:
    """How to add to a bundle, as parts of a message; the shipped one is exported to a copy."""
    if path.resolve().parent != SHIPPED_BUNDLE.parent:
        return (call("export_model", str(path), **options),)
    copy = f"{path.stem}{BUNDLE_SUFFIX}"
    return (call("export_model", path.stem, **options), ", then ", option(model=copy))


def _check_file(path: Path, name: str, sha256: str, size_bytes: int) -> None:
    if Path(name).name != name:
        raise InputError(f"{path / MANIFEST}: lists {name!r}, outside the bundle; ", *fix(path))
    file = path / name
    if not file.is_file():
        raise MissingError(f"{file}: missing from the bundle; ", *fix(path))
    found = file.stat().st_size
    if found != size_bytes:
        raise MismatchError(
            f"{file}: {found} bytes, the manifest says {size_bytes}: damaged; ", *fix(path)
        )
    if file_sha256(file) != sha256:
        raise MismatchError(
            f"{file}: its sha256 differs from the manifest's: damaged or changed; ", *fix(path)
        )


def _check_weights_of(path: Path, name: str, files: Mapping[str, object]) -> None:
    """Refuses a graph whose weights are in a file that the manifest does not list.

    ONNX names that file in an entry with the key `location`, the value behind it: in the bytes, key
    and value are each a tag, a length and the text.
    """
    data = (path / name).read_bytes()
    for found in _LOCATION.finditer(data):
        length = found[1][0] if found[1] else 0
        where = data[found.end() : found.end() + length].decode("utf-8", "replace")
        if where not in files:
            raise MismatchError(
                f"{path / name}: takes weights from {where!r}, which the manifest does not list; ",
                *fix(path),
            )


def _check_engines(path: Path, engines: Any) -> None:
    """Raises an error for entries that are incomplete or name a file outside the bundle."""
    complete = isinstance(engines, dict) and all(
        _ENGINE_NAME.fullmatch(name)
        and isinstance(entry, dict)
        and all(isinstance(entry.get(key), str) for key in _ENGINE_ENTRY)
        for name, entry in engines.items()
    )
    if not complete:
        raise InputError(f"{path / MANIFEST}: damaged manifest (engines); ", *fix(path))


def spec_of(path: Path, manifest: dict[str, Any]) -> ModelSpec:
    """The model that a manifest describes.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: The manifest is damaged.
        InputError: It names an unknown metric, or a number of its scoring is out of range.
    """
    match, preprocess = manifest["match"], manifest["preprocess"]
    if manifest["adapters"] not in ("none", "trained"):
        raise ValueError(f"adapters {manifest['adapters']!r}")
    known, prior = manifest["known_words"], match.get("view_prior")
    none = manifest.get("none")
    mean, std = (tuple(float(v) for v in preprocess[name]) for name in ("mean", "std"))
    return ModelSpec(
        name=str(manifest["name"]),
        backbone=str(manifest["backbone"]),
        frames=int(manifest["frames"]),
        image_size=int(manifest["image_size"]),
        embed_dim=int(manifest["embed_dim"]),
        adapters=manifest["adapters"],
        text=bool(manifest["text"]),
        prompts=tuple(str(prompt) for prompt in manifest["prompts"]),
        known_words=None if known is None else frozenset(str(word) for word in known),
        scoring=Scoring(
            metric=match["metric"],
            lam=float(match["lam"]),
            alpha=float(match["alpha"]),
            visual_scale=float(match["visual_scale"]),
            text_scale=float(match["text_scale"]),
            views="raw" if match.get("views", "raw") == "raw" else float(match["views"]),
            view_prior=None if prior is None else ViewPrior.from_json(prior),
        ),
        weights_sha256=str(manifest["weights_sha256"]),
        parameters_total=int(manifest["parameters_total"]),
        parameters_tunable=int(manifest["parameters_tunable"]),
        notice=manifest.get("notice"),
        path=str(path.resolve()),
        mean=(mean[0], mean[1], mean[2]),
        std=(std[0], std[1], std[2]),
        resample=str(preprocess["resample"]),
        fully_tuned=bool(manifest.get("fully_tuned", False)),
        none_prior=None if none is None else NonePrior.from_json(none),
        negatives_file=None if none is None else str(path.resolve() / Path(none["file"]).name),
    )


def tokenizer_of(path: Path, manifest: dict[str, Any]) -> TokenizerSpec | None:
    """The tokenizer that a manifest names, or None; raises as `spec_of`."""
    if not manifest["text"]:
        return None
    values = manifest["tokenizer"]
    cleaning = str(values.get("cleaning", "clip"))
    if cleaning not in ("clip", "none"):
        raise ValueError(f"tokenizer.cleaning {cleaning!r}")
    return TokenizerSpec(path / Path(values["file"]).name, int(values["context_length"]), cleaning)
