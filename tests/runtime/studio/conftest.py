"""A support of colours in small videos, the studio's application over it, and a client that may ask."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from mafsar.runtime.studio.studio_app import Studio
from mafsar.runtime.studio.workshop import Workshop
from mafsar.video import write_video

TOKEN = "a-token-for-the-tests"
FPS = 10


def colours(kind: int, variant: int = 0, frames: int = 20, size: int = 32) -> np.ndarray:
    """A clip that moves through colours of its kind, (T, H, W, 3)."""
    ends = np.random.default_rng(100 + kind).integers(20, 235, (2, 4, 4, 3))
    share = np.linspace(0, 1, frames)[:, None, None, None]
    small = (1 - share) * ends[0] + share * ends[1] + 2 * variant
    return small.repeat(size // 4, 1).repeat(size // 4, 2).astype(np.uint8)


@pytest.fixture
def clip_of() -> Callable[..., np.ndarray]:
    return colours


@pytest.fixture
def clip_bytes(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., bytes]:
    """A small video as a browser would send it."""

    def made(kind: int, variant: int = 0) -> bytes:
        path = tmp_path_factory.mktemp("sent") / "clip.mp4"
        return write_video(path, colours(kind, variant), FPS).read_bytes()

    return made


@pytest.fixture
def studio(tmp_path: Path, encoder: Any) -> Iterator[Studio]:
    made = Studio(Workshop(tmp_path / "support", encoder, text="off", cache=False))
    yield made
    made.close()


@pytest.fixture
def client(studio: Studio) -> TestClient:
    """A browser that has opened the whole address once."""
    made = TestClient(studio.app(TOKEN), base_url="http://127.0.0.1:8765")
    assert made.get(f"/?token={TOKEN}").status_code == 200
    return made
