"""Accuracy on the validation classes, and the α and visual_scale that suit them best.

Every clip is encoded once a branch; the episodes are then only matched.
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
from mafsar.data.frames import ClipFrames
from mafsar.data.labelled import LabelledClip
from mafsar.data.parallel import in_order
from mafsar.kernels.metrics import visual_logits
from mafsar.model.network import MafsarNetwork
from mafsar.runtime.evaluation.tally import confidence_interval
from mafsar.runtime.scoring.scores import class_distances, cosines, softmax
from mafsar.training.config import TrainConfig

Float64 = NDArray[np.float64]
_BATCH = 16  # clips in one run of the network
_MATCHED = 64  # episodes matched at once

SCALES = tuple(round(0.25 * 2 ** (k / 2), 4) for k in range(16))  # 0.25 … 45
ALPHAS = tuple(k / 20 for k in range(21))


@dataclass(frozen=True)
class ValResult:
    """What validation found.

    Attributes:
        accuracy: Of the fused scores with `match`, %.
        accuracy_visual: Of the visual term alone, %.
        accuracy_text: Of the text term alone, %; None without text.
        ci95: Half width of the 95 % confidence interval of `accuracy`, points.
        match: With the α and visual_scale that were fitted.
    """

    accuracy: float
    accuracy_visual: float
    accuracy_text: float | None
    ci95: float
    match: Scoring


class Validator:
    """Validation clips and episodes, the same at every call."""

    def __init__(
        self, data: PartData, source: ClipFrames, config: TrainConfig, texts: Tensor | None
    ) -> None:
        """Chooses clips and draws episodes.

        Args:
            data: The validation part.
            source: Where frames come from.
            config: Counts and seed.
            texts: Raw embeddings of the classes, (C, E); None: without text.

        Raises:
            InputError: Too few classes or clips.
        """
        self.clips, self.owners = _choose_clips(data, config)
        self.way = min(config.way, len(data.labels))
        self.episodes = draw_episodes(
            self.owners,
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
        """Encodes the clips, matches the episodes, fits α and visual_scale."""
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
        fused = _right(_fused(visual, text, match))
        return ValResult(
            accuracy=100 * float(fused.mean()),
            accuracy_visual=100 * float(_right(visual).mean()),
            accuracy_text=None if text is None else 100 * float(_right(text).mean()),
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
        """Features of every clip by both branches, float32, and the query's pooled ones."""
        guided = self._texts is not None and network.config.adapters is not None
        kept: list[list[np.ndarray]] = [[], [], []]
        for start, pixels in self._batches(network):
            frames = torch.from_numpy(pixels).to(device)
            with autocast():
                query, pooled = network.encode_query(frames)
                support = query
                if guided and self._texts is not None:
                    words = self._texts[torch.from_numpy(self.owners[start : start + len(pixels)])]
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


def fit_match(visual: Float64, text: Float64 | None, match: Scoring) -> Scoring:
    """Chooses visual_scale by likelihood, then α by accuracy; query i's class is i.

    Args:
        visual: Visual logits at visual_scale 1, (n, Q, C), Q = C.
        text: Text logits, (n, Q, C), or None: α stays.
        match: The rest.
    """
    right = np.arange(visual.shape[-1])

    def likelihood(scale: float) -> float:
        return float(np.log(softmax(scale * visual)[:, right, right] + 1e-300).mean())

    match = dataclasses.replace(match, visual_scale=max(SCALES, key=likelihood))
    if text is None:
        return match

    def accuracy(alpha: float) -> float:
        fused = _fused(visual, text, dataclasses.replace(match, alpha=alpha))
        return float(_right(fused).mean())

    # Ties go to the smaller weight of the words.
    return dataclasses.replace(match, alpha=max(ALPHAS, key=lambda a: (accuracy(a), -a)))


def _choose_clips(
    data: PartData, config: TrainConfig
) -> tuple[tuple[LabelledClip, ...], NDArray[np.int64]]:
    """At most `val.clips` of each class, the same for a seed."""
    most = config.val.clips or len(data.clips)
    rng = np.random.default_rng([config.seed, 5])
    chosen = []
    for index in range(len(data.labels)):
        members = np.flatnonzero(data.owners == index)
        chosen += sorted(rng.permutation(members)[:most].tolist())
    return tuple(data.clips[i] for i in chosen), data.owners[chosen]


def _distances(
    query: np.ndarray, support: np.ndarray, episodes: Episodes, match: Scoring
) -> Float64:
    """The metric of every episode's queries against its prototypes, (n, Q, C)."""
    scoring = Scoring(metric=match.metric, lam=match.lam)
    parts = []
    for start in range(0, len(episodes), _MATCHED):
        taken = slice(start, start + _MATCHED)
        shots = support[episodes.support[taken]]  # (b, C, K, T, E)
        prototypes = shots.mean(axis=2, dtype=np.float64).astype(np.float32)
        asked = query[episodes.queries[taken, :, 0]]  # (b, Q, T, E)
        parts.append(class_distances(asked, prototypes, scoring))
    return np.concatenate(parts)


def _fused(visual: Float64, text: Float64 | None, match: Scoring) -> Float64:
    scores = softmax(match.visual_scale * visual)
    if text is None:
        return scores
    return match.alpha * softmax(text) + (1 - match.alpha) * scores


def _right(scores: Float64) -> Float64:
    """Share of right answers of each episode, (n,)."""
    hits = scores.argmax(axis=-1) == np.arange(scores.shape[-1])
    share: Float64 = hits.mean(axis=-1)
    return share
