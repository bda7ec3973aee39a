"""`kill -9` at any moment, then `--resume`: the curve continues as in an uninterrupted run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from mafsar.errors import MismatchError
from mafsar.model.sources import load_trained
from mafsar.model.weights import weights_sha256
from mafsar.training.checkpoint import last_checkpoint
from mafsar.training.loop import train
from mafsar.training.run_log import read_metrics

VOLATILE = {"seconds", "wait_share"}
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def curve(run: Path) -> list[dict[str, Any]]:
    """The metrics without times."""
    return [{k: v for k, v in line.items() if k not in VOLATILE} for line in read_metrics(run)]


def start(words: list[str], out: Path, *flags: str) -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "mafsar", "train", "-o", str(out), "--device", "cpu", *flags]
    return subprocess.Popen(
        [*line, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    )


def wait_for(process: subprocess.Popen[str], out: Path, lines: int) -> None:
    """Waits until a run has written so many metrics."""
    path = out / "metrics.jsonl"
    while process.poll() is None:
        if path.is_file() and path.read_text().count("\n") >= lines:
            return
        time.sleep(0.005)


def test_killed_and_resumed_is_as_uninterrupted(
    small_run, small_words: list[str], tmp_path: Path
) -> None:
    many = {"episodes": 24, "val.every": 5, "run.save_every": 2}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        train(small_run(**many), tmp_path / "whole", device="cpu")
    finally:
        torch.set_num_threads(threads)
    whole = curve(tmp_path / "whole")
    assert len(whole) == 12 + 3

    out = tmp_path / "killed"
    words = [*small_words, *(f"{name}={value}" for name, value in many.items())]
    kills = 0
    process = start(words, out)
    # Before the first checkpoint; between two; in the middle of a validation or of a save.
    for lines, delay in ((1, 0.0), (5, 0.01), (9, 0.03)):
        wait_for(process, out, lines)
        time.sleep(delay)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.communicate()
        assert (out / "config.toml").is_file()
        process = start([], out, "--resume")
    printed, said = process.communicate()
    assert process.returncode == 0, said
    assert kills >= 2
    assert "test it: mafsar eval" in printed
    assert curve(out) == whole
    first, second = load_trained(tmp_path / "whole"), load_trained(out)
    assert weights_sha256(first) == weights_sha256(second)
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["step-00000012"]


def test_a_finished_run_is_left_as_it_is(small_run, tmp_path: Path) -> None:
    out = tmp_path / "run"
    config = small_run(episodes=4)
    first = train(config, out, device="cpu")
    lines = read_metrics(out)
    again = train(config, out, device="cpu", resume=True)
    assert again == first
    assert read_metrics(out) == lines


def test_a_last_line_cut_short_and_lines_after_the_checkpoint_are_dropped(
    small_run, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    config = small_run(episodes=8, val__every=0, run__save_every=2)
    train(config, out, device="cpu")
    wanted = curve(out)
    checkpoint = last_checkpoint(out)
    assert checkpoint is not None
    path = out / "metrics.jsonl"
    path.write_text(path.read_text() + '{"schema": 1, "kind": "train", "step": 9}\n{"sche')
    train(config, out, device="cpu", resume=True)
    assert curve(out) == wanted


def test_a_checkpoint_of_other_towers_is_refused(small_run, tmp_path: Path) -> None:
    out = tmp_path / "run"
    config = small_run(episodes=4, val__every=0)
    train(config, out, device="cpu")
    checkpoint = last_checkpoint(out)
    assert checkpoint is not None
    assert json.loads((checkpoint / "state.json").read_text())["step"] == 2
    from safetensors import safe_open
    from safetensors.torch import save_file

    weights = checkpoint / "adapters.safetensors"
    with safe_open(weights, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata() | {"base_sha256": "0" * 64}
    save_file(tensors, weights, metadata=metadata)
    with pytest.raises(MismatchError, match="trained on other towers"):
        train(config, out, device="cpu", resume=True)
