"""Losses and gradients of a step's episodes, one after another or several side by side.

An operation that is divided over threads ends with a barrier. The operations of a small network take
a fraction of a millisecond, and beside another program each barrier waits until that program gives
the processor back, which takes milliseconds. So with a small network on a CPU each thread computes
whole episodes, and the threads meet once a step (benchmarks/busy_neighbour.py). Each episode is then
computed by one thread, and the results do not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from mafsar import kernels
from mafsar.data.loader import EpisodeBatch
from mafsar.data.parallel import in_order
from mafsar.model.config import ModelConfig
from mafsar.model.network import MafsarNetwork
from mafsar.training.config import TrainConfig
from mafsar.training.episode import Encode, drops_text, run_episode

MOST_BYTES = 1 << 30
"""Largest estimated memory of an episode of which several are computed side by side."""
_VALUES_A_TOKEN = 24  # that a block keeps for the backward pass, in units of the tower's width


@dataclass(frozen=True, eq=False)
class Learned:
    """What one episode gave to a step.

    Attributes:
        index: Its number.
        loss: L, a scalar.
        sums: Loss, visual loss, text loss, 1 with class names, correct queries, queries; (6,)
            float64.
    """

    index: int
    loss: Tensor
    sums: Tensor


class Learner:
    """Adds the gradients of episodes to the tuned parameters.

    Attributes:
        at_once: How many episodes are computed side by side.
    """

    def __init__(
        self,
        network: MafsarNetwork,
        encode: Encode,
        config: TrainConfig,
        texts: Tensor | None,
        *,
        autocast: Callable[[], AbstractContextManager[object]],
        device: str,
        share: int,
    ) -> None:
        """Prepares; computes nothing.

        Args:
            network: On the device.
            encode: Its `encode_support`, or what that was compiled to.
            config: A resolved configuration.
            texts: Raw embeddings of the training classes, (C, E), or None.
            autocast: The precision of the run.
            device: As torch names it.
            share: Episodes of a step in this process.
        """
        self._config, self._encode, self._texts = config, encode, texts
        self._autocast, self._device = autocast, device
        self._tuned = list(network.tunable_parameters().values())
        self._match = network.config.match
        self._guided = network.config.adapters is not None
        clips = config.way * (config.shot + (config.query or 1))
        # A compiled encoder is one program, which divides its own operations.
        self._whole = device == "cpu" and not config.run.compile and is_small(network.config, clips)
        self.at_once = min(torch.get_num_threads(), share) if self._whole else 1

    def learn(
        self, numbers: range, batches: Iterator[EpisodeBatch], count: int
    ) -> Iterator[Learned]:
        """Computes episodes and adds their gradients to the parameters, in order.

        Args:
            numbers: The episodes' numbers.
            batches: This process's episodes, from the first of `numbers` on.
            count: Episodes of the step in all processes, of whose losses the mean is taken.

        Yields:
            Each episode, after its gradients were added.
        """

        def given() -> Iterator[EpisodeBatch]:
            for number in numbers:
                found = next(batches)
                assert found.index == number
                yield found

        if not self._whole:
            for found in given():
                loss, learned = self._forward(found, count)
                loss.backward()  # type: ignore[no-untyped-call]
                del loss  # frees the graph before the next episode is computed
                yield learned
            return

        def apart(found: EpisodeBatch) -> tuple[Learned, tuple[Tensor | None, ...]]:
            torch.set_num_threads(1)  # a new thread starts with the default, one per core
            loss, learned = self._forward(found, count)
            return learned, torch.autograd.grad(loss, self._tuned, allow_unused=True)

        # A step of one episode too is computed by one thread: the bits do not depend on the threads.
        workers = max(1, min(self.at_once, len(numbers)))  # a process may have no episode
        with one_thread_each(), closing(in_order(apart, given(), workers=workers)) as results:
            for learned, gradients in results:
                self._add(gradients)
                yield learned

    def _forward(self, found: EpisodeBatch, count: int) -> tuple[Tensor, Learned]:
        """The episode's part of the step's loss, and its own figures."""
        texts = None
        if self._texts is not None and not drops_text(self._config, found.index):
            texts = self._texts[found.classes.to(self._device)]
        support, query = (
            frames.to(self._device, non_blocking=True) for frames in (found.support, found.query)
        )
        moved = EpisodeBatch(found.index, support, query, found.classes)
        with self._autocast():
            result = run_episode(
                self._encode,
                moved,
                texts,
                self._match,
                guided=self._guided,
                smooth=self._config.smooth,
            )
        sums = torch.zeros(6, dtype=torch.float64, device=self._device)
        sums[0] = result.loss.detach()
        sums[1] = result.visual
        if result.text is not None:
            sums[2] = result.text
            sums[3] = 1
        sums[4] = result.right
        sums[5] = result.queries
        return result.loss / count, Learned(found.index, result.loss.detach(), sums)

    def _add(self, gradients: tuple[Tensor | None, ...]) -> None:
        """Adds gradients to those of the parameters, as a backward pass does."""
        for parameter, gradient in zip(self._tuned, gradients, strict=True):
            if gradient is not None:
                before = parameter.grad
                parameter.grad = gradient if before is None else before.add_(gradient)


def is_small(config: ModelConfig, clips: int) -> bool:
    """Whether several episodes fit into memory, and their operations are too short to divide.

    Args:
        config: The network.
        clips: Clips of an episode.
    """
    if not config.has_tokens or config.fully_tuned:
        return False
    vision = config.vision
    tokens = clips * config.frames * (vision.patches + 1)
    values = _VALUES_A_TOKEN * tokens * vision.width * vision.layers
    return 4 * values <= MOST_BYTES


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Operations inside are computed by the thread that calls them."""
    torch_threads, kernel_threads = torch.get_num_threads(), kernels.get_num_threads()
    torch.set_num_threads(1)
    kernels.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(torch_threads)
        kernels.set_num_threads(kernel_threads)
