"""A run whose split is drawn by its seed."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import pytest

from mafsar.data.splits import PARTS
from mafsar.training.loop import train
from mafsar.training.run_folder import saved_config


def test_the_drawn_split_is_printed_kept_and_resumed(
    small_run, moving_squares: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clips, out = tmp_path / "clips", tmp_path / "run"
    shutil.copytree(moving_squares, clips)
    config = small_run(data__folder=str(clips), data__split="auto", episodes=4, val__every=2, way=2)
    with caplog.at_level(logging.WARNING):
        train(config, out, device="cpu")
    kept = json.loads((out / "split.json").read_text())
    assert [len(kept[part]) for part in PARTS] == [6, 2, 2]
    assert f"train 6: {', '.join(kept['train'])}; val 2: " in caplog.text
    assert saved_config(out).data.split == "auto"
    # A class that comes later would change the draw; the run keeps its own.
    shutil.copytree(clips / "left", clips / "another")
    train(out=out, resume=True, device="cpu")
    assert json.loads((out / "split.json").read_text()) == kept
