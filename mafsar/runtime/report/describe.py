"""Facts of a model, bundle, bank, support or clip, ready for JSON."""

from __future__ import annotations

import contextlib
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from mafsar.choices import Scoring
from mafsar.documents import parse_json, read_text
from mafsar.errors import InputError, MafsarError, MismatchError, MissingError
from mafsar.files import file_sha256, is_file
from mafsar.model.names import ADAPTERS_FILE, BUNDLE_SUFFIX
from mafsar.runtime.bank.bank import Bank, is_bank, read_bank
from mafsar.runtime.encoder import ModelSpec
from mafsar.runtime.engines.bundle import Bundle, is_bundle
from mafsar.runtime.engines.loading import load_model, model_path

SCHEMA = 1


def describe(thing: str | Path, *, ignore_clock: float | None = None) -> dict[str, Any]:
    """Describes a thing; a CLIP is counted from its configuration, and nothing is downloaded.

    Args:
        thing: A model's name, or the path of a bundle, engine, bank, support or clip.
        ignore_clock: Frames per second that replace the timestamps of a video file.

    Returns:
        Facts by name, `schema` and `kind` first.

    Raises:
        MafsarError: It does not exist, or is damaged.
    """
    name = str(thing)
    path = model_path(name)
    if name == "tiny" or is_bundle(path):
        return describe_bundle(Bundle.open(path))
    if (path / ADAPTERS_FILE).is_file() or _is_trained(path):
        return describe_run(path)
    if is_bank(path) and path.is_file():
        return describe_bank(read_bank(path))
    if path.suffix == ".engine" and path.is_file():
        return describe_engine(path)
    if path.exists():
        return _describe_path(path, ignore_clock)
    if path.suffix in (BUNDLE_SUFFIX, ".safetensors", ".engine", ".plan") and ":" not in name:
        raise MissingError(f"{path}: no such file or folder; check the path")
    return describe_name(name)


def describe_engine(path: Path) -> dict[str, Any]:
    """Facts of a TensorRT engine, from the JSON beside it; the engine itself is not loaded.

    Raises:
        MissingError: The JSON is missing.
        InputError: It cannot be read.
        MismatchError: It describes another engine.
    """
    entry = _side_car(path)
    if entry.pop("sha256", None) != (found := file_sha256(path)):
        raise MismatchError(
            f"{path}: its sha256 differs from {path.with_suffix('.json').name}'s; copy it again"
        )
    entry.pop("schema", None)
    return {"schema": SCHEMA, "kind": "engine", "path": str(path)} | entry | {"sha256": found}


def _side_car(engine: Path) -> dict[str, Any]:
    """The JSON beside an engine; errors as `describe_engine`."""
    path = engine.with_suffix(".json")
    if not path.is_file():
        raise MissingError(f"{path}: missing beside the engine; copy the bundle as a whole")
    try:
        return dict(parse_json(read_text(path), str(path)))
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); copy the bundle again") from error


def _verified(bundle: Bundle) -> dict[str, str]:
    """How each artefact was verified: "yes", "no", or of an engine "graph" or "engine"."""
    parity = bundle.manifest.get("parity", {})
    found = {k: str(v.get("verified")) for k, v in parity.items() if isinstance(v, dict)}
    for name in bundle.manifest.get("engines", {}):
        with contextlib.suppress(MafsarError):  # without its JSON nothing is known
            found[name] = str(_side_car(bundle.path / name).get("verified", "no"))
    return found


def describe_bundle(bundle: Bundle) -> dict[str, Any]:
    """Facts of a bundle whose hashes have been checked."""
    manifest, tokenizer = bundle.manifest, bundle.tokenizer
    files = {name: int(entry["bytes"]) for name, entry in manifest["files"].items()}
    return _describe_spec("bundle", bundle.spec) | {
        "path": str(bundle.path),
        "precisions": bundle.precisions(),
        "engines": sorted(bundle.manifest.get("engines", {})),
        "verified": _verified(bundle),
        "context_length": None if tokenizer is None else tokenizer.context_length,
        "files": files,
        "size_bytes": sum(files.values()),
        "made_by": manifest.get("made_by", {}),
        "notice": bundle.spec.notice,
    }


def describe_run(run: Path) -> dict[str, Any]:
    """Facts of trained weights; their towers are loaded and checked, which needs torch.

    Args:
        run: A run's folder, or a file of weights.
    """
    encoder = load_model(run, device="cpu")
    return _describe_spec("run", encoder.spec) | {
        "path": str(run),
        "size_bytes": (run / ADAPTERS_FILE if run.is_dir() else run).stat().st_size,
    }


