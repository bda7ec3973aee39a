"""The layer arrows of ARCHITECTURE.md, read from the imports, and the edge half without torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Who may import whom, beside itself, the standard library and third parties.
COMMON = {"choices", "errors", "extras", "files", "version"}
ARROWS = {
    "choices": set(),
    "version": set(),
    "errors": set(),
    "files": set(),
    "extras": set(),
    "_native": set(),
    "kernels": {"_native"},
    "video": {"kernels"},
    "model": {"kernels"},
    "synthetic": {"kernels", "video", "data"},
    "data": {"kernels", "video"},
    "runtime": {"kernels", "video", "model", "data", "synthetic"},
    "export": {"kernels", "video", "model", "data", "synthetic", "runtime"},
    "training": {"kernels", "video", "model", "data", "synthetic", "runtime", "export"},
    "cli": {"kernels", "video", "model", "data", "synthetic", "runtime", "export", "training"},
}

# The only places where torch (and what needs it) may be imported.
TORCH_ALLOWED = (
    "mafsar/model/",
    "mafsar/training/",
    "mafsar/kernels/reference.py",
    "mafsar/kernels/torch_ops/",
    "mafsar/data/loader.py",
    "mafsar/runtime/engines/torch_encoder.py",
    "export/graphs/trace.py",
    "export/graphs/network_bundle.py",
)
TORCH_FREE_IN_MODEL = (
    "mafsar/model/__init__.py",
    "mafsar/model/config.py",
    "mafsar/model/stem_table.py",
)
TORCH_NAMES = {"torch", "torchvision", "open_clip"}


def python_files() -> list[Path]:
    return sorted([*(ROOT / "mafsar").rglob("*.py"), *(ROOT / "export").rglob("*.py")])


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module_name(path: Path) -> str:
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    if parts[0] == "export":
        parts.insert(0, "mafsar")
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts)


def imported_names(tree: ast.AST, *, type_checking_too: bool) -> set[str]:
    """Absolute module names that a file imports; relative imports do not occur here."""
    names: set[str] = set()
    stack: list[ast.AST] = [tree]
    while stack:
        node = stack.pop()
        is_typing_guard = (
            isinstance(node, ast.If)
            and isinstance(node.test, ast.Name)
            and node.test.id == "TYPE_CHECKING"
        )
        if is_typing_guard and not type_checking_too:
            continue
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute in this project"
            assert node.module is not None
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
        stack.extend(ast.iter_child_nodes(node))
    return names


def torch_may_be_imported(path: str) -> bool:
    return path.startswith(TORCH_ALLOWED) and path not in TORCH_FREE_IN_MODEL


@pytest.mark.parametrize("path", python_files(), ids=relative)
def test_imports_follow_the_arrows(path: Path) -> None:
    parts = module_name(path).split(".")
    if len(parts) < 2 or parts[1] == "__main__":
        return  # the package itself hands out names lazily
    layer = parts[1]
    allowed = ARROWS[layer] | COMMON | {layer, ""}
    for name in imported_names(ast.parse(path.read_text("utf-8")), type_checking_too=True):
        words = name.split(".")
        assert words[0] != "export", f"{relative(path)} imports {name}; write mafsar.export"
        if words[0] != "mafsar" or len(words) < 2 or words[1] == "__version__":
            continue
        assert words[1] in allowed, f"{relative(path)} imports {name}: against the arrows"


@pytest.mark.parametrize("path", python_files(), ids=relative)
def test_torch_is_imported_only_where_it_may_be(path: Path) -> None:
    if torch_may_be_imported(relative(path)):
        return
    names = imported_names(ast.parse(path.read_text("utf-8")), type_checking_too=False)
    torch_like = {name for name in names if name.split(".")[0] in TORCH_NAMES}
    assert not torch_like, f"{relative(path)} imports {sorted(torch_like)}"


def test_edge_modules_import_with_torch_blocked() -> None:
    modules = [
        module_name(p)
        for p in python_files()
        if not torch_may_be_imported(relative(p)) and p.name != "__main__.py"
    ]
    code = f"""
import importlib, sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {sorted(TORCH_NAMES)!r}:
            raise ImportError(name + " is blocked in this test")
sys.meta_path.insert(0, Block())
for name in {modules!r}:
    importlib.import_module(name)
assert "torch" not in sys.modules
assert "export" not in sys.modules, "the top-level folder was imported by accident"
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_no_file_is_too_long() -> None:
    native = [p for p in (ROOT / "csrc").rglob("*") if p.suffix in {".h", ".cpp", ".cu", ".cuh"}]
    others = [*(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
    for path in [*python_files(), *native, *others]:
        lines = path.read_text("utf-8").count("\n")
        assert lines <= 500, f"{relative(path)} has {lines} lines"


def test_native_sources_know_neither_torch_nor_python() -> None:
    for path in (ROOT / "csrc").rglob("*"):
        if path.suffix not in {".h", ".cpp", ".cu", ".cuh"} or path.name == "bindings.cpp":
            continue
        text = path.read_text("utf-8")
        for forbidden in ("torch/", "ATen", "pybind11", "Python.h"):
            assert forbidden not in text, f"{relative(path)} mentions {forbidden}"
