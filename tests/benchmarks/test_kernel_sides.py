"""What the whole-program rows of benchmarks/kernels.py run: the product's way, and plain torch."""

from __future__ import annotations

import importlib
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest
import torch

from mafsar.kernels import dispatch
from mafsar.kernels.torch_ops import adapter, adapter_steps, matching

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def sides(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("kernel_sides")


@pytest.mark.skipif(dispatch.native() is None, reason="no native module")
def test_a_training_step_with_and_without_kernels(
    sides: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: Counter[str] = Counter()
    module = dispatch.native()

    class Counted:
        def __getattr__(self, name: str) -> object:
            calls[name] += 1
            return getattr(module, name)

    for place in (adapter, adapter_steps, matching):
        monkeypatch.setattr(place, "native", Counted)
    trainers = sides.autocast
    # A GPU's default on whatever is here.
    monkeypatch.setattr(sides, "autocast", lambda _, device: trainers("bf16", device))
    monkeypatch.setattr(sides, "DEVICE", torch.device("cpu"))
    on, off = sides.whole_sides("tiny")["training step, tiny, 5-way 1-shot"]
    on(0)
    assert calls["adapter_forward"] > 0
    assert calls["match_forward"] == calls["match_backward"] == 1
    calls.clear()
    off(0)
    assert not calls
