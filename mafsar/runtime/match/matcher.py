"""Naming the action of query clips: a bank, an encoder and clips give one `Match` per clip."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mafsar import kernels
from mafsar.choices import (
    TEXT_USES,
    Metric,
    TextUse,
    ViewsUse,
    check_choice,
    check_count,
    check_number,
)
from mafsar.errors import InputError, MafsarError, option
from mafsar.files import take_rows
from mafsar.model.names import SHIPPED
from mafsar.runtime.bank.bank import Bank, check_geometry, is_bank, read_bank
from mafsar.runtime.encoder import Encoder, Float32, provenance
from mafsar.runtime.engines.loading import load_model
from mafsar.runtime.match.answers import ClipTimes, Evidence, Match, QueryError, Seconds, TopK
from mafsar.runtime.match.choice import choose_scoring
from mafsar.runtime.match.none import NoneAnswers
from mafsar.runtime.match.queries import Query, is_one_clip, queries_in
from mafsar.runtime.match.same_content import class_index_without
from mafsar.runtime.scoring.change import change_share, usual_change
from mafsar.runtime.scoring.none import NoneJudge
from mafsar.runtime.scoring.scores import class_distances, match_features, viewed_prototypes
from mafsar.runtime.scoring.views import Views
from mafsar.video import Clip, ClipRequest, Geometry, load_clips

_LONG = 3.0  # a query of more than this times the longest support clip gets a warning


class Matcher:
    """Names the action of clips by the classes of a bank.

    The scoring is chosen once; then the matcher can be called any number of times:

        matcher = mafsar.Matcher(mafsar.read_bank("actions.safetensors"))
        matcher("query.mp4").label

    Args:
        bank: The support. Its geometry is used for the queries too.
        encoder: The encoder that made the bank; None = load it.
        topk: Number of classes that an answer lists.
        text: Whether class names are used: "on", "off" or "auto" (as the bank decided).
        alpha: Weight of the text term, 0–1; None = the bank's.
        metric: Visual metric: "otam", "bimhm" or "mean"; None = the model's.
        views: What features are matched by: "raw", the weight of the change view (0–1) or "auto"
            (as the bank decided).
        threshold: The p_none above which an answer is none: a number from 0 to 1, "auto" (so that
            about `far` of unknown clips are taken for a class) or "off". A bank that is not
            calibrated never answers none, and takes no number.
        far: The false-accept rate that "auto" means, 0–1; None = the bank's.
        keep_query: Whether to keep support clips with the same content as the query. By default
            they are left out, and the answer's `warning` names them.
        evidence: Whether answers carry what `Match.plot` needs; None = only if called with one
            clip.
        batch: Clips per call of the encoder; None = 1 on a CPU, 8 on a GPU.
        workers: Threads that decode ahead of the encoder.
        ignore_clock: Frames per second that replace the timestamps of video files.

    Attributes:
        bank: The bank.
        encoder: The encoder.
        use_text: Whether class names are used.
        scoring: How features become scores: metric, λ, α and scales.

    Raises:
        MafsarError: An argument or the model does not fit the bank.
    """

    def __init__(
        self,
        bank: Bank,
        encoder: Encoder | None = None,
        *,
        topk: int = 5,
        text: TextUse = "auto",
        alpha: float | None = None,
        metric: Metric | None = None,
        views: ViewsUse = "auto",
        threshold: float | Literal["auto", "off"] = "auto",
        far: float | None = None,
        keep_query: bool = False,
        evidence: bool | None = None,
        batch: int | None = None,
        workers: int = 2,
        ignore_clock: float | None = None,
    ) -> None:
        check_count("topk", topk)
        check_count("workers", workers)
        if alpha is not None:
            check_number("alpha", alpha, 0.0, 1.0)
        check_choice("text", text, TEXT_USES)
        if batch is not None:
            check_count("batch", batch)
        self.bank = bank
        self.encoder = bank.encoder if encoder is None else encoder
        bank.check_encoder(self.encoder)
        self.use_text, self.scoring = choose_scoring(bank, text, alpha, metric, views)
        self._topk = topk
        self._keep_query = keep_query
        self._evidence = evidence
        self._batch = batch or (1 if self.encoder.device == "cpu" else 8)
        self._workers = workers
        self._ignore_clock = ignore_clock
        self._support = bank.frames(use_text=self.use_text)
        # Of a bank of 100 000 clips, a loop for each query would take longer than the matching.
        self._longest = max(
            (clip.duration_seconds for clip in bank.clips if not clip.is_background), default=0.0
        )
        self._labels = bank.labels
        self._prototypes: dict[bytes, tuple[Views, Float32]] = {}
        self._none = NoneAnswers(bank, threshold, far)

    @property
    def judge(self) -> NoneJudge | None:
        """Computes p_none of features by the query graph; None if the bank is not calibrated."""
        return self._none.judge_of(self.bank.class_index)[0]

    @property
    def threshold(self) -> float | None:
        """The p_none above which an answer is none; None if no answer is."""
        return self._none.judge_of(self.bank.class_index)[1]

    def __repr__(self) -> str:
        return f"Matcher({self.bank!r}, {self.encoder!r}, {self.scoring.metric})"

    def __call__(
        self,
        source: Any,
        *,
        fps: float | None = None,
        times: Sequence[float] | None = None,
    ) -> Match | list[Match]:
        """Names the action of one clip or of several.

        Args:
            source: One clip: a path, a uint8 RGB array (T, H, W, 3), a list of frames (H, W, 3) or
                a list of PIL images. Several, encoded in batches: a folder of clips, or a list of
                clips.
            fps: Frame rate of frames in memory, frames per second.
            times: Instead of `fps`: when each frame is first shown, seconds, ascending.

        Returns:
            One `Match`, or a list in the order of the clips.

        Raises:
            MafsarError: A clip cannot be read or answered. `stream` continues with the others.
        """
        one = is_one_clip(source)
        queries = queries_in(source, fps=fps, times=times)
        evidence = one if self._evidence is None else self._evidence
        answers: list[Match] = []
        for answer in self._run(queries, evidence):
            if isinstance(answer, QueryError):
                raise answer.cause
            answers.append(answer)
        return answers[0] if one else answers

    def for_windows(self) -> Matcher:
        """The same matcher for windows of a long video, whose answers have evidence.

        An event needs windows that agree, so that with threshold="auto" each of them may accept √far.
        `mafsar.watch` asks for it by itself.
        """
        made = copy.copy(self)
        made._none = self._none.for_windows()
        made._evidence = True
        made._prototypes = {}
        return made

    def stream(self, sources: Iterable[Any]) -> Iterator[Match | QueryError]:
        """Names the action of each clip, in order, each as soon as its batch is encoded.

        Args:
            sources: Clips: paths, arrays (T, H, W, 3), lists of frames, or queries with a name.

        Yields:
            A `Match`, or a `QueryError` for a clip that cannot be read or answered.

        Raises:
            InputError: A source is not a clip.
        """
        queries = [Query.of(source) for source in sources]
        return self._run(queries, bool(self._evidence))

    def answer_clips(self, clips: Sequence[Clip], name: str = "clip") -> list[Match]:
        """Names the action of clips that are loaded already, encoded as one batch.

        Nothing is left out of the support, whatever its content.

        Args:
            clips: Of the model's T and S, loaded with the geometry that counts for them.
            name: What answers call them.

        Raises:
            MafsarError: The encoder fails.
        """
        if not clips:
            return []
        start = time.perf_counter()
        features = self.encoder.encode_query(np.stack([clip.pixels for clip in clips]))
        seconds = (time.perf_counter() - start) / len(clips)
        return [
            self._answer(
                Query(name, Path()),
                clip,
                frames,
                pooled,
                seconds,
                bool(self._evidence),
                loaded=True,
            )
            for clip, frames, pooled in zip(clips, features.frames, features.pooled, strict=True)
        ]

    def _run(self, queries: Sequence[Query], evidence: bool) -> Iterator[Match | QueryError]:
        """Encodes the queries in batches and answers them in order, with errors in their places."""
        spec = self.encoder.spec
        # A list, so that `load_clips` sees a single clip and lets its decoder use all threads.
        requests = [
            ClipRequest(
                query.source,
                frames=spec.frames,
                size=spec.image_size,
                geometry=self.bank.geometry,
                ignore_clock=self._ignore_clock,
            )
            for query in queries
        ]
        clips = load_clips(requests, workers=self._workers)
        waiting: list[tuple[Query, Clip | MafsarError]] = []
        good = 0
        for query, clip in zip(queries, clips, strict=True):
            waiting.append((query, clip))
            good += not isinstance(clip, MafsarError)
            if good == self._batch or (good == 0 and isinstance(clip, MafsarError)):
                yield from self._answer_batch(waiting, evidence)
                waiting, good = [], 0
        yield from self._answer_batch(waiting, evidence)

    def _answer_batch(
        self, batch: list[tuple[Query, Clip | MafsarError]], evidence: bool
    ) -> Iterator[Match | QueryError]:
        pixels = [clip.pixels for _, clip in batch if not isinstance(clip, MafsarError)]
        if pixels:
            start = time.perf_counter()
            features = self.encoder.encode_query(np.stack(pixels))
            seconds = (time.perf_counter() - start) / len(pixels)
        row = 0
        for query, clip in batch:
            if isinstance(clip, MafsarError):
                yield QueryError(query.name, clip)
                continue
            frames, pooled = features.frames[row], features.pooled[row]
            try:
                yield self._answer(query, clip, frames, pooled, seconds, evidence)
            except MafsarError as error:
                yield QueryError(query.name, error)
            row += 1

    def _answer(
        self,
        query: Query,
        clip: Clip,
        frames: Float32,
        pooled: Float32,
        encode_seconds: float,
        evidence: bool,
        *,
        loaded: bool = False,
    ) -> Match:
        start = time.perf_counter()
        class_index, warnings = (
            (self.bank.class_index, [])
            if loaded or self._keep_query
            else class_index_without(self.bank, query)
        )
        hash_seconds = time.perf_counter() - start
        start += hash_seconds
        classes = np.unique(class_index[class_index >= 0])
        if len(classes) == 0:
            raise InputError(
                f"{query.name}: all support clips have the same content as the query; add clips, "
                "or keep them with ",
                option(keep_query=True),
            )
        text = None
        if self.use_text and self.bank.text is not None:
            text = self.bank.text[classes]
        views, prototypes = self._prototypes_of(class_index, classes)
        scores = match_features(
            views.of_query(frames[None]),
            prototypes,
            self.scoring,
            pooled=pooled[None],
            text=text,
        )
        order = np.argsort(-scores.fused[0], kind="stable")[: self._topk]
        top = tuple(
            TopK(
                self._labels[classes[i]],
                float(scores.fused[0, i]),
                float(scores.distances[0, i]),
                None if scores.text is None else float(scores.text[0, i]),
            )
            for i in order
        )
        still = self._none.is_still(clip.pixels)
        p_none, is_none = self._none.answer(frames, class_index, still=still)
        shown = None
        if evidence:
            members = np.flatnonzero(class_index == classes[order[0]])
            shown = self._show(clip, frames, members, views)
        parts = (
            clip.decode_seconds + hash_seconds,
            clip.preprocess_seconds,
            encode_seconds,
            time.perf_counter() - start,
        )
        return Match(
            query=query.name,
            label=None if is_none else top[0].label,
            score=top[0].score,
            p_none=p_none,
            none=is_none,
            topk=top,
            seconds=Seconds(*parts, total=sum(parts)),
            clip=ClipTimes(
                float(clip.duration_seconds),
                tuple(float(value) for value in clip.times_seconds),
                None if clip.fps is None else float(clip.fps),
                tuple(clip.repairs),
            ),
            warning="; ".join(warnings + self._warnings(clip, len(classes), still)) or None,
            evidence=shown,
            views=self.scoring.views,
            **provenance(self.encoder),
        )

    def _prototypes_of(
        self, class_index: NDArray[np.intp], classes: NDArray[np.intp]
    ) -> tuple[Views, Float32]:
        """Views, and prototypes of the classes, (C, T, E); kept until other clips are left out."""
        key = class_index.tobytes()
        if key not in self._prototypes:
            position = np.full(len(self.bank.classes) + 1, -1)
            position[classes] = np.arange(len(classes))
            self._prototypes.clear()
            left = np.flatnonzero(class_index >= 0)
            support = take_rows(self._support, left)
            branch = self.bank.branch(use_text=self.use_text)
            views = Views.of(self.scoring, take_rows(self.bank.query, left), support, branch)
            prototypes = viewed_prototypes(
                views.of_support, support, position[class_index[left]], len(classes)
            )
            self._prototypes[key] = views, prototypes
        return self._prototypes[key]

    def _warnings(self, clip: Clip, classes: int, still: bool) -> list[str]:
        warnings = ["still: nothing moves in this clip"] if still else []
        longest = self._longest
        if longest > 0 and clip.duration_seconds > _LONG * longest:
            warnings.append(
                f"{clip.duration_seconds:.1f} s long, more than {_LONG:g} times the longest support clip "
                f"({longest:.1f} s); to find actions inside a long video use mafsar watch"
            )
        if classes == 1 and self.bank.none is None:
            warnings.append("only one class: its score is always 1, and p_none is not calibrated")
        return warnings

    def _show(
        self, clip: Clip, frames: Float32, members: NDArray[np.intp], views: Views
    ) -> Evidence:
        """The nearest clip of the best class, and how its frames align with the query's."""
        asked, shown = views.of_query(frames[None]), views.of_support(self._support[members])
        nearest = int(class_distances(asked, shown, self.scoring)[0].argmin())
        grid = kernels.frame_distances(asked, shown[nearest][None])[0, 0]
        alignment = kernels.otam_alignment(grid, lam=self.scoring.lam)
        return Evidence(
            self.bank,
            clip.pixels,
            int(members[nearest]),
            np.asarray(grid, np.float32),
            np.asarray(alignment, np.float32),
            float(change_share(frames[None], usual_change(self.bank.query[members]))[0]),
        )


