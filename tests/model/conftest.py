"""Fixtures for tests against the float64 restatement of the method."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from mafsar.model.network import MafsarNetwork


@pytest.fixture(scope="session")
def restatement() -> ModuleType:
    """The module beside this file; in importlib mode test modules cannot import each other."""
    path = Path(__file__).with_name("restatement.py")
    spec = importlib.util.spec_from_file_location("restatement", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def weights_of() -> Callable[[MafsarNetwork], dict[str, np.ndarray]]:
    """A network's weights as float64 arrays by name."""
    return lambda network: {
        name: value.detach().double().numpy() for name, value in network.state_dict().items()
    }
