"""Engines are compared with the reference in every batch size, with a stand-in for the engines."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mafsar.errors import MismatchError
from mafsar.export.engines import check
from mafsar.export.verify.clips import ClipSet
from mafsar.export.verify.verifier import Reference


def test_an_export_runs_every_profile_whole_and_finds_a_wrong_one() -> None:
    clips = ClipSet(
        np.arange(3 * 4, dtype=np.uint8).reshape(3, 1, 2, 2, 1), np.zeros(3, int), ("a",), "x"
    )
    features = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    reference = Reference(clips, None, {"query/features": features}, 1.0)
    entry = {"branch": "query", "buckets": [1, 2, 8]}
    seen: list[int] = []

    def run(broken: int) -> None:
        def runner(_branch: str, inputs: Any) -> dict[str, np.ndarray]:
            rows = inputs["frames"].reshape(-1, 4)[:, 0] // 4
            seen.append(len(rows))
            return {"features": features[rows] * (-1 if len(rows) == broken else 1)}

        check._check_batch_sizes(runner, [SimpleNamespace(entry=entry, name="e")], reference, 0.99)

    run(broken=0)
    assert seen == [1, 2, 8]
    with pytest.raises(MismatchError, match="at batch 8"):
        run(broken=8)
