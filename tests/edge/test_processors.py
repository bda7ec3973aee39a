"""The fast tests on processors that this machine does not have, by qemu's emulation of a program.

`make test-processors` runs them. The emulator knows AVX2 and not AVX-512: there a processor that has
it is one with AVX2. The kernels' AVX-512 table is tested where the machine itself has it.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
CSRC = ROOT / "csrc"
PROCESSORS = {
    "Nehalem": {"sse2"},
    "Westmere": {"sse2"},
    "Haswell": {"sse2", "avx2"},
    "EPYC": {"sse2", "avx2"},
    "Skylake-Server": {"sse2", "avx2"},
}
"""The emulated processors, and the tables of kernels that each can run."""
PYTHON_TESTS = (
    "tests/kernels/test_native.py", "tests/kernels/test_metric.py", "tests/runtime/scoring",
    "tests/runtime/bank/test_verdict.py", "tests/video/test_sampling.py",
)  # fmt: skip

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        platform.machine() != "x86_64" or not shutil.which("qemu-x86_64"),
        reason="qemu-x86_64 is missing: sudo apt-get install qemu-user",
    ),
    pytest.mark.skipif(not CSRC.is_dir(), reason="the C++ sources are not next to the tests"),
]


def emulated(processor: str, *command: str | Path, timeout: float = 900) -> str:
    """What a program says on an emulated processor; it must end well."""
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    # numpy of this machine's distribution may be told which kernels to take.
    environment.pop("OPENBLAS_CORETYPE", None)
    done = subprocess.run(
        ["qemu-x86_64", "-cpu", processor, *map(str, command)], capture_output=True, text=True,
        timeout=timeout, check=False, env=environment,
    )  # fmt: skip
    said = [line for line in done.stderr.splitlines() if "TCG doesn't support" not in line]
    assert done.returncode == 0, f"{processor}: {done.stdout[-3000:]}\n{said[-20:]}"
    return done.stdout


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory, kernel_build: ModuleType) -> dict[str, Path]:
    """`golden` and `fuzz`, built once with every table."""
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("c++")
    if not compiler:
        pytest.skip("no C++ compiler on PATH")
    folder = tmp_path_factory.mktemp("programs")
    flags, common = ["-std=c++17", "-O1"], kernel_build.common_flags("x86_64")
    objects = kernel_build.compile_kernels(compiler, flags, folder, "x86_64")
    found = {}
    for name, more in (("test_golden", ()), ("fuzz", ("-DMAFSAR_FUZZ_MAIN",))):
        found[name] = folder / name
        source = CSRC / "tests" / f"{name}.cpp"
        subprocess.run(
            [compiler, *flags, *common, *more, source, *objects, "-pthread", "-o", found[name]],
            check=True,
        )
    return found


@pytest.mark.parametrize("processor", PROCESSORS)
def test_kernels_give_the_golden_numbers(processor: str, programs: dict[str, Path]) -> None:
    said = emulated(processor, programs["test_golden"], CSRC / "tests" / "golden.txt")
    assert {line.split()[0] for line in said.splitlines()} == PROCESSORS[processor]
    assert "Done 200 runs" in emulated(processor, programs["fuzz"], "200")


@pytest.mark.parametrize("name", PYTHON_TESTS)
@pytest.mark.parametrize("processor", ["Nehalem", "Haswell", "EPYC"])
def test_the_fast_python_tests(processor: str, name: str) -> None:
    """They start programs of their own on the machine itself; everything else is emulated."""
    options = ["-q", "-p", "no:cacheprovider", "--timeout", "900"]
    # By its file: `python -m pytest` would find the checkout before the installed package.
    program = Path(sys.executable).with_name("pytest")
    said = emulated(processor, sys.executable, program, *options, ROOT / name)
    assert " passed" in said


ENCODE = """
import json, sys
import numpy as np
import mafsar
from mafsar.runtime.bank.maker import probe_frames

model = mafsar.load_model("tiny", engine="onnx", device="cpu", threads=1)
print(json.dumps(model.encode_query(probe_frames(model.spec)).frames.tolist()))
"""


@pytest.mark.parametrize("processor", ["Nehalem", "Haswell"])
def test_the_shipped_model_computes_the_same_features(processor: str, tmp_path: Path) -> None:
    """A bank of one machine is used on others: the engine's own kernels differ between them."""
    script = tmp_path / "encode.py"
    script.write_text(ENCODE)
    here = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=True, timeout=300
    ).stdout
    own = np.array(json.loads(here), np.float64)
    there = np.array(json.loads(emulated(processor, sys.executable, script)), np.float64)
    own /= np.linalg.norm(own, axis=-1, keepdims=True)
    there /= np.linalg.norm(there, axis=-1, keepdims=True)
    assert (own * there).sum(axis=-1).min() > 0.9999  # what fp32 is held to between engines
