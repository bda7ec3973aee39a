"""`make demo`: says what it does and for how long, also without a terminal."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

MAKEFILE = Path(__file__).parents[2] / "Makefile"
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def make(folder: Path, rule: str) -> subprocess.CompletedProcess[str]:
    text = MAKEFILE.read_text(encoding="utf-8")
    (macro,) = re.findall(r"^define step\n.*?^endef\n", text, re.MULTILINE | re.DOTALL)
    (folder / "Makefile").write_text(f"{macro}\nit:\n\t{rule}\n\t@echo next\n", encoding="utf-8")
    return subprocess.run(
        ["make", "--no-print-directory", "it"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_step_says_what_it_does_and_its_seconds(tmp_path: Path) -> None:
    done = make(tmp_path, "$(call step,doing it (again; slowly),sleep 11)")
    assert done.returncode == 0
    assert done.stdout == "next\n"
    first, while_running, last = done.stderr.splitlines()
    assert first == "doing it (again; slowly) ..."
    assert re.fullmatch(r"  \.\.\. 1\d s", while_running)
    assert re.fullmatch(r"  done in 1\d s", last)


def test_a_step_that_fails_ends_make(tmp_path: Path) -> None:
    done = make(tmp_path, "$(call step,failing,false && true)")
    assert done.returncode != 0
    assert "next" not in done.stdout
    assert "done in" not in done.stderr


def test_every_slow_step_of_the_demo_is_announced() -> None:
    done = subprocess.run(
        ["make", "-n", "-B", "VENV=no-such", "demo"],
        cwd=MAKEFILE.parent, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for line in done.stdout.replace("\\\n", "").splitlines():
        if re.search(r"pip .*(install|wheel)|-m venv", line):
            assert "began=" in line, line


def test_clips_of_ones_own_become_support_and_queries(tmp_path: Path) -> None:
    for label in ("wave", "point", "lone"):
        (tmp_path / "clips" / label).mkdir(parents=True)
        for name in ("a", "b", "c")[: 1 if label == "lone" else 3]:
            (tmp_path / "clips" / label / f"{name}.mp4").write_bytes(name.encode())
    words = [sys.executable, MAKEFILE.parent / "examples" / "demo.py", "demo", "clips"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = {str(path.relative_to(tmp_path / "demo")) for path in (tmp_path / "demo").rglob("*.*")}
    assert found == {
        "support/wave/a.mp4", "support/point/a.mp4", "queries/wave.mp4", "queries/point.mp4",
    }  # fmt: skip
    assert (tmp_path / "demo" / "queries" / "wave.mp4").read_bytes() == b"c"
    again = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert again.stderr.startswith("error: demo: exists already")
