"""The probe of a bundle: clips and what the fp32 reference made of them, for devices without it."""

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
    """Its arrays: `frames`, `class_index`, `class_text`, and outputs by `branch/output`.

    Raises:
        MissingError: The bundle has none.
    """
    from safetensors.numpy import load_file

    if PROBE_FILE not in bundle.manifest["files"]:
        raise MissingError(f"{bundle.path}: has no {PROBE_FILE}; ", *fix(bundle.path))
    return dict(load_file(bundle.path / PROBE_FILE))


def check_probe(
    encoder: Encoder,
    bundle: Bundle,
    batches: tuple[int, int],
    *,
    limit: float,
    again: Sequence[object],
) -> Parity:
    """Compares an encoder with the probe's reference, in batches of two sizes.

    Args:
        encoder: On the device that is in question.
        bundle: Its bundle.
        batches: Clips a call.
        limit: Least cosine accepted when what it runs was made; passes where it is the lower one.
        again: What makes the encoder's files again, as parts of a message.

    Returns:
        The worst of all outputs.

    Raises:
        MismatchError: A cosine is under the limit, and under that of the encoder's precision.
    """
    probe = read_probe(bundle)
    branches = ["query"] + (["support"] if encoder.spec.text_in_support else [])
    worst = Parity()
    for branch in branches:
        for batch in batches:
            parts = []
            for start in range(0, len(probe["frames"]), batch):
                frames = probe["frames"][start : start + batch]
                if branch == "query":
                    parts.append(encoder.encode_query(frames))
                else:
                    text = probe["class_text"][probe["owners"][start : start + batch]]
                    parts.append(encoder.encode_support(frames, text))
            found = {
                "features": np.concatenate([part.frames for part in parts]),
                "pooled": np.concatenate([part.pooled for part in parts]),
            }
            for name, values in found.items():
                worst = worst.worse(compare(probe[f"{branch}/{name}"], values))
    limit = min(LIMITS[encoder.precision], limit)
    if not worst.min_cosine >= limit:
        raise MismatchError(
            f"{bundle.path}: {encoder.engine} {encoder.precision} on {encoder.device} does not give "
            f"the reference's features ({worst}, at least {limit} wanted); ",
            *again,
            ", or use ",
            option(engine="onnx"),
        )
    return worst
