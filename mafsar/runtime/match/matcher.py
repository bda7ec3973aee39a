"""Naming the action of query clips: bank + encoder + sources → one `Match` a query, in order."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mafsar import kernels
from mafsar.errors import InputError, MafsarError, UnavailableError
from mafsar.runtime.bank.bank import Bank, clip_identity, clip_size
from mafsar.runtime.bank.text_choice import TextUse
from mafsar.runtime.encoder import Encoder, Float32, Metric
from mafsar.runtime.match.answers import ClipTimes, Evidence, Match, QueryError, Seconds, TopK
from mafsar.runtime.match.queries import Query, load_queries
from mafsar.runtime.scoring.scores import (
    Scoring,
    class_prototypes,
    match_features,
    visual_distances,
)
from mafsar.video import Clip, content_sha256

__all__ = [
    "ClipTimes",
    "Evidence",
    "Match",
    "QueryError",
    "Seconds",
    "TopK",
    "choose_scoring",
    "match_queries",
]

_LONG = 3.0  # times the longest support clip


def match_queries(
    bank: Bank,
    encoder: Encoder,
    sources: Iterable[Any],
    *,
    topk: int = 5,
    text: TextUse = "auto",
    alpha: float | None = None,
    metric: Metric | None = None,
    threshold: float | str = "auto",
    keep_query: bool = False,
    evidence: bool = False,
    batch: int | None = None,
    workers: int = 2,
) -> Iterator[Match | QueryError]:
    """Names the action of each source, in order, as soon as it is known.

    Args:
        bank: The classes. Its geometry holds for the queries too.
        encoder: The encoder that made it.
        sources: `Query`s, paths, or arrays (T, H, W, 3), uint8 RGB.
        topk: How many classes an answer lists.
        text: "auto" = the bank's own choice.
        alpha: Weight of the text term; None = the bank's.
        metric: Visual metric; None = the model's.
        threshold: "auto" or "off"; a number needs a calibrated bank.
        keep_query: Whether a support clip with the query's very content stays in the support.
        evidence: Whether answers carry what plots need.
        batch: Clips a call of the encoder; None = 1 on a CPU, else 8.
        workers: Threads that decode ahead of the encoder.

    Raises:
        MafsarError: Before the first answer, where options or model do not fit the bank. A source
            that fails later is a `QueryError` among the answers.
    """
    bank.check_model(encoder.spec)
    if topk < 1:
        raise InputError(f"topk must be ≥ 1, got {topk}")
    if threshold not in ("auto", "off"):
        raise UnavailableError(
            f"--threshold {threshold}: p_none is not calibrated in this version; use auto or off"
        )
    use_text, scoring = choose_scoring(bank, text=text, alpha=alpha, metric=metric)
    if isinstance(sources, (str, Path, np.ndarray)):
        sources = [sources]
    queries = [Query.of(source) for source in sources]
    size = batch or (1 if encoder.device == "cpu" else 8)
    answerer = _Answerer(bank, encoder, scoring, use_text, topk, keep_query, evidence)
    return answerer.run(queries, size, workers)


def choose_scoring(
    bank: Bank, *, text: TextUse = "auto", alpha: float | None = None, metric: Metric | None = None
) -> tuple[bool, Scoring]:
    """Whether class names take part in a match, and its scoring.

    Raises:
        InputError: The options contradict each other or the bank has no texts.
    """
    name = bank.path or "this bank"
    use_text = bank.text_choice.used if text == "auto" else text == "on"
    if use_text and bank.text is None:
        raise InputError(
            f"{name}: holds no class texts, it was enrolled with --text off or by a model without "
            "text; enrol the clips again with --text on"
        )
    if not use_text:
        if alpha:
            raise InputError(f"--alpha {alpha:g}: text is off; add --text on")
        return False, bank.model.scoring.with_user(metric=metric, alpha=0.0)
    own = bank.text_choice.alpha if bank.text_choice.used else bank.model.scoring.alpha
    chosen = own if alpha is None else alpha
    return True, bank.model.scoring.with_user(metric=metric, alpha=chosen)


@dataclass(frozen=True)
class _Answerer:
    bank: Bank
    encoder: Encoder
    scoring: Scoring
    use_text: bool
    topk: int
    keep_query: bool
    evidence: bool
    _whole: dict[bytes, Float32] = field(default_factory=dict)

    def run(self, queries: list[Query], size: int, workers: int) -> Iterator[Match | QueryError]:
        """Encodes the queries in batches and answers them in order, failed ones in their place."""
        clips = load_queries(queries, self.encoder.spec, self.bank.geometry, workers=workers)
        waiting: list[tuple[Query, Clip | MafsarError]] = []
        good = 0
        for query, clip in zip(queries, clips, strict=True):
            waiting.append((query, clip))
            good += not isinstance(clip, MafsarError)
            if good == size or (good == 0 and isinstance(clip, MafsarError)):
                yield from self._answer_batch(waiting)
                waiting, good = [], 0
        yield from self._answer_batch(waiting)

    def _answer_batch(
        self, batch: list[tuple[Query, Clip | MafsarError]]
    ) -> Iterator[Match | QueryError]:
        pixels = [clip.pixels for _, clip in batch if not isinstance(clip, MafsarError)]
        if pixels:
            start = time.perf_counter()
            features = self.encoder.encode_query(np.stack(pixels))
            seconds = (time.perf_counter() - start) / len(pixels)
        row = 0
        for query, clip in batch:
            if isinstance(clip, MafsarError):
                yield QueryError(query.name, str(clip))
                continue
            try:
                yield self._answer(query, clip, features.frames[row], features.pooled[row], seconds)
            except MafsarError as error:
                yield QueryError(query.name, str(error))
            row += 1

    def _answer(
        self, query: Query, clip: Clip, frames: Float32, pooled: Float32, encode_seconds: float
    ) -> Match:
        start = time.perf_counter()
        owners, warnings = self._owners_without(query)
        read_seconds = time.perf_counter() - start
        start += read_seconds
        classes = np.unique(owners[owners >= 0])
        if len(classes) == 0:
            raise InputError(
                f"{query.name}: no support clip is left besides the query itself; add clips, or "
                "keep it with --keep-query"
            )
        support = self.bank.frames(use_text=self.use_text)
        prototypes = self._prototypes(support, owners, classes)
        text = None
        if self.use_text and self.bank.text is not None:
            text = self.bank.text[classes]
        scores = match_features(
            frames[None], prototypes, self.scoring, pooled=pooled[None], text=text
        )
        order = np.argsort(-scores.fused[0], kind="stable")[: self.topk]
        top = tuple(
            TopK(
                self.bank.labels[classes[i]],
                float(scores.fused[0, i]),
                float(scores.distances[0, i]),
                None if scores.text is None else float(scores.text[0, i]),
            )
            for i in order
        )
        shown = None
        if self.evidence:
            members = np.flatnonzero(owners == classes[order[0]])
            shown = self._show(clip, frames, members, support)
        match_seconds = time.perf_counter() - start
        parts = (
            clip.decode_seconds + read_seconds,
            clip.preprocess_seconds,
            encode_seconds,
            match_seconds,
        )
        return Match(
            query=query.name,
            label=top[0].label,
            score=top[0].score,
            p_none=None,
            none=False,
            topk=top,
            seconds=Seconds(*parts, total=sum(parts)),
            clip=ClipTimes(
                float(clip.duration_seconds),
                tuple(float(value) for value in clip.times_seconds),
                None if clip.fps is None else float(clip.fps),
            ),
            model=self.encoder.spec.name,
            adapters=self.encoder.spec.adapters,
            engine=self.encoder.engine,
            precision=self.encoder.precision,
            device=self.encoder.device,
            warning="; ".join(warnings + self._warnings(clip, len(classes))) or None,
            evidence=shown,
        )

    def _prototypes(
        self, support: Float32, owners: NDArray[np.intp], classes: NDArray[np.intp]
    ) -> Float32:
        """Prototypes of the classes that are left, made once for one set of clips."""
        key = owners.tobytes()
        if key not in self._whole:
            position = np.full(len(self.bank.classes) + 1, -1)
            position[classes] = np.arange(len(classes))
            self._whole.clear()
            self._whole[key] = class_prototypes(support, position[owners], len(classes))
        return self._whole[key]

    def _owners_without(self, query: Query) -> tuple[NDArray[np.intp], list[str]]:
        """Classes of the bank's clips, with −1 for those that are the query's very content."""
        owners = self.bank.owners
        if self.keep_query or query.path is None:
            return owners, []
        # A long video is hashed only where a support clip has its very size.
        size = clip_size(query.path)
        if not any(clip.size_bytes == size for clip in self.bank.clips):
            return owners, []
        identity = clip_identity(content_sha256(query.path), None, None)
        warnings = []
        for i, clip in enumerate(self.bank.clips):
            if owners[i] >= 0 and clip.identity == identity:
                label = self.bank.labels[owners[i]]
                owners[i] = -1
                warnings.append(f"support clip {clip.path} is this very clip and was left out")
                if not (owners == self.bank.labels.index(label)).any():
                    warnings.append(f"class {label} has no other clip and was left out")
        return owners, warnings

    def _warnings(self, clip: Clip, classes: int) -> list[str]:
        warnings = []
        longest = max(item.duration_seconds for item in self.bank.clips if item.owner >= 0)
        if longest > 0 and clip.duration_seconds > _LONG * longest:
            warnings.append(
                f"{clip.duration_seconds:.1f} s long, more than 3 times the longest support clip "
                f"({longest:.1f} s); to find actions inside a long video use mafsar watch"
            )
        if classes == 1:
            warnings.append("only one class: its score is always 1, and p_none is not calibrated")
        return warnings

    def _show(
        self, clip: Clip, frames: Float32, members: NDArray[np.intp], support: Float32
    ) -> Evidence:
        """The nearest clip of the answered class and how its frames align with the query's."""
        distances = visual_distances(frames[None], support[members], self.scoring)[0]
        nearest = int(members[int(distances.argmin())])
        grid = kernels.frame_distances(frames[None], support[nearest][None])[0, 0]
        alignment = kernels.otam_alignment(grid, lam=self.scoring.lam)
        return Evidence(
            clip.pixels,
            nearest,
            np.asarray(grid, np.float32),
            np.asarray(alignment, np.float32),
        )
