"""Fixtures that every test folder shares."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    import torch

    from mafsar.model.config import ModelConfig
    from mafsar.model.network import MafsarNetwork

TEST_DATA_VARIABLE = "MAFSAR_TEST_DATA"
STARTED_IN = Path.cwd()


@pytest.fixture(scope="session")
def real_clips() -> Path:
    """The folder of real clips (scenes6/, actions2/, street60/, formats/)."""
    folder = os.environ.get(TEST_DATA_VARIABLE)
    if not folder:
        pytest.skip(f"set {TEST_DATA_VARIABLE} to the folder of real clips")
    path = STARTED_IN / folder
    if not (path / "scenes6").is_dir():
        pytest.fail(f"{TEST_DATA_VARIABLE}={folder} has no scenes6/ folder")
    return path


@pytest.fixture(autouse=True, scope="session")
def _away_from_the_checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Programs that tests start see the installed package.

    ``python -c`` and ``python -m`` put the working folder first, and the checkout's ``mafsar/``
    has neither the native module nor ``mafsar.export``.
    """
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("away"))
    yield
    os.chdir(before)


@pytest.fixture(autouse=True, scope="session")
def _interrupts_are_heard() -> None:
    """A shell that runs the tests in the background has them, and all they start, ignore SIGINT."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables are as wide as they need, whatever the terminal that the tests were started in."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or fills the user's feature cache."""
    monkeypatch.setenv("MAFSAR_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def make_clip() -> Callable[..., Path]:
    """Writes a frame folder whose pictures move through colours that depend on `kind`."""
    from PIL import Image  # here, because the GPU tests run where Pillow may be missing

    def write(folder: Path, kind: int, variant: int = 0, count: int = 6) -> Path:
        folder.mkdir(parents=True)
        base = np.random.default_rng(1000 + kind).integers(0, 256, (count, 4, 4, 3))
        noise = np.random.default_rng(kind * 97 + variant).integers(-12, 13, (count, 4, 4, 3))
        pictures = np.clip(base + noise, 0, 255).astype(np.uint8)
        for i, picture in enumerate(pictures):
            image = Image.fromarray(picture).resize((32, 32), Image.Resampling.NEAREST)
            image.save(folder / f"{i:03d}.png")
        return folder

    return write


@pytest.fixture(scope="session")
def load_file() -> Callable[[Path], ModuleType]:
    """Loads a file of the tests by its path: test files cannot import each other by name."""

    def load(path: Path) -> ModuleType:
        name = f"tests_{path.parent.name}_{path.stem}"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses look their module up by name
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def kernel_build(load_file: Callable[[Path], ModuleType]) -> ModuleType:
    """csrc/tests/kernel_build.py: compiles the kernels for test programs."""
    return load_file(Path(__file__).parents[1] / "csrc" / "tests" / "kernel_build.py")


@pytest.fixture
def old_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files of version 0.1.0, in the working folder: the run names its base by a relative path."""
    with zipfile.ZipFile(Path(__file__).parent / "compat" / "files-0.1.0.zip") as archive:
        archive.extractall(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def restated_views(load_file: Callable[[Path], ModuleType]) -> ModuleType:
    """tests/restatements/views.py: what is seen about a mean, in float64."""
    return load_file(Path(__file__).parent / "restatements" / "views.py")


@pytest.fixture(scope="session")
def restated_matching(load_file: Callable[[Path], ModuleType]) -> ModuleType:
    """tests/restatements/matching.py: OTAM, Bi-MHM and cosine distances in float64."""
    return load_file(Path(__file__).parent / "restatements" / "matching.py")


@pytest.fixture
def small_config() -> ModelConfig:
    """N = 9 patches, D = 24, h = 6, E = 16, T = 4, three blocks."""
    from mafsar.model.config import AdapterConfig, ModelConfig, TextConfig, VisionConfig

    return ModelConfig(
        name="small",
        embed_dim=16,
        vision=VisionConfig(width=24, layers=3, heads=3, patch_size=4, image_size=12),
        text=TextConfig(width=8, layers=2, heads=2, context_length=7, vocab_size=20),
        frames=4,
        adapters=AdapterConfig(),
    )


@pytest.fixture
def make_network() -> Callable[..., MafsarNetwork]:
    """Builds a network whose every parameter is random, the zeros of a fresh one included."""
    import torch

    from mafsar.model.network import build_network

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
