"""Accuracy on the validation classes, and the α and visual_scale that suit them best.

Every clip is encoded once by each branch; the episodes are then matched from these features.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
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
from mafsar.kernels.metrics import visual_distances, visual_logits
from mafsar.model.network import MafsarNetwork
from mafsar.runtime.evaluation.tally import confidence_interval
from mafsar.runtime.scoring.scores import cosines
from mafsar.runtime.scoring.view_episodes import prototype_distances
from mafsar.training.config import TrainConfig
from mafsar.training.encode import ClipFeatures, encode_clips
from mafsar.training.fit import Float64, fit_match, fused_scores, share_right

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


@dataclass(frozen=True, eq=False)
class Fitted:
    """The validation episodes by one scoring.

    Attributes:
        match: The scoring, with the fitted α and visual_scale.
        visual: Visual logits at visual_scale 1, (n, Q, C) with Q = C; the class of query i is i.
        text: Text logits, (n, Q, C), or None.
    """

    match: Scoring
    visual: Float64
    text: Float64 | None


class Validator:
    """Validates a network on clips and episodes that are the same at every call.

    Attributes:
        clips: The clips.
        class_index: Their classes.
        episodes: Indices of the clips.
        way: Classes of an episode.
        fits: Whether α and scales are fitted to the episodes.
    """

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
        self.clips, self.class_index = choose_clips(data, config, config.val.clips)
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
        self.fits = config.val.fit
        self._workers = max(1, config.data.workers)
        self._device = "cpu"

    def run(
        self,
        network: MafsarNetwork,
        autocast: Callable[[], AbstractContextManager[object]],
        device: str,
    ) -> ValResult:
        """Encodes the clips, matches the episodes, and fits α and visual_scale."""
        features = self.encode(network, autocast, device)
        found = self.score(features, network.config.match)
        fused = share_right(fused_scores(found.visual, found.text, found.match))
        return ValResult(
            accuracy=100 * float(fused.mean()),
            accuracy_visual=100 * float(share_right(found.visual).mean()),
            accuracy_text=None
            if found.text is None
            else 100 * float(share_right(found.text).mean()),
            ci95=100 * confidence_interval(fused),
            match=found.match,
        )

    def encode(
        self,
        network: MafsarNetwork,
        autocast: Callable[[], AbstractContextManager[object]],
        device: str,
    ) -> ClipFeatures:
        """Features of the clips by both branches; `device` is where they are matched too."""
        self._device = device
        return encode_clips(
            network,
            self.clips,
            self._source,
            self._texts,
            self.class_index,
            autocast=autocast,
            device=device,
            workers=self._workers,
        )

    def score(self, features: ClipFeatures, match: Scoring) -> Fitted:
        """Matches the episodes as `match` says, and fits α and visual_scale to them."""
        distances = _distances(features, self.episodes, match, self._device)
        unscaled = dataclasses.replace(match, visual_scale=1.0)
        visual = visual_logits(distances, features.query.shape[1], unscaled)  # (n, Q, C)
        text = None
        if self._texts is not None:
            words = self._texts.float().cpu().numpy()[self.episodes.classes]  # (n, C, E)
            asked = features.pooled[self.episodes.queries[:, :, 0]]  # (n, Q, E)
            text = match.text_scale * cosines(asked, words)
        if self.fits:
            match = fit_match(visual, text, match)
        return Fitted(match, visual, text)


def choose_clips(
    data: PartData, config: TrainConfig, most: int
) -> tuple[tuple[LabelledClip, ...], NDArray[np.int64]]:
    """At most `most` clips of each class (0 = all), drawn by the seed, and their class indices."""
    rng = np.random.default_rng([config.seed, 5])
    chosen = []
    for index in range(len(data.labels)):
        members = np.flatnonzero(data.class_index == index)
        chosen += sorted(rng.permutation(members)[: most or len(data.clips)].tolist())
    return tuple(data.clips[i] for i in chosen), data.class_index[chosen]


def _distances(features: ClipFeatures, episodes: Episodes, match: Scoring, device: str) -> Float64:
    """Distances between every episode's queries and its prototypes, (n, Q, C).

    Raw features are matched on the device; views are of an episode's own support, which numpy's
    sums over Gram matrices match faster than features of twice the width.
    """
    if match.views == "raw":
        return _raw_distances(features, episodes, match, device)
    distances = prototype_distances(features.query, features.support, match, features.branch)
    parts = []
    for start in range(0, len(episodes), _MATCHED):
        taken = slice(start, start + _MATCHED)
        parts.append(distances(episodes.queries[taken, :, 0], episodes.support[taken]))
    return np.concatenate(parts)


@torch.inference_mode()
def _raw_distances(
    features: ClipFeatures, episodes: Episodes, match: Scoring, device: str
) -> Float64:
    query, support = (
        torch.from_numpy(rows).to(device) for rows in (features.query, features.support)
    )
    shots, asked = (
        torch.from_numpy(np.ascontiguousarray(places)).to(device, torch.int64)
        for places in (episodes.support, episodes.queries[:, :, 0])
    )
    parts = []
    for start in range(0, len(episodes), _MATCHED):
        taken = slice(start, start + _MATCHED)
        prototypes = support[shots[taken]].double().mean(dim=2).float()  # (b, C, T, E)
        parts.append(visual_distances(query[asked[taken]], prototypes, match))  # (b, Q, C)
    found: Float64 = torch.cat(parts).double().cpu().numpy()
    return found
