"""The table of figures: each claim stands in its page, and its number is where the command prints it."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("figures", ROOT / "benchmarks" / "figures.py")
assert SPEC is not None
assert SPEC.loader is not None
figures = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(figures)
TABLE: list[dict[str, Any]] = figures.tomllib.loads(figures.TABLE.read_text("utf-8"))["figure"]


@pytest.mark.parametrize("figure", TABLE, ids=lambda figure: figure["name"])
def test_a_page_says_what_the_table_claims(figure: dict[str, Any]) -> None:
    assert figure["quote"] in (ROOT / figure["page"]).read_text(encoding="utf-8")
    assert re.compile(figure["find"]).groups == 1
    assert set(figure) <= {
        "name", "page", "quote", "run", "find", "scale", "claimed", "margin", "slow",
    }  # fmt: skip
    for word in re.findall(r"(?:benchmarks|examples|tests)/[\w/]+\.py", figure["run"]):
        assert (ROOT / word).is_file()


@pytest.mark.parametrize(
    ("measured", "margin", "good"),
    [
        (100.0, "=", True), (100.1, "=", False), (104.0, "5 %", True), (96.0, "5 %", True),
        (106.0, "5 %", False), (99.0, "≤", True), (101.0, "≤", False), (99.0, "≥", False),
    ],
)  # fmt: skip
def test_margins(measured: float, margin: str, good: bool) -> None:
    assert figures.holds(measured, 100.0, margin) == good
