"""What a process says of its memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mafsar.runtime.machine.system import peak_bytes, read_sizes

CODE = """
import subprocess, sys
held = b"x" * 300_000_000
code = "from mafsar.runtime.machine.system import peak_bytes; print(peak_bytes())"
print(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_a_child_s_peak_is_its_own() -> None:
    """`ru_maxrss` of a child begins with its parent's memory."""
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, check=True, timeout=60
    )
    assert 1_000_000 < int(done.stdout) < 150_000_000
    assert peak_bytes() > 1_000_000


def test_sizes_are_read(tmp_path: Path) -> None:
    path = tmp_path / "meminfo"
    path.write_text("MemTotal:        7620348 kB\nHugePages_Total:       0\nSwapTotal: x kB\n")
    assert read_sizes(path) == {"MemTotal": 7620348 * 1024}
    assert read_sizes(tmp_path / "none") == {}
