"""An encoder without files, and a small support folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mafsar.choices import Scoring
from mafsar.runtime.cache.features import FeatureCache
from mafsar.runtime.encoder import Features, ModelSpec

FRAMES, SIZE, WIDTH = 4, 32, 16


class FakeEncoder:
    """An encoder in plain numpy, which counts its calls.

    A frame's features are a fixed random projection of its 4 × 4 mean colours; the support
    branch adds half of the class's text embedding, so that the two branches differ.
    """

    engine = "onnx"
    device = "cpu"
    precision = "fp32"
    choice = "engine: onnx on cpu (a test)"

    def __init__(self, **changes: Any) -> None:
        values: dict[str, Any] = {
            "name": "fake", "backbone": "fake", "frames": FRAMES, "image_size": SIZE,
            "embed_dim": WIDTH, "adapters": "trained", "text": True, "prompts": ("a clip of {}",),
            "known_words": None, "scoring": Scoring("otam", 0.5, 0.3, 4.0, 10.0), "weights_sha256": "1" * 64, "parameters_total": 10,
            "parameters_tunable": 5,
        }  # fmt: skip
        for name in ("metric", "lam", "alpha", "visual_scale", "text_scale"):
            if name in changes:
                values["scoring"] = replace(values["scoring"], **{name: changes.pop(name)})
        self.spec = ModelSpec(**(values | changes))
        self.calls: dict[str, int] = {"query": 0, "support": 0, "text": 0}
        rng = np.random.default_rng(7)
        self.projection = rng.normal(size=(4 * 4 * 3, WIDTH)).astype(np.float32)

    def encode_query(self, frames: np.ndarray) -> Features:
        self.calls["query"] += len(frames)
        return self._features(frames)

    def encode_support(self, frames: np.ndarray, text: np.ndarray | None) -> Features:
        if text is None:
            return self.encode_query(frames)
        self.calls["support"] += len(frames)
        features = self._features(frames)
        return Features(features.frames + 0.5 * text[:, None], features.pooled)

    def encode_text(self, texts: Sequence[str]) -> np.ndarray:
        self.calls["text"] += len(texts)
        return np.stack([self.word(text) for text in texts])

    @staticmethod
    def word(text: str) -> np.ndarray:
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
        return np.random.default_rng(seed).normal(size=WIDTH).astype(np.float32)

    def _features(self, frames: np.ndarray) -> Features:
        assert frames.dtype == np.uint8
        assert frames.shape[1:] == (FRAMES, SIZE, SIZE, 3)
        blocks = frames.reshape(len(frames), FRAMES, 4, SIZE // 4, 4, SIZE // 4, 3)
        colours = blocks.mean(axis=(3, 5)) / 255.0 - 0.5  # (B, T, 4, 4, 3)
        raw = colours.reshape(len(frames), FRAMES, -1).astype(np.float32) @ self.projection
        return Features(raw, raw.mean(axis=1))


@pytest.fixture
def make_encoder() -> Callable[..., FakeEncoder]:
    """Makes a fake encoder; keywords change its `ModelSpec`."""
    return FakeEncoder


@pytest.fixture
def encoder() -> FakeEncoder:
    return FakeEncoder()


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    return FeatureCache(tmp_path / "cache")


@pytest.fixture
def support_folder(tmp_path: Path, make_clip: Callable[..., Path]) -> Path:
    """Three classes of three clips each."""
    root = tmp_path / "support"
    for kind, label in enumerate(("clap_hands", "jump", "wave")):
        for variant in range(3):
            make_clip(root / label / f"clip{variant}", kind, variant)
    return root
