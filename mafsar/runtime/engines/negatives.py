"""The negatives of a bundle: features of rendered clips of classes that no user enrolls.

They come with the bundle, so that an edge device needs no renderer to know what other clips look
like to the model.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mafsar.errors import MismatchError
from mafsar.files import write_safetensors
from mafsar.runtime.encoder import Float32, ModelSpec

NEGATIVES_FILE = "negatives.safetensors"  # of a bundle
_TENSOR = "query"


def read_negatives(spec: ModelSpec) -> Float32 | None:
    """Features of the negatives by the query graph, (N, T, E); None if the model has none.

    Raises:
        MismatchError: They are of another shape than the model's features.
    """
    if spec.negatives_file is None:
        return None
    from safetensors import safe_open

    path = Path(spec.negatives_file)
    with safe_open(path, framework="numpy") as file:
        found = np.asarray(file.get_tensor(_TENSOR), np.float32)
    if found.ndim != 3 or found.shape[1:] != (spec.frames, spec.embed_dim):
        raise MismatchError(
            f"{path}: has features {found.shape}, the model's are "
            f"(N, {spec.frames}, {spec.embed_dim}); copy the bundle again"
        )
    return found


def write_negatives(path: Path, features: Float32) -> None:
    """Writes features of the negatives, (N, T, E), in half precision."""
    write_safetensors(path, {_TENSOR: features.astype(np.float16)}, {})