def match(
    support: Any,
    query: Any,
    model: Encoder | str | Path | None = None,
    *,
    topk: int = 5,
    text: TextUse = "auto",
    alpha: float | None = None,
    metric: Metric | None = None,
    views: ViewsUse = "auto",
    threshold: float | Literal["auto", "off"] = "auto",
    far: float | None = None,
    geometry: Geometry | None = None,
    keep_query: bool = False,
    fps: float | None = None,
    times: Sequence[float] | None = None,
    ignore_clock: float | None = None,
) -> Match | list[Match]:
    """Names the action of clips from a few clips of each class, in one call.

    It enrolls the support at each call. For several calls, `enroll` once and use a `Matcher`.

    Args:
        support: A bank, a bank file, or what `mafsar.enroll` takes.
        query: One clip, a folder of clips or a list of clips; see `Matcher`.
        model: An encoder, or the name or path of a model; None = that of the bank, else `tiny`.
        topk: See `Matcher`.
        text: See `Matcher` for a bank, `mafsar.enroll` for other supports.
        alpha: See `Matcher`.
        metric: See `Matcher`.
        views: See `Matcher`.
        threshold: See `Matcher`.
        far: See `Matcher`.
        geometry: Which part of the picture the model sees; None = the bank's.
        keep_query: See `Matcher`.
        fps: Frame rate of a query's frames in memory, frames per second.
        times: Instead of `fps`: when each frame is first shown, seconds.
        ignore_clock: Frames per second that replace the timestamps of video files.

    Returns:
        One `Match`, or a list in the order of the clips.

    Raises:
        MafsarError: Support, query or model cannot be read, or an argument does not fit.
    """
    held = None
    if isinstance(support, Bank):
        held = support
    elif isinstance(support, (str, Path)) and is_bank(support):
        held = read_bank(support)
    if isinstance(model, (str, Path)):
        model = load_model(model)
    if held is None:
        from mafsar.runtime.bank.enroll import enroll

        model = load_model(SHIPPED) if model is None else model
        held = enroll(
            support, model, text=text, views=views, geometry=geometry, ignore_clock=ignore_clock
        )
        text, views = "auto", "auto"  # the bank now holds the choices
    check_geometry(held, geometry)
    matcher = Matcher(
        held,
        model,
        topk=topk,
        text=text,
        alpha=alpha,
        metric=metric,
        views=views,
        threshold=threshold,
        far=far,
        keep_query=keep_query,
        ignore_clock=ignore_clock,
    )
    return matcher(query, fps=fps, times=times)
