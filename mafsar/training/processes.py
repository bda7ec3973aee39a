"""The processes of a distributed run (`torchrun`), and sums over all of them.

Gradients are summed once a step over what is tuned, in one message, rather than by torch's
`DistributedDataParallel`: an episode runs the network twice, some episodes leave the text
projections out, and gradients accumulate over episodes.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mafsar.errors import LostProcessError, UnavailableError, option

_TIMEOUT = dt.timedelta(hours=2)  # the other processes wait while the first one validates


@dataclass(frozen=True)
class Processes:
    """The processes of a run, as one of them sees them.

    Attributes:
        rank: Number of this process, 0 … world − 1.
        world: Number of processes.
        device: The device that this process computes on, as a user names it.
    """

    rank: int
    world: int
    device: str

    @property
    def leads(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes, in place.

        Raises:
            LostProcessError: Another process has ended. With NCCL torch's watchdog ends this one
                too, later and by itself.
        """
        if self.world > 1:
            try:
                torch.distributed.all_reduce(values)
            except RuntimeError as error:
                raise LostProcessError(
                    f"process {self.rank} of {self.world}: another process of this run has ended; "
                    "its message is above; go on from the last checkpoint with ",
                    option(resume=True),
                ) from error
        return values

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Sums the gradients over all processes; a parameter that was not used counts as 0.

        The optimiser skips a parameter whose gradient is None, weight decay included, and whether
        it is None depends on the episodes that a process was given.
        """
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        if self.world == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        joined = self.sum(torch.cat([gradient.reshape(-1) for gradient in gradients]))
        parts = torch.split(joined, [gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))


@contextlib.contextmanager
def open_processes(device: str = "auto") -> Iterator[Processes]:
    """The processes that `torchrun` started, or this process alone.

    Args:
        device: "auto", "cpu", "cuda" or, alone, "cuda:N".

    Raises:
        UnavailableError: More processes than GPUs on this machine.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Processes(0, 1, device)
        return
    rank, local = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
    on_gpu = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    if on_gpu and local >= torch.cuda.device_count():
        raise UnavailableError(
            f"process {rank} of {world}: this machine has {torch.cuda.device_count()} GPUs; start "
            "one process per GPU with torchrun's --nproc-per-node, or use ",
            option(device="cpu"),
        )
    if on_gpu:
        torch.cuda.set_device(local)
    torch.distributed.init_process_group("nccl" if on_gpu else "gloo", timeout=_TIMEOUT)
    try:
        yield Processes(rank, world, f"cuda:{local}" if on_gpu else "cpu")
    finally:
        torch.distributed.destroy_process_group()
