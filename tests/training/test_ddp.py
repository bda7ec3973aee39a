"""Two processes: the same weights as one, and none that waits for a dead one."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import torch

from mafsar.model.sources import load_trained
from mafsar.training.checkpoint import last_checkpoint
from mafsar.training.loop import train
from mafsar.training.run_log import read_metrics

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def test_two_processes_train_as_one(small_run, small_words: list[str], tmp_path: Path) -> None:
    """Batches of 3 over 2 processes: one of them has two episodes, the other one, by turns."""
    more = {"optim.batch": 3, "episodes": 11}
    train(small_run(**more), tmp_path / "one", device="cpu")
    line = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port",
        str(free_port()), "-m", "mafsar", "train", "-o", str(tmp_path / "two"), "--device", "cpu",
    ]  # fmt: skip
    words = [*small_words, *(f"{name}={value}" for name, value in more.items())]
    done = subprocess.run(
        [*line, *words], capture_output=True, text=True, check=False, env=ENVIRONMENT
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("test it: mafsar eval") == 1  # one of them speaks
    one, two = read_metrics(tmp_path / "one"), read_metrics(tmp_path / "two")
    assert [(x["kind"], x["step"]) for x in one] == [(x["kind"], x["step"]) for x in two]
    for a, b in zip(one, two, strict=True):
        if a["kind"] == "train":
            torch.testing.assert_close(a["loss"], b["loss"], rtol=1e-4, atol=1e-5)
    first, second = (load_trained(tmp_path / name).state_dict() for name in ("one", "two"))
    for name, value in first.items():
        # Adam divides by the gradient's own size: where that is rounding, so is the step, which
        # is at most the learning rate of 1e-3 a step.
        torch.testing.assert_close(second[name], value, rtol=1e-3, atol=2e-4, msg=name)


def test_a_dead_process_ends_the_other_with_a_message(
    small_words: list[str], small_run, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    words = [*small_words, "episodes=4000", "val.every=0", "run.save_every=1"]
    together = ENVIRONMENT | {
        "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()),
    }  # fmt: skip
    line = [sys.executable, "-m", "mafsar", "train", "-o", str(out), "--device", "cpu", *words]
    members = [
        subprocess.Popen(
            line, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
            env=together | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        while last_checkpoint(out) is None and all(m.poll() is None for m in members):
            time.sleep(0.02)
        members[1].send_signal(signal.SIGKILL)
        _, said = members[0].communicate(timeout=60)
    finally:
        for member in members:
            member.kill()
            member.communicate()
    assert members[0].returncode == 1, said
    errors = [text for text in said.splitlines() if text.startswith("error: ")]
    assert len(errors) == 1
    assert "another process of this run has ended" in errors[0]
    assert "--resume" in errors[0]
    checkpoint = last_checkpoint(out)
    assert checkpoint is not None
    load_trained(checkpoint)
    step = int(checkpoint.name.removeprefix("step-"))
    config = small_run(episodes=4000, val__every=0, run__save_every=1)
    assert config.steps == 2000
    assert 1 <= step < 2000
