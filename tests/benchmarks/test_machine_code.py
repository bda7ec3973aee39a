"""benchmarks/machine_code.py: the names of kernels, and what must not be in the machine code."""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def code(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("machine_code")


def test_names_say_which_product_it_is(code: ModuleType) -> None:
    space = "mafsar::portable::"
    form = (
        f"{space}StreamedForm<({space}Along)0, ({space}Prepare)1, ({space}Along)0, "
        f"({space}Prepare)0, true>, mafsar::Bfloat16"
    )
    job = f"{space}ProductJob<mafsar::Bfloat16>"
    for name, want in (
        (f"void mafsar::product_kernel<{form}>({job})", "product x Wᵀ, norm, deep, bfloat16"),
        (
            f"void mafsar::product_kernel<{space}AnyForm, float>({space}ProductJob<float>)",
            "product, any layout, float32",
        ),
        (f"void mafsar::align_kernel<true>({space}AlignJob)", "align_kernel<true>"),
        (f"mafsar::match_kernel({space}MatchJob)", "match_kernel"),
    ):
        assert code.readable(name) == want


def test_a_streamed_product_in_half_precision_streams(code: ModuleType) -> None:
    good = code.Kernel("product grad W, deep, float16", copies=24, matrix=8)
    for chip, kernel, said in (
        ("90", good, ""),
        ("90", code.Kernel("product, any layout, float16", local=14), ""),
        ("90", code.Kernel("product grad W, deep, float32", copies=24), ""),
        ("90", code.Kernel("product grad W, deep, bfloat16", copies=24), "no matrix units"),
        ("75", code.Kernel("product grad W, deep, bfloat16"), ""),
        ("90", code.Kernel(good.name, local=2, copies=24, matrix=8), "uses local memory"),
    ):
        found = code.problems(chip, [kernel])
        assert [line for line in found if said in line] == found
        assert len(found) == bool(said)


def test_spills_and_too_much_shared_memory_are_named(code: ModuleType) -> None:
    for chip, kernel, said in (
        ("90", code.Kernel("gelu_kernel<false, float32>", spilled=8), "spills 8 bytes"),
        ("86", code.Kernel("match_kernel", shared=102400), "needs 102400 bytes"),
        ("90", code.Kernel("match_kernel", shared=102400), ""),
    ):
        assert [said in line for line in code.problems(chip, [kernel])] == [True] * bool(said)


def test_blocks_on_a_multiprocessor_by_its_tightest_limit(code: ModuleType) -> None:
    for chip, kernel, want in (
        ("90", code.Kernel("none", registers=32), 16),  # 64 warps, four a block
        ("90", code.Kernel("shared", registers=32, shared=62208), 3),  # 228 KiB, one each reserved
        ("75", code.Kernel("shared", registers=32, shared=62208), 1),
        ("90", code.Kernel("registers", registers=128, threads=256), 2),
        ("120", code.Kernel("blocks", registers=16, threads=32), 24),
    ):
        assert kernel.blocks(code.LIMITS[chip]) == want, kernel.name


def test_launches_are_those_of_the_kernels(code: ModuleType, tmp_path: Path) -> None:
    if shutil.which("g++") is None:
        pytest.skip("no g++")
    found = code.launches(tmp_path)
    assert len(found) == 55
    assert found["product grad W, deep, float16"] == (128, 62208, 62208)
    assert found["match_backward_kernel"] == (256, 38272, 67348)
