"""The probe of a bundle: clips with their fp32 features, to check engines on a device without torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mafsar.errors import MismatchError, MissingError, option
from mafsar.runtime.encoder import Encoder
from mafsar.runtime.engines.bundle import Bundle, fix
from mafsar.runtime.engines.parity import Parity, compare

PROBE_FILE = "probe.safetensors"
# Smallest cosine to the reference, by precision.
LIMITS = {"fp32": 0.9999, "fp16": 0.999, "int8": 0.98}


def read_probe(bundle: Bundle) -> dict[str, NDArray[Any]]:
    """Reads the probe of a bundle.

    Returns:
        `frames` (n, T, S, S, 3), `owners` (n,): class index of each clip, `class_text` (C, E), and
        reference outputs named `branch/output`.

    Raises:
        MissingError: The bundle has no probe.
    """
    from safetensors.numpy import load_file

    if PROBE_FILE not in bundle.manifest["files"]:
        raise MissingError(f"{bundle.path}: has no {PROBE_FILE}; ", *fix(bundle.path))
    return dict(load_file(bundle.path / PROBE_FILE))


def check_probe(
    encoder: Encoder,
    bundle: Bundle,
    batches: Sequence[int],
    *,
    limit: float,
    again: Sequence[object],
) -> Parity:
    """Compares an encoder with the probe's reference, in batches of some sizes.

    Args:
        encoder: The encoder to check, on its device.
        bundle: Its bundle.
        batches: Numbers of clips per call; the probe is repeated where it has fewer.
        limit: Smallest cosine that was accepted when the engine was built. The lower of it and the
            precision's own limit counts.
        again: How to build the encoder's files again, as parts of a message.

    Returns:
        The largest error and smallest cosine of all outputs.

    Raises:
        MismatchError: A cosine is below the limit.
    """
    probe = read_probe(bundle)
    branches = ["query"] + (["support"] if encoder.spec.text_in_support else [])
    worst = Parity()
    for branch in branches:
        for batch in batches:
            clips = np.arange(max(batch, len(probe["frames"]))) % len(probe["frames"])
            parts = []
            for start in range(0, len(clips), batch):
                some = clips[start : start + batch]
                frames = probe["frames"][some]
                if branch == "query":
                    parts.append(encoder.encode_query(frames))
                else:
                    text = probe["class_text"][probe["owners"][some]]
                    parts.append(encoder.encode_support(frames, text))
            found = {
                "features": np.concatenate([part.frames for part in parts]),
                "pooled": np.concatenate([part.pooled for part in parts]),
            }
            for name, values in found.items():
                worst = worst.worse(compare(probe[f"{branch}/{name}"][clips], values))
    limit = min(LIMITS[encoder.precision], limit)
    if not worst.min_cosine >= limit:
        raise MismatchError(
            f"{bundle.path}: {encoder.engine} {encoder.precision} on {encoder.device} does not give "
            f"the reference's features ({worst}; the smallest cosine must be at least {limit}); ",
            *again,
            ", or use ",
            option(engine="onnx"),
        )
    return worst
