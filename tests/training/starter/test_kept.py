"""A run that is stopped goes on from the phases that it finished."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mafsar.training.starter.kept import KeptPhases


def _run(kept: KeptPhases, ran: list[str], *, stop: str = "") -> torch.Tensor:
    total = torch.zeros(3)
    for name in ("render", "train"):

        def phase(name: str = name) -> dict[str, object]:
            if name == stop:
                raise KeyboardInterrupt
            ran.append(name)
            return {"state": {"w": torch.full((3,), 0.1)}, "texts": [["a"], []], "seconds": 1.5}

        found = kept.phase(name, phase)
        assert found["texts"] == [["a"], []]
        total = total + found["state"]["w"]
    return total


def test_finished_phases_are_not_run_again(tmp_path: Path) -> None:
    folder, ran = tmp_path / "work", []
    with pytest.raises(KeyboardInterrupt):
        _run(KeptPhases(folder, "sizes 0"), ran, stop="train")
    later = _run(KeptPhases(folder, "sizes 0"), ran)
    assert ran == ["render", "train"]
    assert torch.equal(later, _run(KeptPhases(None, "sizes 0"), []))
    assert not list(folder.glob("*.tmp"))


def test_phases_of_another_run_are_not_taken(tmp_path: Path) -> None:
    ran: list[str] = []
    for key in ("sizes 0", "sizes 1", "sizes 0"):
        _run(KeptPhases(tmp_path, key), ran)
    assert ran == ["render", "train"] * 2


def test_without_a_folder_everything_runs() -> None:
    ran: list[str] = []
    for _ in range(2):
        _run(KeptPhases(None, "sizes 0"), ran)
    assert ran == ["render", "train"] * 2
