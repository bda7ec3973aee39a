"""The layers and rooms of ARCHITECTURE.md, read from the imports, and the edge half without torch."""

from __future__ import annotations

import ast
import graphlib
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Who may import whom, beside itself, the standard library and third parties.
GROUND = {"choices", "documents", "errors", "extras", "files", "plain", "version"}
ARROWS: dict[str, set[str]] = {
    **{name: set() for name in (*GROUND, "_native")},
    "kernels": {"_native"},
    "video": {"kernels"},
    "model": {"kernels"},
    "data": {"kernels", "video"},
    "synthetic": {"kernels", "video", "data"},
    "runtime": {"kernels", "video", "model", "data", "synthetic"},
    "export": {"kernels", "video", "model", "data", "synthetic", "runtime"},
    "training": {"kernels", "video", "model", "data", "synthetic", "runtime", "export"},
    "cli": {"kernels", "video", "model", "data", "synthetic", "runtime", "export", "training"},
}

# The rooms, bottom to top: a file imports only files of its own entry or of one above it in this
# list, lazily or not. An entry is a folder or a file; the longest one that fits a file counts.
ROOMS = [
    "mafsar/version.py",
    "mafsar/errors.py",
    "mafsar/plain.py",
    "mafsar/choices.py",
    "mafsar/extras.py",
    "mafsar/files.py",
    "mafsar/documents.py",
    "mafsar/kernels/checks.py",
    "mafsar/kernels/dispatch.py",
    "mafsar/kernels/reference.py",
    "mafsar/kernels/numpy_reference.py",
    "mafsar/kernels/numpy_ops.py",
    "mafsar/kernels/torch_ops",
    "mafsar/kernels/api.py",
    "mafsar/kernels",  # the table of metrics, and metrics made of the functions above
    "mafsar/kernels/__init__.py",
    "mafsar/video",
    "mafsar/model",
    "mafsar/data",
    "mafsar/synthetic/palette.py",
    "mafsar/synthetic/motion.py",
    "mafsar/synthetic/body.py",
    "mafsar/synthetic/painting",
    "mafsar/synthetic/actions",
    "mafsar/synthetic/clips",
    "mafsar/synthetic/__init__.py",
    "mafsar/synthetic/sets",
    "mafsar/synthetic/__main__.py",
    "mafsar/runtime/encoder.py",
    "mafsar/runtime/report/page.py",
    "mafsar/runtime/report/alignment.py",
    "mafsar/runtime/report/confusion.py",
    "mafsar/runtime/cache",
    "mafsar/runtime/scoring",
    "mafsar/runtime/engines",
    "mafsar/runtime/bank",
    "mafsar/runtime/match",
    "mafsar/runtime/live",
    "mafsar/runtime/archive",
    "mafsar/runtime/machine",
    "mafsar/runtime/evaluation",
    "mafsar/runtime/report",
    "mafsar/runtime/studio",
    "mafsar/runtime/__init__.py",
    "export/__init__.py",
    "export/versions.py",
    "export/thresholds.py",
    "export/options.py",
    "export/bundle_folder.py",
    "export/bundle_draft.py",
    "export/graphs",
    "export/verify",
    "export/engines",
    "export/model_source.py",
    "export/job.py",
    "export/first_use.py",
    "mafsar/training",
    "mafsar/training/starter",
    "mafsar/cli",
    "mafsar/__init__.py",
    "mafsar/__main__.py",
]

