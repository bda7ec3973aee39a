"""A small rendered support, and an encoder of a few lines in place of a trained model."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from mafsar.choices import Scoring
from mafsar.runtime.encoder import Features, ModelSpec
from mafsar.video import write_video

MOVES = {"goes_left": (-1, 0), "goes_right": (1, 0), "goes_up": (0, -1), "goes_down": (0, 1)}


class PixelEncoder:
    """Encodes a frame as its 8×8 grey picture: enough to tell where a square is."""

    engine, device, precision = "onnx", "cpu", "fp32"
    choice = "engine: onnx on cpu (a stand-in for tests)"

    def __init__(self) -> None:
        self.spec = ModelSpec(
            name="tiny",
            backbone="pixels",
            frames=8,
            image_size=32,
            embed_dim=64,
            adapters="trained",
            text=True,
            prompts=("a photo of {}",),
            known_words=frozenset({"goes", "left", "right", "up"}),
            scoring=Scoring("otam", lam=0.5, alpha=0.3, visual_scale=1.0, text_scale=100.0),
            weights_sha256="0" * 64,
            parameters_total=0,
            parameters_tunable=0,
            notice="tiny is a stand-in",
        )

    def encode_query(self, frames: np.ndarray) -> Features:
        batch, length = frames.shape[:2]
        blocks = frames.mean(axis=-1).reshape(batch, length, 8, 4, 8, 4).mean(axis=(3, 5))
        features = (blocks.reshape(batch, length, 64) / 255.0).astype(np.float32)
        features -= features.mean(axis=-1, keepdims=True)
        return Features(features, features.mean(axis=1))

    def encode_support(self, frames: np.ndarray, text: np.ndarray | None) -> Features:
        del text
        return self.encode_query(frames)

    def encode_text(self, texts: Sequence[str]) -> np.ndarray:
        seeds = [int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) for text in texts]
        rows = [np.random.default_rng(seed).standard_normal(64) for seed in seeds]
        return np.stack(rows).astype(np.float32)


def render(path: Path, move: tuple[int, int], seed: int, *, seconds: float = 1.0) -> Path:
    """A white square that moves over a dark ground, 64×64 at 16 frames a second."""
    rng = np.random.default_rng(seed)
    frames = []
    count = round(16 * seconds)
    start = 32 + rng.integers(-3, 4, 2) - 22 * np.array(move)
    for k in range(count):
        x, y = (start + np.array(move) * 44 * k / max(count - 1, 1)).round().astype(int)
        frame = rng.integers(10, 40, (64, 64, 3)).astype(np.uint8)
        frame[max(y - 8, 0) : max(y + 8, 0), max(x - 8, 0) : max(x + 8, 0)] = 235
        frames.append(frame)
    return write_video(path, frames, 16)


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`support/CLASS/N.mp4` (4 classes × 3 clips) and `queries/CLASS.mp4`."""
    root = tmp_path_factory.mktemp("scene")
    for number, (label, move) in enumerate(MOVES.items()):
        for clip in range(3):
            render(root / "support" / label / f"{clip}.mp4", move, 10 * number + clip)
        render(root / "queries" / f"{label}.mp4", move, 1000 + number)
    return root


@pytest.fixture
def pixels(monkeypatch: pytest.MonkeyPatch) -> PixelEncoder:
    """Every model name means the stand-in."""
    encoder = PixelEncoder()
    for name in ("open_model", "load_bank_model"):
        monkeypatch.setattr(f"mafsar.runtime.engines.loading.{name}", lambda *_, **__: encoder)
    return encoder
