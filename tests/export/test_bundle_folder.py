"""Replacing a bundle: one process at a time, and a kill leaves a complete bundle."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from mafsar.export import bundle_folder
from mafsar.export.bundle_folder import locked, replace_folder


def folder(path: Path, content: str) -> Path:
    path.mkdir()
    (path / "file").write_text(content)
    return path


def test_one_at_a_time(tmp_path: Path) -> None:
    """Ten threads count to ten by reading, waiting and writing; a lost update would show."""
    place, count, waited = tmp_path / "b.mafsar", tmp_path / "count", []
    count.write_text("0")

    def turn() -> None:
        with locked(place, waiting=lambda: waited.append(1)):
            number = int(count.read_text())
            threading.Event().wait(0.005)
            count.write_text(str(number + 1))

    threads = [threading.Thread(target=turn) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count.read_text() == "10"
    assert waited
    assert [path.name for path in tmp_path.iterdir()] == ["count"]


@pytest.mark.parametrize("exchanges", [True, False])
def test_a_folder_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchanges: bool
) -> None:
    if not exchanges:
        monkeypatch.setattr(bundle_folder, "_exchange", lambda *_: False)
    out = tmp_path / "a b [1].mafsar"
    replace_folder(folder(tmp_path / "first", "first"), out)
    replace_folder(folder(tmp_path / "second", "second"), out)
    assert (out / "file").read_text() == "second"
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="Linux's renameat2")
def test_folders_are_exchanged_in_one_step(tmp_path: Path) -> None:
    new, out = folder(tmp_path / "new", "new"), folder(tmp_path / "out", "old")
    assert bundle_folder._exchange(new, out)
    assert (out / "file").read_text() == "new"
    assert (new / "file").read_text() == "old"


def test_the_rest_of_a_killed_process_is_restored_or_removed(tmp_path: Path) -> None:
    place = tmp_path / "a [1].mafsar"
    folder(tmp_path / ".a [1].mafsar.77.old", "moved away")
    folder(tmp_path / ".a [1].mafsar.77.part", "half")
    (tmp_path / ".a [1].mafsar.77.tokenizer").write_text("{}")
    folder(tmp_path / ".other.mafsar.77.part", "another's")
    with locked(place):
        assert (place / "file").read_text() == "moved away"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other.mafsar.77.part", place.name]
