"""Accuracy on the validation classes, and the α and visual_scale that suit them best.

Every clip is encoded once by each branch; the episodes are then matched from these features.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mafsar.choices import Scoring
from mafsar.data.catalogue import PartData
from mafsar.data.episodes import Episodes, draw_episodes
from mafsar.data.frames import FrameSource
from mafsar.data.labelled import LabelledClip
from mafsar.data.parallel import in_order
from mafsar.kernels.metrics import visual_logits
from mafsar.model.network import MafsarNetwork
from mafsar.runtime.evaluation.tally import confidence_interval
from mafsar.runtime.scoring.scores import class_distances, cosines
from mafsar.training.config import TrainConfig
from mafsar.training.fit import Float64, fit_match, fused_scores, share_right

_BATCH = 16  # clips per call of the network
_MATCHED = 64  # episodes matched at once


@dataclass(frozen=True)
class ValResult:
    """Result of a validation.

    Attributes:
        accuracy: Accuracy of the fused scores with `match`, %.
        accuracy_visual: Accuracy of the visual term alone, %.
        accuracy_text: Accuracy of the text term alone, %; None without text.
        ci95: Half width of the 95 % confidence interval of `accuracy`, percentage points.
        match: The scoring with the fitted α and visual_scale.
    """

    accuracy: float
    accuracy_visual: float
    accuracy_text: float | None
    ci95: float
    match: Scoring


class Validator:
    """Validates a network on clips and episodes that are the same at every call."""

    def __init__(
        self, data: PartData, source: FrameSource, config: TrainConfig, texts: Tensor | None
    ) -> None:
        """Chooses clips and draws episodes.

        Args:
            data: The validation part.
            source: Reads the frames of a clip.
            config: The counts and the seed.
            texts: Raw embeddings of the classes, (C, E); None validates without text.

        Raises:
            InputError: There are too few classes or clips.
        """
        self.clips, self.class_index = _choose_clips(data, config)
        self.way = min(config.way, len(data.labels))
        self.episodes = draw_episodes(
            self.class_index,
            data.labels,
            way=self.way,
            shot=config.shot,
            episodes=config.val.episodes,
            seed=config.seed,
        )
        self._source = source
        self._texts = texts
        self._fit = config.val.fit
        self._workers = max(1, config.data.workers)

    def run(
        self,
        network: MafsarNetwork,
        autocast: Callable[[], AbstractContextManager[object]],
        device: str,
    ) -> ValResult:
        """Encodes the clips, matches the episodes, and fits α and visual_scale."""
        was_training = network.training
        network.eval()
        query, support, pooled = self._encode(network, autocast, device)
        network.train(was_training)
        match = network.config.match
        distances = _distances(query, support, self.episodes, match)
        raw = dataclasses.replace(match, visual_scale=1.0)
        visual = visual_logits(distances, query.shape[1], raw)  # (n, Q, C)
        text = None
        if self._texts is not None:
            words = self._texts.float().cpu().numpy()[self.episodes.classes]  # (n, C, E)
            asked = pooled[self.episodes.queries[:, :, 0]]  # (n, Q, E)
            text = match.text_scale * cosines(asked, words)
        if self._fit:
            match = fit_match(visual, text, match)
        fused = share_right(fused_scores(visual, text, match))
        return ValResult(
            accuracy=100 * float(fused.mean()),
            accuracy_visual=100 * float(share_right(visual).mean()),
            accuracy_text=None if text is None else 100 * float(share_right(text).mean()),
            ci95=100 * confidence_interval(fused),
            match=match,
        )

    @torch.inference_mode()
    def _encode(
        self,
        network: MafsarNetwork,
        autocast: Callable[[], AbstractContextManager[object]],
        device: str,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Features of every clip by both branches, and pooled by the query branch, float32."""
        guided = self._texts is not None and network.config.adapters is not None
        kept: list[list[np.ndarray]] = [[], [], []]
        for start, pixels in self._batches(network):
            frames = torch.from_numpy(pixels).to(device)
            with autocast():
                query, pooled = network.encode_query(frames)
                support = query
                if guided and self._texts is not None:
                    words = self._texts[
                        torch.from_numpy(self.class_index[start : start + len(pixels)])
                    ]
                    support, _ = network.encode_support(frames, words)
            for rows, found in zip(kept, (query, support, pooled), strict=True):
                rows.append(found.float().cpu().numpy())
        query_rows, support_rows, pooled_rows = (np.concatenate(rows) for rows in kept)
        return query_rows, support_rows, pooled_rows

    def _batches(self, network: MafsarNetwork) -> Iterator[tuple[int, np.ndarray]]:
        shape = {"frames": network.config.frames, "size": network.config.vision.image_size}

        def load(clip: LabelledClip) -> np.ndarray:
            return self._source.testing(clip, **shape)

        waiting: list[np.ndarray] = []
        for number, pixels in enumerate(in_order(load, self.clips, workers=self._workers)):
            waiting.append(pixels)
            if len(waiting) == _BATCH or number + 1 == len(self.clips):
                yield number + 1 - len(waiting), np.stack(waiting)
                waiting = []


def _choose_clips(
    data: PartData, config: TrainConfig
) -> tuple[tuple[LabelledClip, ...], NDArray[np.int64]]:
    """At most `val.clips` clips of each class, drawn by the seed, with their class indices."""
    most = config.val.clips or len(data.clips)
    rng = np.random.default_rng([config.seed, 5])
    chosen = []
    for index in range(len(data.labels)):
        members = np.flatnonzero(data.class_index == index)
        chosen += sorted(rng.permutation(members)[:most].tolist())
    return tuple(data.clips[i] for i in chosen), data.class_index[chosen]


def _distances(
    query: np.ndarray, support: np.ndarray, episodes: Episodes, match: Scoring
) -> Float64:
    """Distances between every episode's queries and its prototypes, (n, Q, C)."""
    scoring = Scoring(metric=match.metric, lam=match.lam)
    parts = []
    for start in range(0, len(episodes), _MATCHED):
        taken = slice(start, start + _MATCHED)
        shots = support[episodes.support[taken]]  # (b, C, K, T, E)
        prototypes = shots.mean(axis=2, dtype=np.float64).astype(np.float32)
        asked = query[episodes.queries[taken, :, 0]]  # (b, Q, T, E)
        parts.append(class_distances(asked, prototypes, scoring))
    return np.concatenate(parts)
