"""The limits that every artefact of a bundle must keep (no torch)."""

from __future__ import annotations

from typing import Any

import numpy as np

from mafsar.runtime.engines.probe import LIMITS

LARGEST_DROP = 0.5  # percentage points of accuracy
LARGEST_HALF = float(np.finfo(np.float16).max)  # 65504


def thresholds() -> dict[str, Any]:
    """The entry `thresholds` of `bundle.json`.

    Returns:
        `min_cosine`: of an artefact's outputs to the reference's, by precision. `accuracy_drop`:
        percentage points. `p_none`: None, because each bank calibrates it on its own clips.
    """
    return {"p_none": None, "min_cosine": dict(LIMITS), "accuracy_drop": LARGEST_DROP}
