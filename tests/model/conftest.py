"""Fixtures for tests against the float64 restatement of the method."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from mafsar.model.network import MafsarNetwork


@pytest.fixture(scope="session")
def restatement(load_file: Callable[[Path], ModuleType]) -> ModuleType:
    """restatement.py next to this file: the network and the scores in float64."""
    return load_file(Path(__file__).with_name("restatement.py"))


@pytest.fixture
def weights_of() -> Callable[[MafsarNetwork], dict[str, np.ndarray]]:
    """A network's weights as float64 arrays by name."""
    return lambda network: {
        name: value.detach().double().numpy() for name, value in network.state_dict().items()
    }