def _is_trained(path: Path) -> bool:
    """Whether this is a file of trained weights, whatever its name."""
    from safetensors import SafetensorError, safe_open

    if path.suffix != ".safetensors" or not is_file(path):
        return False
    try:
        with safe_open(path, framework="np") as file:
            return str((file.metadata() or {}).get("format", "")).startswith("mafsar-weights")
    except (SafetensorError, OSError):
        return False


def describe_name(name: str) -> dict[str, Any]:
    """Facts of a CLIP by name, in closed form from its configuration.

    Raises:
        InputError: An unknown name; the message has the nearest one.
    """
    from mafsar.model.config import parameter_counts
    from mafsar.model.names import backbone, parse_model_name
    from mafsar.model.open_clip_config import config_of

    parsed = parse_model_name(name)
    config = config_of(parsed)
    total, tunable = parameter_counts(config.tunable())
    return {
        "schema": SCHEMA,
        "kind": "model",
        "name": name,
        "backbone": backbone(config.name),
        "frames": config.frames,
        "image_size": config.input_size,
        "embed_dim": config.feature_dim,
        "parameters_total": total,
        "parameters_tunable": tunable,
        "adapters": "none",
        "tuned": "none",
        "text": True,
        "prompts": list(config.prompts),
        "preprocess": {"mean": list(config.mean), "std": list(config.std), "resample": "bicubic"},
        "weights": str(parsed),
    }


def describe_bank(bank: Bank) -> dict[str, Any]:
    """Facts of a bank."""
    counts = [int((bank.class_index == index).sum()) for index in range(len(bank.classes))]
    return {
        "schema": SCHEMA,
        "kind": "bank",
        "path": None if bank.path is None else str(bank.path),
        "classes": dict(zip(bank.labels, counts, strict=True)),
        "clips": int((bank.class_index >= 0).sum()),
        "none_clips": int((bank.class_index < 0).sum()),
        "text": bank.text_choice.used,
        "alpha": bank.text_choice.alpha,
        "why_text": bank.text_choice.why,
        "metric": bank.scoring.metric,
        "views": bank.scoring.views,
        "verdict": None if bank.verdict is None else bank.verdict.kind,
        "geometry": bank.geometry.to_json(),
        "images": bank.images is not None,
        "model": bank.model.name,
        "model_path": bank.model.path,
        "adapters": bank.model.adapters,
        "weights_sha256": bank.model.weights_sha256,
        "prompts": list(bank.model.prompts),
        "preprocess": bank.model.preprocess,
    }


def _describe_spec(kind: str, spec: ModelSpec) -> dict[str, Any]:
    known = spec.known_words
    return {
        "schema": SCHEMA,
        "kind": kind,
        "name": spec.name,
        "backbone": spec.backbone,
        "frames": spec.frames,
        "image_size": spec.image_size,
        "embed_dim": spec.embed_dim,
        "parameters_total": spec.parameters_total,
        "parameters_tunable": spec.parameters_tunable,
        "adapters": spec.adapters,
        "tuned": spec.tuned,
        "text": spec.text,
        "prompts": list(spec.prompts),
        "known_words": None if known is None else len(known),
        "match": _match(spec.scoring),
        "preprocess": spec.preprocess_json(),
        "weights_sha256": spec.weights_sha256,
    }


def _match(scoring: Scoring) -> dict[str, Any]:
    """How features are matched; of the means of the training clips only whether they are kept."""
    values = asdict(replace(scoring, view_prior=None))
    return values | {"view_prior": scoring.view_prior is not None}


def _describe_path(path: Path, ignore_clock: float | None) -> dict[str, Any]:
    """A clip or a support."""
    from mafsar.data.support import read_support
    from mafsar.video import is_frame_folder, video_info
    from mafsar.video.pictures import is_picture_clip, open_pictures
    from mafsar.video.sniff import clip_kind

    kind = clip_kind(path)
    if is_frame_folder(path) or (kind == "image" and is_picture_clip(path)):
        found = open_pictures(path)
        facts: dict[str, Any] = {"schema": SCHEMA, "kind": "clip", "path": str(path)}
        facts["frames"] = len(found.items)
        if found.fps is not None:
            facts |= {"duration_seconds": found.duration_seconds, "fps": found.fps}
        return facts | ({"repairs": list(found.notes)} if found.notes else {})
    if kind is not None:
        return {"schema": SCHEMA, "kind": "clip"} | video_info(path, ignore_clock)
    support = read_support(path)
    counts = dict.fromkeys(support.labels, 0)
    for clip in support.clips:
        counts[clip.label] += 1
    return {
        "schema": SCHEMA,
        "kind": "support",
        "path": str(path),
        "classes": counts,
        "texts": {item.label: item.text for item in support.classes},
        "clips": len(support.clips),
        "none_clips": len(support.none_clips),
    }