# Conveniences on `Bank`, documented as such: each imports what stands above it, inside the method.
CONVENIENCES = {
    ("mafsar/runtime/bank/bank.py", "mafsar/runtime/match/answers.py"),  # the type of an answer
    ("mafsar/runtime/bank/bank.py", "mafsar/runtime/match/matcher.py"),  # Bank.match
    ("mafsar/runtime/bank/bank.py", "mafsar/runtime/report/enroll_page.py"),  # Bank.report
    ("mafsar/runtime/bank/bank.py", "mafsar/runtime/bank/update.py"),  # Bank.save after adding
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
    allowed = ARROWS[layer] | GROUND | {layer, ""}
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


FILES = {module_name(path): relative(path) for path in python_files()}


def imported_files(path: Path) -> set[str]:
    """Files of the package that a file imports, lazily, for typing or at once."""
    names = imported_names(ast.parse(path.read_text("utf-8")), type_checking_too=True)
    # `from package import name` names the package too: it counts only where no module is meant.
    modules = {name for name in names if name in FILES}
    packages = {name.rpartition(".")[0] for name in modules}
    own = relative(path)
    return {FILES[name] for name in modules if name not in packages} - {own}


def room_of(path: str) -> int:
    """The place of a file's entry in `ROOMS`."""
    fitting = [room for room in ROOMS if path == room or path.startswith(f"{room}/")]
    assert fitting, f"{path} stands in no room; add its folder to ROOMS"
    return ROOMS.index(max(fitting, key=len))


def test_rooms_keep_their_order() -> None:
    for path in python_files():
        for other in imported_files(path):
            pair = (relative(path), other)
            if pair not in CONVENIENCES:
                assert room_of(other) <= room_of(pair[0]), f"{pair[0]} imports {other}, above it"


def test_no_two_files_import_each_other() -> None:
    graph = {
        relative(path): {
            other for other in imported_files(path) if (relative(path), other) not in CONVENIENCES
        }
        for path in python_files()
    }
    order = graphlib.TopologicalSorter(graph)
    try:
        order.prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"files import each other: {' -> '.join(error.args[1])}")


def test_the_lists_name_only_what_exists() -> None:
    present = set(FILES.values())
    for room in (*ROOMS, *TORCH_ALLOWED, *TORCH_FREE_IN_MODEL):
        assert (ROOT / room.rstrip("/")).exists(), f"{room} does not exist"
    for path, other in CONVENIENCES:
        assert {path, other} <= present
        assert other in imported_files(ROOT / path), f"{path} no longer imports {other}"
    for layer in ARROWS:
        assert any(
            (ROOT / folder).exists()
            for folder in (f"mafsar/{layer}", f"mafsar/{layer}.py", f"mafsar/{layer}.pyi", layer)
        ), f"{layer} does not exist"
    assert len(set(ROOMS)) == len(ROOMS)
    used = {room_of(path) for path in present}
    assert used == set(range(len(ROOMS))), f"empty rooms: {set(range(len(ROOMS))) - used}"


@pytest.mark.parametrize("path", python_files(), ids=relative)
def test_private_names_stay_in_their_module(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    modules: set[str] = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("mafsar"):
            continue
        for alias in node.names:
            name = f"{node.module}.{alias.name}"
            if name == "mafsar._native":
                continue
            assert not alias.name.startswith("_") or alias.name.startswith("__"), (
                f"{relative(path)} imports {name}"
            )
            if name in FILES:
                modules.add(alias.asname or alias.name)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            private = node.attr.startswith("_") and not node.attr.startswith("__")
            assert not (private and node.value.id in modules), (
                f"{relative(path)} line {node.lineno} uses {node.value.id}.{node.attr}"
            )


def test_every_name_in_a_public_list_exists() -> None:
    lists = {
        name: file for name, file in FILES.items() if "__all__ = [" in (ROOT / file).read_text()
    }
    assert {"mafsar", "mafsar.kernels", "mafsar.video", "mafsar.synthetic"} <= set(lists)
    for name in lists:
        module = importlib.import_module(name)
        names = module.__all__
        assert len(set(names)) == len(names), f"{name} lists a name twice"
        for each in names:
            assert hasattr(module, each), f"{name} has no {each}"


def test_the_public_names_are_those_of_the_contract() -> None:
    import mafsar
    from mafsar import errors

    kinds = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.MafsarError)
    }
    assert set(dir(mafsar)) == kinds | {
        "Bank", "Encoder", "Event", "Features", "Geometry", "Match", "Matcher", "ModelSpec",
        "Scoring", "Status", "TrainConfig", "Watch", "__version__", "enroll", "evaluate",
        "export_model", "list_models", "load_model", "match", "merge_banks", "read_bank", "train",
        "watch",
    }  # fmt: skip
    for name in dir(mafsar):
        value = getattr(mafsar, name)
        if not callable(value) or isinstance(value, type):
            continue
        for parameter in inspect.signature(value).parameters.values():
            assert parameter.kind is not parameter.VAR_KEYWORD, f"{name} hides its options"


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
