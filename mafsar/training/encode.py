"""Features of labelled clips by a network in training, on centre crops."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
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
    kept: list[list[Tensor]] = [[], [], []]
    for start, pixels in _batches(network, clips, source, workers):
        frames = torch.from_numpy(pixels).to(device)
        with autocast():
            query, pooled = network.encode_query(frames)
            support = query
            if guided and texts is not None:
                words = texts[torch.from_numpy(class_index[start : start + len(pixels)])]
                support, _ = network.encode_support(frames, words)
        for rows, found in zip(kept, (query, support, pooled), strict=True):
            rows.append(found.float())
    network.train(was_training)
    query_rows, support_rows, pooled_rows = (torch.cat(rows) for rows in kept)
    branch: Branch = "support" if guided else "query"
    return ClipFeatures(query_rows, support_rows, pooled_rows.cpu().numpy(), branch)


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
