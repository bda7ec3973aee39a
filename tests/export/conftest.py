"""A small network, its bundle, and what tests do to graphs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mafsar.export.onnx import export_bundle

from mafsar.model.config import AdapterConfig, ModelConfig, TextConfig, VisionConfig
from mafsar.model.network import MafsarNetwork, build_network

CONFIG = ModelConfig(
    name="small",
    embed_dim=64,
    vision=VisionConfig(width=96, layers=2, heads=3, patch_size=8, image_size=32),
    text=TextConfig(width=64, layers=1, heads=2, context_length=9, vocab_size=50),
    frames=4,
    adapters=AdapterConfig(),
)


def _network(config: ModelConfig = CONFIG, seed: int = 0) -> MafsarNetwork:
    network = build_network(config, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return network


@pytest.fixture(scope="session")
def make_network() -> Callable[..., MafsarNetwork]:
    """(config, seed) → a network whose every parameter is random."""
    return _network


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    path = tmp_path_factory.mktemp("tokenizer") / "words.json"
    Tokenizer(WordLevel({"a": 1, "[UNK]": 0}, unk_token="[UNK]")).save(str(path))
    return path


@pytest.fixture(scope="session")
def small(tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An fp32 bundle with all three graphs; not to be written to."""
    out = tmp_path_factory.mktemp("small") / "small.mafsar"
    return export_bundle(_network(), tokenizer, out, extra={"known_words": ["a"]})


@pytest.fixture
def bundle_copy(small: Path, tmp_path: Path) -> Path:
    """A bundle that a test may change."""
    return Path(shutil.copytree(small, tmp_path / "copy.mafsar"))
