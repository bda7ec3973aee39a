"""Writes the probe of a bundle: clips and what the fp32 reference computed on them (no torch).

A device that cannot run the reference compares its engine with the probe instead.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mafsar.export.verify.clips import PROBE_CLIPS, ClipSet
from mafsar.export.verify.compare import BranchOutputs
from mafsar.files import write_safetensors
from mafsar.runtime.encoder import Float32
from mafsar.runtime.engines.probe import PROBE_FILE


def write_probe(
    folder: Path, clips: ClipSet, outputs: BranchOutputs, text: Float32 | None, against: str
) -> Path:
    """Writes the first 16 clips with their reference outputs.

    Args:
        folder: The bundle.
        clips: Rendered clips, n ≥ 16.
        outputs: What the reference computed on all of them, by `branch/output`.
        text: Raw text embeddings of the classes, (C, E), or None.
        against: What ran the reference.
    """
    count = PROBE_CLIPS
    tensors: dict[str, NDArray[Any]] = {
        "frames": clips.frames[:count],
        "owners": clips.class_index[:count].astype(np.int64),  # as the file format calls it
    }
    for name, values in outputs.items():
        tensors[name] = values[:count] if len(values) == len(clips) else values
    if text is not None:
        tensors["class_text"] = text
    metadata = {
        "kind": "probe",
        "schema": "1",
        "texts": json.dumps(clips.texts, ensure_ascii=False),
        "reference": against,
    }
    path = folder / PROBE_FILE
    write_safetensors(path, tensors, metadata)
    return path
