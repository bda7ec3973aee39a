"""Two processes: the same weights as one, and neither waits for a dead one."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mafsar.model.sources import load_trained
from mafsar.model.weights import read_safetensors, weights_sha256
from mafsar.training.checkpoint import OPTIMIZER_FILE, last_checkpoint
from mafsar.training.loop import train
from mafsar.training.run_log import read_metrics

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
VOLATILE = {"seconds", "wait_share"}
EPS = torch.finfo(torch.float32).eps


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


@pytest.fixture
def one_thread() -> Iterator[None]:
    """This process computes on one thread, as the processes that `torchrun` starts do."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def train_with_two(out: Path, words: list[str], more: Mapping[str, Any]) -> str:
    """Runs `mafsar train` as two processes and returns what they print."""
    line = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port",
        str(free_port()), "-m", "mafsar", "train", "-o", str(out), "--device", "cpu",
    ]  # fmt: skip
    words = [*words, *(f"{name}={value}" for name, value in more.items())]
    done = subprocess.run(
        [*line, *words], capture_output=True, text=True, check=False, env=ENVIRONMENT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def curve(run: Path) -> list[dict[str, Any]]:
    """The metrics without times."""
    return [{k: v for k, v in line.items() if k not in VOLATILE} for line in read_metrics(run)]


def moments(run: Path) -> dict[str, Tensor]:
    """What the optimizer keeps of the gradients, in float64, by name."""
    checkpoint = last_checkpoint(run)
    assert checkpoint is not None
    return {n: v.double() for n, v in read_safetensors(checkpoint / OPTIMIZER_FILE)[0].items()}


@pytest.mark.usefixtures("one_thread")
def test_two_processes_train_as_one(small_run, small_words: list[str], tmp_path: Path) -> None:
    """Bit by bit: a step has two episodes at most, and a + b is b + a on every processor.

    The last step has one episode, so that one of the processes has none.
    """
    more = {"optim.batch": 2, "episodes": 11}
    train(small_run(**more), tmp_path / "one", device="cpu")
    printed = train_with_two(tmp_path / "two", small_words, more)
    assert printed.count("test it: mafsar eval") == 1  # only one process prints
    assert curve(tmp_path / "two") == curve(tmp_path / "one")
    first, second = (load_trained(tmp_path / name) for name in ("one", "two"))
    assert weights_sha256(first) == weights_sha256(second)


@pytest.mark.usefixtures("one_thread")
def test_processes_that_share_a_step_unevenly_sum_the_same_gradients(
    small_run, small_words: list[str], tmp_path: Path
) -> None:
    """Batches of 3 over 2 processes: each has two episodes and one, in turn.

    Three terms are added in another order, so gradients differ by rounding. Adam divides by the
    gradient's own size: where that is rounding error, weights may differ by the learning rate. So
    the learning rate is 0 here and the gradients themselves are compared, by Adam's first moment
    m = (1 - beta1) * sum of beta1**k * g. In float32 a step's sum of three terms is within
    eps * Σ|g| of the exact one, and m, rounded twice a step, within another
    steps * eps * (1 - beta1) * Σ|g|, element by element. `alone`, with one episode a step, gives
    Σ|g|: Adam's second moment is the sum of g², and Cauchy-Schwarz does the rest.
    """
    episodes, batch, steps = 11, 3, 4
    beta1, beta2 = 0.9, 0.999
    more = {
        "optim.learning_rate": 0.0, "optim.clip_norm": 0.0, "optim.beta1": beta1,
        "optim.beta2": beta2, "episodes": episodes, "val.every": 0,
    }  # fmt: skip
    train(small_run(**more, **{"optim.batch": 1}), tmp_path / "alone", device="cpu")
    more["optim.batch"] = batch
    train(small_run(**more), tmp_path / "one", device="cpu")
    train_with_two(tmp_path / "two", small_words, more)
    for a, b in zip(curve(tmp_path / "one"), curve(tmp_path / "two"), strict=True):
        for name in ("loss", "loss_visual", "loss_text", "accuracy"):
            # Sums of three float32 values in float64, in two orders.
            assert b[name] == pytest.approx(a[name], rel=4 * 2.0**-53, abs=0), name
    alone, one, two = (moments(tmp_path / name) for name in ("alone", "one", "two"))
    moving, tight = 0, 0
    for name, first in one.items():
        if not name.startswith("exp_avg."):
            continue
        squares = alone[name.replace("exp_avg.", "exp_avg_sq.")]
        squares = squares / ((1 - beta2) * beta2 ** (episodes - 1))  # at least Σ g²
        total = (episodes * squares).sqrt() / (batch - 1)  # a step divides by 3, the last by 2
        bound = 2 * (1 + steps) * EPS * (1 - beta1) * total  # either run rounds
        assert ((two[name] - first).abs() <= bound).all(), name
        moving += int((total > 0).sum())  # what a fresh adapter's zeros keep still is 0
        tight += int((first.abs() > 1e4 * bound).sum())
    assert tight > 0.8 * moving > 0  # a fault of 0.01 % of a gradient would show


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
