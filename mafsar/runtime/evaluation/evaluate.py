"""Accuracy over few-shot episodes. Each clip is encoded once per branch; episodes only match features."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from mafsar.choices import (
    TEXT_USES,
    Metric,
    OnError,
    Progress,
    TextUse,
    Views,
    ViewsUse,
    check_choice,
    check_metric,
)
from mafsar.data.episodes import Episodes, draw_episodes, episodes_to_json, read_episodes
from mafsar.data.groups import read_groups
from mafsar.data.labelled import LabelledClip, seconds_taken
from mafsar.data.splits import Part, Split, labels_of_part, read_split
from mafsar.data.store import Store, is_store, refuse_clock
from mafsar.data.support import SupportSet, part_clips, read_support
from mafsar.errors import InputError, MafsarError, Message, MismatchError, option
from mafsar.files import write_text
from mafsar.runtime.bank.text_choice import check_text_use, known_classes
from mafsar.runtime.cache.clip_jobs import RunJobs
from mafsar.runtime.cache.encoding import (
    encode_clips,
    encode_texts,
    hash_clips,
    refuse_unreadable,
    repairs_of,
    try_hash_clips,
)
from mafsar.runtime.cache.features import FeatureCache, open_cache
from mafsar.runtime.encoder import Encoder, Provenance, provenance
from mafsar.runtime.engines.loading import load_model
from mafsar.runtime.evaluation.tally import confidence_interval, evaluate_features
from mafsar.video import Geometry

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class EvalResult(Provenance):
    """The result of an evaluation; fields are named as in the JSON of `mafsar eval`.

    Attributes:
        accuracy: Share of queries that are right, %.
        ci95: Half width of the 95 % confidence interval over episodes, percentage points.
        accuracy_visual: Accuracy of the visual term alone, %.
        accuracy_text: Accuracy of the text term alone, %; None with text off.
        per_class: Accuracy on each class's queries, %; None for a class that was not drawn.
        way: Classes per episode.
        shot: Support clips per class.
        query: Query clips per class.
        episodes: Number of episodes.
        seed: Seed that they were drawn with.
        metric: The visual metric.
        views: What was matched: "raw" features, or the weight of the change view.
        ece: Expected calibration error of the fused scores, 0–1: over 15 equal bins of the answered
            class's share, the mean gap between that share and the share of right answers.
        text: Whether class names were used.
        clips_encoded: Number of clips that this call encoded; the others were in the cache.
        seconds: Wall time, in total.
        why_text: Why text was used or not, one sentence; not part of the JSON.
        labels: Labels of the classes; not part of the JSON.
        confusion: Number of answers, (C, C), rows = true class, columns = answer; not part of the
            JSON.
        seconds_match: Wall time of matching; not part of the JSON.
        clips_again: Number of clips left out because another has the same content; not part of
            the JSON.
        notes: What of the data was skipped, one sentence each; not part of the JSON.
        repairs: What was repaired in reading the clips, a sentence a clip; not part of the JSON.
        tuned: "none", "adapters" or "full" (the vision tower itself); not part of the JSON.
    """

    accuracy: float
    ci95: float
    accuracy_visual: float
    accuracy_text: float | None
    per_class: dict[str, float | None]
    way: int
    shot: int
    query: int
    episodes: int
    seed: int
    metric: Metric
    views: Views
    ece: float
    text: bool
    clips_encoded: int
    seconds: float
    why_text: str = field(default="", repr=False)
    labels: tuple[str, ...] = field(default=(), repr=False)
    confusion: NDArray[np.int64] = field(
        default_factory=lambda: np.zeros((0, 0), np.int64), repr=False
    )
    seconds_match: float = field(default=0.0, repr=False)
    clips_again: int = field(default=0, repr=False)
    notes: tuple[str, ...] = field(default=(), repr=False)
    repairs: tuple[str, ...] = field(default=(), repr=False)
    tuned: str = field(default="none", repr=False)

    def to_json(self) -> dict[str, Any]:
        """The JSON object that `mafsar eval` prints."""
        names = [
            "accuracy", "ci95", "accuracy_visual", "accuracy_text", "per_class", "way", "shot",
            "query", "episodes", "seed", "metric", "views", "ece", "text", "clips_encoded",
            "seconds", "model", "adapters", "engine",
        ]  # fmt: skip
        return {"schema": SCHEMA} | {name: getattr(self, name) for name in names}


def evaluate(
    model: Encoder | str | Path,
    data: SupportSet | str | Path,
    *,
    split: Split | str | Path | None = None,
    part: Part = "test",
    way: int = 5,
    shot: int = 1,
    query: int = 1,
    episodes: int = 10_000,
    seed: int = 0,
    episodes_file: str | Path | None = None,
    groups: str | Path | None = None,
    metric: Metric | None = None,
    views: ViewsUse = "auto",
    text: TextUse = "auto",
    alpha: float | None = None,
    geometry: Geometry | None = None,
    frames_pattern: str | None = None,
    cache: FeatureCache | bool = True,
    batch: int | None = None,
    workers: int = 2,
    progress: Progress | None = None,
    ignore_clock: float | None = None,
    on_error: OnError = "raise",
    run: RunJobs | None = None,
) -> EvalResult:
    """Measures accuracy over few-shot episodes, which are drawn by a seed.

    Args:
        model: An encoder, or the name or path of a model.
        data: Labelled clips: the path of a folder of class folders, of a CSV or of a packed data
            set, or a support set.
        split: Which classes belong to which part; None = all are test classes. A packed data set
            has its own split.
        part: The part to evaluate.
        way: Classes per episode.
        shot: Support clips per class.
        query: Query clips per class.
        episodes: Number of episodes.
        seed: Seed to draw them with.
        episodes_file: File of frozen episodes: read if it exists, else written.
        groups: CSV with the columns path and group: no support clip of an episode shares a query's
            group, as its person. Not used for episodes that are read from a file.
        metric: Visual metric: "otam", "bimhm" or "mean"; None = the model's.
        views: What features are matched by: "raw", the weight of the change view (0–1) or "auto"
            (the model's choice). The query's own features never enter their means.
        text: Whether class names are used: "on", "off" or "auto" (if the model knows the words of
            every class).
        alpha: Weight of the text term, 0–1; None = the model's.
        geometry: Which part of the picture the model sees; None = all of it.
        frames_pattern: Which pictures are frames in folders that hold several kinds, for example
            `img_{:05d}.jpg`.
        cache: A feature cache; True = the user's, False = no cache.
        batch: Clips per call of the encoder; None = 1 on a CPU, 8 on a GPU.
        workers: Threads that decode ahead of the encoder.
        progress: Called with (done, total, what).
        ignore_clock: Frames per second that replace the timestamps of video files.
        on_error: "raise" lists all clips that cannot be read in one error; "skip" leaves them out
            and names them in the result's `notes`.
        run: Encodes the clips in another way, as on a cluster; None = in this process.

    Raises:
        MafsarError: The data cannot be read, has too few classes or clips, or an argument does not
            fit.
    """
    start = time.perf_counter()
    check_choice("text", text, TEXT_USES)
    check_choice("on_error", on_error, get_args(OnError))
    if metric is not None:
        check_metric(metric)
    if isinstance(model, (str, Path)):
        model = load_model(model)
    if isinstance(data, (str, Path)):
        data, split, part = _read(Path(data), split, part, frames_pattern)
    if data.store is not None:
        refuse_clock(data.store.path, ignore_clock)
    chosen, hashes, unreadable = _hashed(_choose(data, split, part), workers)
    if on_error == "raise":
        refuse_unreadable(unreadable, can_skip=True)
    chosen, content, again = _each_once(chosen, hashes)
    use_text, why = _use_text(model, chosen, text)
    if alpha and not use_text:
        raise InputError(option(alpha=alpha), ": text is off; use ", option(text="on"))
    scoring = model.spec.scoring.with_choices(
        metric=metric, alpha=alpha if use_text else 0.0, views=views
    )
    frozen = None
    if on_error == "raise":  # too few clips are an error before any is encoded
        frozen = _frozen_episodes(chosen, episodes_file, way, shot, query, episodes, seed, groups)
    store = open_cache(cache)
    text_of = {item.label: item.text for item in chosen.classes}
    words = [text_of[clip.label] for clip in chosen.clips]
    encoded = encode_clips(
        model,
        chosen.clips,
        words if use_text and model.spec.text_in_support else None,
        content=content,
        geometry=geometry,
        cache=store,
        on_error="skip",
        batch=batch,
        workers=workers,
        progress=progress,
        store=data.store,
        ignore_clock=ignore_clock,
        run=run,
    )
    unreadable += encoded.failed.values()
    if on_error == "raise":
        refuse_unreadable(unreadable, can_skip=True)
    chosen = _without(chosen, encoded.failed)
    if frozen is None:
        frozen = _frozen_episodes(chosen, episodes_file, way, shot, query, episodes, seed, groups)
    texts = None
    if use_text:
        texts = encode_texts(model, [item.text for item in chosen.classes], store)
    matching = time.perf_counter()
    tally = evaluate_features(
        encoded.query,
        encoded.query if encoded.support is None else encoded.support,
        _class_index(chosen),
        frozen,
        scoring,
        pooled=encoded.pooled,
        text=texts,
        branch="query" if encoded.support is None else "support",
        progress=progress,
    )
    labels = chosen.labels
    return EvalResult(
        accuracy=100.0 * float(tally.right.mean()),
        ci95=100.0 * confidence_interval(tally.right),
        accuracy_visual=100.0 * float(tally.right_visual.mean()),
        accuracy_text=None if tally.right_text is None else 100.0 * float(tally.right_text.mean()),
        per_class=_per_class(tally.confusion, labels),
        way=frozen.way,
        shot=frozen.shot,
        query=frozen.query,
        episodes=len(frozen),
        seed=frozen.seed,
        metric=scoring.metric,
        views=scoring.views,
        ece=tally.ece,
        text=use_text,
        clips_encoded=encoded.encoded,
        seconds=time.perf_counter() - start,
        why_text=why,
        labels=labels,
        confusion=tally.confusion,
        seconds_match=time.perf_counter() - matching,
        clips_again=again,
        notes=(*chosen.notes, *_left_out(unreadable)),
        repairs=repairs_of(chosen.clips, encoded.repairs),
        tuned=model.spec.tuned,
        **provenance(model),
    )


def _per_class(confusion: NDArray[np.int64], labels: Sequence[str]) -> dict[str, float | None]:
    queries = confusion.sum(axis=1)
    return {
        label: 100.0 * float(confusion[i, i]) / float(queries[i]) if queries[i] else None
        for i, label in enumerate(labels)
    }


def _read(
    path: Path, split: Split | str | Path | None, part: Part, frames_pattern: str | None
) -> tuple[SupportSet, Split | str | Path | None, Part]:
    """The clips at a path, and the split and part to choose from them."""
    if not is_store(path):
        return read_support(path, frames_pattern=frames_pattern), split, part
    if split is not None:
        raise InputError(option(split=split), f": {path} is packed and holds its own split")
    clips, _ = part_clips(Store(path).catalogue(), part)
    return clips, None, "test"


def _choose(data: SupportSet, split: Split | str | Path | None, part: Part) -> SupportSet:
    """The clips of a part's classes."""
    if split is None:
        if part != "test":
            raise InputError(
                option(part=part), ": without ", option("split"), " every class is a test class"
            )
        return data
    split = read_split(split) if isinstance(split, (str, Path)) else split
    labels = set(labels_of_part(split, part, data.labels))
    return replace(
        data,
        classes=tuple(item for item in data.classes if item.label in labels),
        clips=tuple(clip for clip in data.clips if clip.label in labels),
    )


def _hashed(data: SupportSet, workers: int) -> tuple[SupportSet, list[str], list[MafsarError]]:
    """The clips that can be read, the hash of each one's content, and the errors of the others."""
    if data.store is not None:
        return data, hash_clips(data.clips, workers, data.store), []
    found = try_hash_clips(data.clips, workers)
    failed = {i: item for i, item in enumerate(found) if isinstance(item, MafsarError)}
    hashes = [item for item in found if isinstance(item, str)]
    return _without(data, failed), hashes, list(failed.values())


def _without(data: SupportSet, failed: Mapping[int, MafsarError]) -> SupportSet:
    """Leaves out clips by their numbers, and classes that have no other clip."""
    if not failed:
        return data
    clips = tuple(clip for i, clip in enumerate(data.clips) if i not in failed)
    here = {clip.label for clip in clips}
    classes = tuple(item for item in data.classes if item.label in here)
    return replace(data, classes=classes, clips=clips)


def _left_out(errors: Sequence[MafsarError]) -> list[Message]:
    return [Message.of(error, "; left out") for error in dict.fromkeys(errors)]


def _class_index(data: SupportSet) -> NDArray[np.intp]:
    """The number of each clip's class, (n,)."""
    index = {label: i for i, label in enumerate(data.labels)}
    return np.array([index[clip.label] for clip in data.clips], np.intp)


def _each_once(data: SupportSet, content: Sequence[str]) -> tuple[SupportSet, list[str], int]:
    """Leaves out clips with the content of another, so that a query is never its own support.

    Returns:
        The remaining clips, the content hash of each, and how many were left out.
    """
    first: dict[tuple[str, float | None, float | None], tuple[LabelledClip, str]] = {}
    for clip, sha256 in zip(data.clips, content, strict=True):
        first.setdefault((sha256, clip.start, clip.end), (clip, sha256))
    clips = tuple(clip for clip, _ in first.values())
    kept = replace(data, clips=clips)
    return kept, [sha256 for _, sha256 in first.values()], len(data.clips) - len(clips)


def _use_text(model: Encoder, data: SupportSet, text: TextUse) -> tuple[bool, str]:
    if not check_text_use(model.spec, text):
        return False, "as requested" if text == "off" else "the model has no text tower"
    if text == "on":
        return True, "as requested"
    known = known_classes(model.spec, data.classes)
    unknown = [
        item.text for item, is_known in zip(data.classes, known, strict=True) if not is_known
    ]
    if model.spec.scoring.alpha == 0.0:
        return False, "the model's own alpha is 0: names did not help on its validation classes"
    if unknown:
        return False, f"the model has not been trained on the words of {unknown[0]!r}"
    return True, "the model knows the words"


def _frozen_episodes(
    data: SupportSet,
    file: str | Path | None,
    way: int,
    shot: int,
    query: int,
    episodes: int,
    seed: int,
    groups: str | Path | None,
) -> Episodes:
    """Reads the episodes from the file if it exists; else draws them and writes the file, if given."""
    names = [_clip_name(data, clip) for clip in data.clips]
    class_index, labels = _class_index(data), list(data.labels)
    path = None if file is None else Path(file)
    if path is not None and path.exists():
        frozen = read_episodes(path, labels, names)
        _check_frozen(path, frozen, way, shot, query, episodes, seed)
        return frozen
    apart = None if groups is None else read_groups(Path(groups), _paths(data))
    drawn = draw_episodes(
        class_index,
        labels,
        way=way,
        shot=shot,
        query=query,
        episodes=episodes,
        seed=seed,
        groups=apart,
    )
    if path is not None:
        write_text(path, episodes_to_json(drawn, labels, names))
    return drawn


def _paths(data: SupportSet) -> list[Path]:
    """The clips' paths; a packed data set has none."""
    if data.store is not None:
        raise InputError(
            option("groups"), ": a packed data set has no paths; name the folder it was made from"
        )
    return [clip.path for clip in data.clips if clip.path is not None]


def _check_frozen(
    path: Path, found: Episodes, way: int, shot: int, query: int, episodes: int, seed: int
) -> None:
    """Raises MismatchError if frozen episodes are not of the requested kind."""
    holds = {
        "way": found.way,
        "shot": found.shot,
        "query": found.query,
        "episodes": len(found),
        "seed": found.seed,
    }
    requested = {"way": way, "shot": shot, "query": query, "episodes": episodes, "seed": seed}
    if holds != requested:
        differing = {name: n for name, n in holds.items() if n != requested[name]}
        raise MismatchError(
            f"{path}: frozen with ",
            option(**differing),
            "; add these, or name another ",
            option("episodes_file"),
        )


def _clip_name(data: SupportSet, clip: LabelledClip) -> str:
    """A clip's name relative to the data, which stays the same if the data is moved."""
    if data.store is not None or clip.path is None:
        return clip.name
    root = data.path if data.path.is_dir() else data.path.parent
    path = clip.path.relative_to(root) if clip.path.is_relative_to(root) else clip.path
    return f"{path}{seconds_taken(clip.start, clip.end)}"
