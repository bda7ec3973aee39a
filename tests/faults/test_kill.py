"""`make kill` with fewer kills."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")


@pytest.mark.slow
@pytest.mark.parametrize(
    "verb", ["enroll", "enroll --add", "train", "export", "data pack", "watch"]
)
def test_a_kill_leaves_nothing_half(verb: str) -> None:
    script = Path(__file__).with_name("kill.py")
    command = [sys.executable, "-W", "ignore", str(script), verb, "--kills", "6", "--seed", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
