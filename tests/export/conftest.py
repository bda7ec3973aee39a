"""A small network, its bundles and a stand-in for TensorRT."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

from mafsar.export.graphs.network_bundle import export_bundle
from mafsar.export.job import export_model
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
    """An fp32 bundle with all three graphs; read only."""
    out = tmp_path_factory.mktemp("small") / "small.mafsar"
    return export_bundle(_network(), tokenizer, out, extra={"known_words": ["a"]})


@pytest.fixture
def bundle_copy(small: Path, tmp_path: Path) -> Path:
    """A bundle that a test may change."""
    return Path(shutil.copytree(small, tmp_path / "copy.mafsar"))


@pytest.fixture(scope="session")
def fake_trt() -> ModuleType:
    """The stand-in for TensorRT in `fake_trt.py`."""
    path = Path(__file__).with_name("fake_trt.py")
    spec = importlib.util.spec_from_file_location("fake_trt", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def whole(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with fp16 graphs and a probe; read only."""
    out = tmp_path_factory.mktemp("whole") / "whole.mafsar"
    return export_model(small, out).path
