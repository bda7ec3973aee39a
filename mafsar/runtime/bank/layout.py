"""What a bank's file may hold: one table of its entries, one of its tensors, and its checksum."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mafsar.choices import PRECISIONS
from mafsar.data.labels import NONE_FOLDER, nfc
from mafsar.documents import (
    either,
    flag,
    items,
    number,
    one_of,
    optional,
    record,
    sha256,
    text,
    whole,
)
from mafsar.errors import InputError
from mafsar.files import map_safetensors
from mafsar.model.config_layout import MOST_FRAMES, SCORING
from mafsar.runtime.bank.maker import PROBE_PREFIX
from mafsar.runtime.bank.none import NEGATIVES
from mafsar.runtime.engines.manifest import NONE_PRIOR, PREPROCESS, PROMPTS
from mafsar.runtime.scoring.none import LEAST_NEGATIVES
from mafsar.video.rates import HIGHEST_FPS, LOWEST_FPS

CHECKSUM = "sha256"  # of a file's metadata; `checksum` in the document says that it must be there
LARGE_BYTES = 64 << 20
"""A larger file is mapped, and its checksum is computed once."""
_ROWS = 4096  # that are looked at together
_MOST_CLIPS = 10_000_000
_CHECKED: set[tuple[int, int, int, int]] = set()
Tensors = Mapping[str, NDArray[Any]]

_DOCUMENT = record(
    {
        "schema": whole(1, 1),
        "kind": one_of("bank"),
        "made_by": text(longest=100),
        "model": record(
            {
                "name": text(longest=4096),
                "path": optional(text(longest=4096)),
                "adapters": one_of("none", "trained"),
                "weights_sha256": sha256,
                "preprocess": record({**PREPROCESS, "frames": whole(1, MOST_FRAMES)}),
                "prompts": PROMPTS,
                "scoring": SCORING,
            }
        ),
        "geometry": record(
            {},
            {
                "fit": text(longest=100),
                "rotate": whole(0, 270),
                "hflip": flag,
                "roi": optional(items(number(least=0.0, most=1e6), 4, 4)),
            },
        ),
        "text": record(
            {
                "requested": one_of("auto", "on", "off"),
                "used": flag,
                "alpha": number(least=0.0, most=1.0),
                "why": text(),
            }
        ),
        "classes": items(
            record(
                {
                    "label": text(pattern=r"\s*\S[\s\S]*", wanted="a text that is not empty"),
                    "text": text(),
                    "words_known": flag,
                }
            ),
            1,
            _MOST_CLIPS,
        ),
        "clips": items(
            record(
                {
                    "path": text(),
                    "owner": whole(-1, _MOST_CLIPS),
                    "content_sha256": sha256,
                    "size_bytes": whole(0, 1 << 62),
                    "start": optional(number(least=0.0)),
                    "end": optional(number(above=0.0)),
                    "duration_seconds": number(least=0.0),
                },
                {"ignore_clock": number(least=LOWEST_FPS, most=HIGHEST_FPS)},
            ),
            1,
            _MOST_CLIPS,
        ),
    },
    {
        "maker": optional(
            record({"files_sha256": text(longest=100), "precision": one_of(*PRECISIONS)})
        ),
        "checksum": one_of(CHECKSUM),
        "views": either(one_of("auto", "raw"), number(least=0.0, most=1.0)),
        "none": record({**NONE_PRIOR, "far": number(above=0.0, most=1.0)}),
        "verdict": record(
            {
                "right": whole(0, _MOST_CLIPS),
                "judged": whole(0, _MOST_CLIPS),
                "chance": number(least=0.0, most=1.0),
            }
        ),
    },
    open_to_more=True,
)


def read_tensors(path: Path, state: os.stat_result) -> tuple[dict[str, str], Tensors]:
    """Metadata and tensors of a bank's file; those of a large one are mapped.

    Args:
        path: The file.
        state: Of the file.

    Raises:
        SafetensorError: It is damaged, or another kind of file.
        OSError: It cannot be read.
    """
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata() or {}
        if state.st_size > LARGE_BYTES:
            return metadata, map_safetensors(path)
        return metadata, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def check_document(data: Any) -> None:
    """Checks a bank's document against its table, and its lists against each other.

    Raises:
        InputError: An entry is missing, unknown or of another type or range; a label is there twice
            or is that of background clips; a clip's class does not exist, or a class has no clip.
    """
    _DOCUMENT(data, "")
    labels = [nfc(item["label"]) for item in data["classes"]]
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise InputError(f"classes: the label {twice!r} is there twice")
    if NONE_FOLDER in labels:
        raise InputError(f"classes: the label {NONE_FOLDER!r} is for background clips")
    owners = {clip["owner"] for clip in data["clips"]} - {-1}
    if owners != set(range(len(labels))):
        wrong = min(owners ^ set(range(len(labels))))
        why = "has no clip" if wrong < len(labels) else f"does not exist, there are {len(labels)}"
        raise InputError(f"clips: class {wrong} {why}")
    for number_of, clip in enumerate(data["clips"]):
        if clip["end"] is not None and clip["end"] <= (clip["start"] or 0.0):
            raise InputError(f"clips[{number_of}].end must be after its start, got {clip['end']:g}")
    if data["text"]["used"] and data["text"]["requested"] == "off":
        raise InputError("text.used must be false where text is off")


def check_tensors(data: Mapping[str, Any], tensors: Tensors) -> None:
    """Checks a bank's tensors against its document, which has been checked.

    Raises:
        InputError: A tensor is missing or of another shape or type, not finite, or a frame has no
            features: all zeros, which no direction can be compared with.
    """
    n, classes = len(data["clips"]), len(data["classes"])
    frames = data["model"]["preprocess"]["frames"]
    query = tensors.get("query")
    if query is None or query.ndim != 3 or not 1 <= query.shape[-1] <= 1 << 16:
        raise InputError("query must be features (clips, frames, width)")
    width = query.shape[-1]
    shapes: dict[str, tuple[int, ...]] = {
        "query": (n, frames, width),
        "pooled": (n, width),
        "support": (n, frames, width),
        "text": (classes, width),
        f"{PROBE_PREFIX}query": (1, frames, width),
        f"{PROBE_PREFIX}pooled": (1, width),
        f"{PROBE_PREFIX}support": (1, frames, width),
        f"{PROBE_PREFIX}text": (1, width),
    }
    if "pooled" not in tensors:
        raise InputError("pooled is missing")
    if data.get("maker") is not None and f"{PROBE_PREFIX}query" not in tensors:
        raise InputError(f"{PROBE_PREFIX}query is missing")
    negatives = tensors.get(NEGATIVES)
    if negatives is not None:
        if negatives.ndim != 3 or len(negatives) < LEAST_NEGATIVES:
            raise InputError(f"{NEGATIVES} must be at least {LEAST_NEGATIVES} clips")
        shapes[NEGATIVES] = (len(negatives), frames, width)
    if data.get("none") is not None and negatives is None:
        raise InputError(f"{NEGATIVES} is missing")
    motion = tensors.get("motion")
    if motion is not None and (
        motion.dtype != np.float32 or motion.shape != (n,) or not np.isfinite(motion).all()
    ):
        raise InputError(f"motion is {motion.dtype} {motion.shape}, expected float32 ({n},)")
    for name, shape in shapes.items():
        tensor = tensors.get(name)
        if tensor is None:
            continue
        is_right = tensor.dtype == np.float32 and tensor.shape == shape
        if not is_right or not all(np.isfinite(part).all() for part in _parts(tensor)):
            raise InputError(
                f"{name} is {tensor.dtype} {tensor.shape}, expected finite float32 {shape}"
            )
        if not all((np.abs(part).max(axis=-1) > 0).all() for part in _parts(tensor)):
            raise InputError(f"{name} has features that are all zeros")
    images = tensors.get("images")
    if images is not None and (
        images.dtype != np.uint8
        or images.ndim != 5
        or images.shape[:2] != (n, frames)
        or images.shape[-1] != 3
    ):
        raise InputError(
            f"images is {images.dtype} {images.shape}, expected uint8 ({n}, {frames}, H, W, 3)"
        )
    if data["text"]["used"] and "text" not in tensors:
        raise InputError("text is used, but there are no embeddings of it")


def checksum(document: str, tensors: Tensors) -> str:
    """The sha256 of a bank's document and tensors: names, types, shapes and bytes."""
    digest = hashlib.sha256(document.encode())
    for name in sorted(tensors):
        tensor = np.ascontiguousarray(tensors[name])
        digest.update(f"\n{name} {tensor.dtype.str} {tensor.shape}\n".encode())
        digest.update(tensor.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _parts(tensor: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Some thousand rows at a time, so that looking at a large tensor needs no memory of its size."""
    for first in range(0, len(tensor), _ROWS):
        yield tensor[first : first + _ROWS]


def is_intact(state: os.stat_result, found: str, document: str, tensors: Tensors) -> bool:
    """Whether a bank's checksum is right; computed once for a large file that does not change.

    Args:
        state: Of the file, before it was read.
        found: The checksum that is in it.
        document: Its document.
        tensors: Its tensors.
    """
    key = (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns)
    if key in _CHECKED:
        return True
    intact = checksum(document, tensors) == found
    if intact and state.st_size > LARGE_BYTES:
        _CHECKED.add(key)
    return intact
