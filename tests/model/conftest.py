"""Small networks with random weights everywhere, and the float64 re-statement of the method."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from mafsar.model.config import AdapterConfig, ModelConfig, TextConfig, VisionConfig
from mafsar.model.network import MafsarNetwork, build_network

MakeNetwork = Callable[..., MafsarNetwork]


@pytest.fixture(scope="session")
def restatement() -> ModuleType:
    """The module beside this file; test modules cannot import each other in importlib mode."""
    path = Path(__file__).with_name("restatement.py")
    spec = importlib.util.spec_from_file_location("restatement", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def small_config() -> ModelConfig:
    """N = 9 patches, D = 24, h = 6, E = 16, T = 4, three blocks."""
    return ModelConfig(
        name="small",
        embed_dim=16,
        vision=VisionConfig(width=24, layers=3, heads=3, patch_size=4, image_size=12),
        text=TextConfig(width=8, layers=2, heads=2, context_length=7, vocab_size=20),
        frames=4,
        adapters=AdapterConfig(),
    )


@pytest.fixture
def make_network() -> MakeNetwork:
    """Builds a network whose every parameter is random, the zeros of a fresh one included."""

    def make(
        config: ModelConfig, *, seed: int = 0, dtype: torch.dtype = torch.float64
    ) -> MafsarNetwork:
        network = build_network(config, seed=seed).to(dtype)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator).to(dtype))
        return network

    return make


@pytest.fixture
def weights_of() -> Callable[[MafsarNetwork], dict[str, np.ndarray]]:
    """A network's weights as float64 arrays by name."""
    return lambda network: {
        name: value.detach().double().numpy() for name, value in network.state_dict().items()
    }
