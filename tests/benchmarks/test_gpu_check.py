"""benchmarks/gpu_check.sh as far as it goes without a GPU."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "gpu_check.sh"

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")


def test_a_dry_run_calls_every_kernel(tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", str(SCRIPT), "--dry-run", str(tmp_path)],
        env=os.environ | {"PYTHON": sys.executable}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.partition(" in ")[0] for line in done.stdout.splitlines()] == [
        "calls: ok", "collect: ok"
    ]  # fmt: skip
    assert "30 calls, forward and backward, on cpu" in (tmp_path / "log.txt").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["log.txt"]


@pytest.mark.parametrize(
    ("said", "status", "want"),
    [
        ("ERROR SUMMARY: 0 errors", 0, "memcheck: ok"),
        (
            "Error: Target application not supported on this platform",
            1,
            "not supported on this host",
        ),
        ("Invalid __global__ read of size 4", 9, "memcheck: FAILED (9)"),
        ("an error in a log where not supported is said too", 9, "memcheck: FAILED (9)"),
        ("a slow tool", 124, "memcheck: FAILED, cut off after 20 s"),
    ],
    ids=["clean", "not supported", "an error", "an error and more", "cut off"],
)
def test_what_the_sanitizer_says(tmp_path: Path, said: str, status: int, want: str) -> None:
    """The stage's own functions, with a stand-in for compute-sanitizer."""
    tool = tmp_path / "compute-sanitizer"
    tool.write_text(f"#!/bin/sh\necho '{said}'\nexit {status}\n")
    tool.chmod(0o755)
    source = SCRIPT.read_text()
    parts = [source[source.index(name) : source.index("\n}\n", source.index(name)) + 3]
             for name in ("stage() {", "sanitize() {")]  # fmt: skip
    script = "\n".join([
        f"out={tmp_path} logs={tmp_path} root={ROOT} python=python3 failed=0", *parts,
        "export -f sanitize; export logs root python", "stage memcheck 20 bash -c 'sanitize memcheck'",
    ])  # fmt: skip
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script], env=os.environ | {"PATH": path}, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert want in done.stdout
