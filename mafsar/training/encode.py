"""Features of labelled clips by a network in training, on centre crops."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mafsar.choices import Branch
from mafsar.data.frames import FrameSource
from mafsar.data.labelled import LabelledClip
from mafsar.data.parallel import in_order
from mafsar.model.network import MafsarNetwork
from mafsar.runtime.encoder import Float32
from mafsar.training.learner import is_small, one_thread_each

_BATCH = 16  # clips per call of the network


@dataclass(frozen=True, eq=False)
class ClipFeatures:
    """Clips by both branches, float32; frame features stay on the device.

    Attributes:
        query: By the query branch, (n, T, E).
        support: By the support branch with the class texts, else the same as `query`.
        pooled: Time means of the raw features of the query branch, (n, E).
        branch: The branch that `support` is from.
    """

    query: Tensor
    support: Tensor
    pooled: Float32
    branch: Branch

    def arrays(self) -> tuple[Float32, Float32]:
        """`query` and `support` as arrays; one array where they are the same."""
        query = self.query.cpu().numpy()
        return query, query if self.branch == "query" else self.support.cpu().numpy()


@torch.inference_mode()
def encode_clips(
    network: MafsarNetwork,
    clips: Sequence[LabelledClip],
    source: FrameSource,
    texts: Tensor | None,
    class_index: NDArray[np.int64],
    *,
    autocast: Callable[[], AbstractContextManager[object]],
    device: str,
    workers: int,
) -> ClipFeatures:
    """Encodes every clip once by each branch.

    Args:
        network: In any mode, which it keeps.
        clips: The n clips.
        source: Reads their frames.
        texts: Raw embeddings of the classes, (C, E), on the device; None encodes without text.
        class_index: Classes of the clips, (n,).
        autocast: The precision of the run.
        device: Where the network is.
        workers: Threads that read frames.
    """
    was_training = network.training
    network.eval()
    guided = texts is not None and network.config.adapters is not None
    at_once = 1
    if device == "cpu" and is_small(network.config, _BATCH):
        at_once = torch.get_num_threads()

    @torch.inference_mode()
    def encode(batch: tuple[int, np.ndarray]) -> tuple[Tensor, Tensor, Tensor]:
        start, pixels = batch
        if at_once > 1:
            torch.set_num_threads(1)  # a new thread starts with the default, one per core
        frames = torch.from_numpy(pixels).to(device)
        with autocast():
            query, pooled = network.encode_query(frames)
            support = query
            if guided and texts is not None:
                words = texts[torch.from_numpy(class_index[start : start + len(pixels)])]
                support, _ = network.encode_support(frames, words)
        return query.float(), support.float(), pooled.float()

    kept: list[list[Tensor]] = [[], [], []]
    for found in _each(encode, _batches(network, clips, source, workers), at_once):
        for rows, part in zip(kept, found, strict=True):
            rows.append(part)
    network.train(was_training)
    query_rows, support_rows, pooled_rows = (torch.cat(rows) for rows in kept)
    branch: Branch = "support" if guided else "query"
    return ClipFeatures(query_rows, support_rows, pooled_rows.cpu().numpy(), branch)


_Encoded = tuple[Tensor, Tensor, Tensor]


def _each(
    encode: Callable[[tuple[int, np.ndarray]], _Encoded],
    batches: Iterator[tuple[int, np.ndarray]],
    at_once: int,
) -> Generator[_Encoded, None, None]:
    """The results in order; batches of a small network side by side, as episodes are."""
    if at_once == 1:
        yield from map(encode, batches)
        return
    with one_thread_each(), closing(in_order(encode, batches, workers=at_once)) as results:
        yield from results


def _batches(
    network: MafsarNetwork, clips: Sequence[LabelledClip], source: FrameSource, workers: int
) -> Iterator[tuple[int, np.ndarray]]:
    shape = {"frames": network.config.frames, "size": network.config.input_size}

    def load(clip: LabelledClip) -> np.ndarray:
        return source.testing(clip, **shape)

    waiting: list[np.ndarray] = []
    for number, pixels in enumerate(in_order(load, clips, workers=workers)):
        waiting.append(pixels)
        if len(waiting) == _BATCH or number + 1 == len(clips):
            yield number + 1 - len(waiting), np.stack(waiting)
            waiting = []
