"""Small data sets with real names, and clips whose grey levels give the frame number."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mafsar.video import write_video

LEVELS = 9  # grey levels between two frame numbers


def write_numbered(path: Path, frames: int = 24, *, width: int = 64, height: int = 48) -> Path:
    """A clip at 10 frames a second whose k-th frame is grey, 9·k + 20."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = [np.full((height, width, 3), LEVELS * k + 20, np.uint8) for k in range(frames)]
    return write_video(path, pictures, 10)


def numbers_of(pixels: np.ndarray) -> list[int]:
    """Which frames of a numbered clip these are, (T, H, W, 3) → T numbers."""
    return np.rint((pixels.mean(axis=(1, 2, 3)) - 20) / LEVELS).astype(int).tolist()


def touch(path: Path) -> Path:
    """An empty file: finding clips looks at names alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


@pytest.fixture(name="write_numbered")
def _write_numbered() -> Callable[..., Path]:
    return write_numbered


@pytest.fixture(name="numbers_of")
def _numbers_of() -> Callable[[np.ndarray], list[int]]:
    return numbers_of


@pytest.fixture(name="touch")
def _touch() -> Callable[[Path], Path]:
    return touch


@pytest.fixture(scope="session")
def numbered_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`CLASS/K.mp4`: 6 classes of 4 clips, of 24 frames and, the last, of 5."""
    root = tmp_path_factory.mktemp("numbered")
    for label in ("clap", "brush_hair", "PlayGolf", "Folding [something]", "run", "sit"):
        for clip in range(4):
            write_numbered(root / label / f"{clip}.mp4", 5 if clip == 3 else 24)
    return root
