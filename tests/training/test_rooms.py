"""Training on a user's clips loads no renderer and nothing of the recipe of the shipped model."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import mafsar.training

RUN = """
import sys
from mafsar.cli.app import build_app
try:
    build_app()(sys.argv[1:])
except SystemExit as end:
    assert not end.code, end.code
print(*sorted(name for name in sys.modules if name.startswith("mafsar.")), file=sys.stderr)
"""


def test_a_run_loads_neither_renderer_nor_recipe(small_words: list[str], tmp_path: Path) -> None:
    line = ["train", "-o", str(tmp_path / "run"), "--device", "cpu", *small_words, "episodes=2"]
    done = subprocess.run(
        [sys.executable, "-c", RUN, *line], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    loaded = done.stderr.splitlines()[-1].split()
    assert "mafsar.training.trainer" in loaded
    assert "mafsar.training.validate" in loaded
    unwanted = ("mafsar.synthetic", "mafsar.training.starter")
    assert [name for name in loaded if name.startswith(unwanted)] == []
    assert find_spec("mafsar.training.starter") is not None  # so that its absence says something


def test_training_never_imports_the_recipe_or_the_renderer() -> None:
    """Not in a function either, which the run above may not have called."""
    for folder in mafsar.training.__path__:
        for path in Path(folder).glob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom):
                    names = [f"{node.module}.{alias.name}" for alias in node.names]
                for name in names:
                    assert not name.startswith(("mafsar.synthetic", "mafsar.training.starter")), (
                        f"{path.name} imports {name}"
                    )
