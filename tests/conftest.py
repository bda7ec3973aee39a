"""Fixtures that every test folder shares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

TEST_DATA_VARIABLE = "MAFSAR_TEST_DATA"


@pytest.fixture(scope="session")
def real_clips() -> Path:
    """The folder of real clips (scenes6/, actions2/, street60/, formats/)."""
    folder = os.environ.get(TEST_DATA_VARIABLE)
    if not folder:
        pytest.skip(f"set {TEST_DATA_VARIABLE} to the folder of real clips")
    path = Path(folder)
    if not (path / "scenes6").is_dir():
        pytest.fail(f"{TEST_DATA_VARIABLE}={folder} has no scenes6/ folder")
    return path


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or fills the user's feature cache."""
    monkeypatch.setenv("MAFSAR_CACHE", str(tmp_path_factory.mktemp("cache")))
