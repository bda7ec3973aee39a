"""A fixed part of what `make fuzz` tries: each input ends in an answer or in one line.

The sanitizers' part is in tests/kernels/test_sanitizers.py.
"""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path

import pytest

from mafsar.errors import MafsarError

HERE = Path(__file__).parent
SOME = {
    "video": 120, "bank": 60, "bundle": 20, "store": 60, "lists": 120, "settings": 120, "state": 8,
    "cache": 40, "native": 120, "python": 3,
}  # fmt: skip


@pytest.mark.parametrize("door", SOME)
def test_damaged_inputs_end_in_an_answer_or_in_one_line(
    door: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(HERE)
    if door == "state":
        pytest.importorskip("torch")
    if door == "python":
        pytest.importorskip("hypothesis")
    doors = importlib.import_module("doors")
    assert sorted(doors.DOORS) == sorted(SOME)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MAFSAR_CACHE", str(tmp_path / "cache"))
    ends = {"answer": 0, "refused": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of NumPy and Pillow, on values that are refused later
        use = doors.DOORS[door][0](tmp_path)
        for number in range(SOME[door]):
            try:
                found = use(number) or {"answer": 1}
            except MafsarError as error:
                found = {"refused": 1}
                said = str(error)
                if "\n" in said or len(said) > 4000:
                    pytest.fail(f"{door} {number}: {said[:300]}")
            for end, count in found.items():
                ends[end] += count
    assert min(ends.values()) > 0 or door == "cache", ends
