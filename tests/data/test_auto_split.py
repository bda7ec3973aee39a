"""The classes that `split="auto"` draws."""

from __future__ import annotations

from pathlib import Path

import pytest

from mafsar.data.auto_split import draw_split, split_line, write_split
from mafsar.data.splits import PARTS, read_split
from mafsar.errors import InputError

FEW = {f"few{i}": 4 for i in range(15)}
MANY = {f"many{i}": 100 + i for i in range(15)}


def test_each_part_has_classes_with_many_and_with_few_clips(tmp_path: Path) -> None:
    split = draw_split(FEW | MANY, 3, tmp_path / "split.json")
    assert [len(split.classes(part)) for part in PARTS] == [18, 6, 6]
    assert sorted(label for part in PARTS for label in split.classes(part)) == sorted(FEW | MANY)
    for part in ("val", "test"):
        assert sum(label in MANY for label in split.classes(part)) == 3
    assert draw_split(dict(reversed((FEW | MANY).items())), 3, split.path) == split
    assert draw_split(FEW | MANY, 4, split.path) != split
    write_split(split)
    assert read_split(split.path) == split
    assert split_line(split).startswith("train 18: few")


def test_few_classes() -> None:
    labels = dict.fromkeys("abcdef", 5)
    split = draw_split(labels, 0, Path("split.json"))
    assert [len(split.classes(part)) for part in PARTS] == [2, 2, 2]
    with pytest.raises(InputError, match="split='auto': needs 6 classes or more, got 5"):
        draw_split(dict.fromkeys("abcde", 5), 0, Path("split.json"))
