"""The diffs of "Add a metric" and "Add an engine" apply to a copy of the sources, which then works."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mafsar import choices
from mafsar.kernels import dispatch
from mafsar.synthetic import render_video

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "docs" / "how-to" / name for name in ("add-a-metric.md", "add-an-engine.md")]
_DIFF = re.compile(r"^```diff\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# The copy comes first, also where an editable install directs imports to the checkout.
_RUN = """
import sys
sys.meta_path[:] = [f for f in sys.meta_path if not hasattr(f, "known_source_files")]
sys.path.insert(0, {copy!r})
import mafsar
assert mafsar.__file__.startswith({copy!r}), mafsar.__file__
{then}
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources with the diffs of both pages applied, in which `mafsar` runs."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    folder = tmp_path_factory.mktemp("walked")
    leave_out = shutil.ignore_patterns("__pycache__", "assets", "_native*.so")
    for name in ("mafsar", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=leave_out)
    shutil.copy(ROOT / "pyproject.toml", folder)
    for page in PAGES:
        for block in _DIFF.findall(page.read_text(encoding="utf-8")):
            subprocess.run(
                ["git", "apply"], input=block, text=True, check=True, cwd=folder,
                env=os.environ | {"GIT_CEILING_DIRECTORIES": str(folder.parent)},
            )  # fmt: skip
    (folder / "mafsar" / "assets").symlink_to(ROOT / "mafsar" / "assets")
    (folder / "mafsar" / "export").symlink_to(ROOT / "export")
    native = dispatch.native()
    if native is not None:
        file = Path(native.__file__)
        (folder / "mafsar" / file.name).symlink_to(file)
    return folder


def run(copy: Path, then: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", _RUN.format(copy=str(copy), then=then)],
        capture_output=True, text=True, check=False, cwd=copy.parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_pages_add_what_does_not_exist_yet() -> None:
    assert "diagonal" not in choices.METRICS
    assert "numpy" not in choices.ENGINES


def test_the_new_metric_and_the_new_engine_name_a_clip(copy: Path, tmp_path: Path) -> None:
    for label in ("bend_forward", "wave_hand"):
        (tmp_path / "support" / label).mkdir(parents=True)
        render_video(label, tmp_path / "support" / label / "1.mp4", seed=1, size=112)
    render_video("wave_hand", tmp_path / "query.mp4", seed=77, size=112)
    paths = [str(tmp_path / name) for name in ("support", "query.mp4")]
    flags = ["--metric", "diagonal", "--engine", "numpy", "--text", "off", "--no-cache", "--json"]
    then = f"from mafsar.cli.app import main\nsys.argv = {['mafsar', 'match', *paths, *flags]!r}\nmain()"
    out = run(copy, then)
    assert '"engine": "numpy"' in out
    assert '"label": "wave_hand"' in out


def test_the_tests_that_the_pages_name_pass(copy: Path) -> None:
    """Those of the scores run over the new metric by themselves."""
    files = [
        "tests/model/test_class_scores.py", "tests/runtime/match/test_matcher.py",
        "tests/runtime/evaluation/test_evaluate.py", "tests/runtime/engines/test_numpy_encoder.py",
    ]  # fmt: skip
    arguments = ["-q", "-p", "no:cacheprovider", "-k", "diagonal or numpy_encoder"]
    arguments += [str(copy / file) for file in files]
    # pytest itself may leave a folder's iterator open when it ends, which is not ours to judge.
    arguments += ["-W", "ignore::ResourceWarning"]
    arguments += ["-W", "ignore::pytest.PytestUnraisableExceptionWarning"]
    out = run(copy, f"import pytest\nsys.exit(pytest.main({arguments!r}))")
    passed = re.search(r"^(\d+) passed", out, re.MULTILINE)
    assert passed is not None, out
    assert int(passed[1]) >= len(files), out
