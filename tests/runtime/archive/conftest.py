"""Small videos of moving colours, and settings of an index."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mafsar.runtime.archive.build import IndexReport, build_index
from mafsar.runtime.archive.settings import IndexSettings
from mafsar.runtime.archive.store import Store
from mafsar.runtime.live.windows import name_windows
from mafsar.video import Geometry, write_video
from mafsar.video.live.place import places_of

FPS = 8
SECONDS = {"long": 6.0, "middle": 3.0, "short": 0.4}


def moving(seed: int, seconds: float) -> list[np.ndarray]:
    """Frames of coarse colours that drift, (64, 64, 3)."""
    rng = np.random.default_rng(seed)
    count = max(2, round(FPS * seconds))
    ends = rng.integers(20, 235, (4, 4, 4, 3)).astype(float)
    at = np.linspace(0, 2.999, count)
    frames = [ends[int(t)] * (1 - t % 1) + ends[int(t) + 1] * (t % 1) for t in at]
    return [frame.repeat(16, 0).repeat(16, 1).astype(np.uint8) for frame in frames]


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """`long.mp4` of 6 s, `middle.mp4` of 3 s and `short.mp4` of 0.4 s."""
    folder = tmp_path / "films"
    folder.mkdir()
    for seed, (name, seconds) in enumerate(SECONDS.items()):
        write_video(folder / f"{name}.mp4", moving(seed, seconds), FPS)
    return folder


@pytest.fixture
def settings(encoder: Any) -> IndexSettings:
    """Windows of 1 s and 2 s."""
    return IndexSettings.of(encoder, name_windows([1.0, 2.0], encoder.spec.frames, 0.5), Geometry())


@pytest.fixture
def build(encoder: Any, settings: IndexSettings) -> Callable[..., IndexReport]:
    """Builds an index of sources: `build(place, *sources, **options)`."""

    def run(place: Any, *sources: Any, **options: Any) -> IndexReport:
        places = [found for source in sources for found in places_of(source)]
        used = options.pop("settings", settings)
        return build_index(Store(place), used, options.pop("encoder", encoder), places, **options)

    return run
