"""Fixtures that every test folder shares."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

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
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or fills the user's feature cache."""
    monkeypatch.setenv("MAFSAR_CACHE", str(tmp_path_factory.mktemp("cache")))
