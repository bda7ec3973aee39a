"""Adds negatives to a bundle and fits p_none: ``python -m mafsar.training.starter.negatives BUNDLE``.

One clip of each rendered training class becomes a negative. Rendered episodes of the validation
classes, and of unnamed classes that no training draws, give the weights of p_none, the views that it
compares by and how firmly the weights hold against a bank's own clips. Needs no torch: the bundle
encodes the clips. It is run again for every new model; a bundle that has negatives gets new ones.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mafsar.choices import NONE_STATISTICS, EngineChoice, NonePrior, Views
from mafsar.data.parallel import in_processes
from mafsar.errors import MafsarError
from mafsar.export.bundle_draft import bundle_draft
from mafsar.export.bundle_folder import locked
from mafsar.runtime.encoder import Encoder, Float32
from mafsar.runtime.engines.loading import open_model
from mafsar.runtime.engines.negatives import NEGATIVES_FILE, write_negatives
from mafsar.runtime.scoring.none import NoneJudge
from mafsar.synthetic.actions.classes import class_names
from mafsar.synthetic.clips.render import render_clip

log = logging.getLogger(__name__)

Float64 = NDArray[np.float64]
UNNAMED = {"val": 1_000_000, "test": 2_000_000}
"""The first numbers of unnamed classes that no training draws."""
_FIRST_SEEDS = {"negatives": 30_000_000, "val": 31_000_000, "test": 33_000_000}
_UNNAMED_SEEDS = 500_000  # from a part's first seed
_CLIPS, _UNNAMED_CLASSES, _UNNAMED_CLIPS = 24, 40, 12
_WAYS, _SHOTS, _LARGE_WAYS = (1, 2, 3, 5), (1, 2, 3, 5), (10, 20)
_CANDIDATES: tuple[tuple[Views, float], ...] = (
    ("raw", 0.5),
    ("raw", 0.1),
    (0.25, 0.1),
    (0.5, 0.1),
    (0.75, 0.1),
)
_STRENGTHS = (3.0, 10.0, 30.0)
_GRAINS = (1, 2, 4, 8, 16, 28)  # pixels
NOISE = 2 * len(_GRAINS)
"""Clips of noise at the end of the negatives."""
_RIDGE = 1e-3
_AS_GOOD = 1.01


@dataclass(frozen=True)
class Clips:
    """Features of clips by the query graph.

    Attributes:
        features: (n, T, E).
        class_index: Class of each clip, (n,).
    """

    features: Float32
    class_index: NDArray[np.intp]

    def __add__(self, other: Clips) -> Clips:
        """The clips of both, whose classes differ."""
        later = other.class_index + int(self.class_index.max()) + 1
        return Clips(
            np.concatenate([self.features, other.features]),
            np.concatenate([self.class_index, later]),
        )


@dataclass(frozen=True)
class Episode:
    """A bank and clips that are asked of it, as rows of `Clips`.

    Attributes:
        support: (C, K).
        queries: (Q,).
        unknown: Whether each query is of a class that the bank lacks, (Q,).
    """

    support: NDArray[np.intp]
    queries: NDArray[np.intp]
    unknown: NDArray[np.bool_]

    def judge(self, clips: Clips, prior: NonePrior, negatives: Float32) -> NoneJudge:
        """The bank's judge."""
        way, shot = self.support.shape
        rows = self.support.ravel()
        return NoneJudge(clips.features[rows], np.repeat(np.arange(way), shot), prior, negatives)


def encode_classes(
    encoder: Encoder, names: Sequence[str], each: int, first_seed: int, *, workers: int = 2
) -> Clips:
    """Renders clips of classes, no two with the same seed, and encodes them.

    Args:
        encoder: The model.
        names: Class names.
        each: Clips of each class.
        first_seed: The first of consecutive seeds.
        workers: Processes that render; the pixels do not depend on it.
    """
    spec = encoder.spec
    labels = np.repeat(np.arange(len(names)), each)
    jobs = [
        (names[int(label)], first_seed + i, spec.frames, spec.image_size)
        for i, label in enumerate(labels)
    ]
    found = [
        encoder.encode_query(pixels[None]).frames
        for pixels in in_processes(_render, jobs, workers=workers, chunk=8)
    ]
    return Clips(np.concatenate(found), labels)


def _render(job: tuple[str, int, int, int]) -> NDArray[np.uint8]:
    name, seed, frames, size = job
    return render_clip(name, seed=seed, frames=frames, size=size)


def negatives_of(encoder: Encoder, *, workers: int = 2) -> Float32:
    """One clip of each training class, then `NOISE` of noise, rounded as the bundle keeps them."""
    names = class_names("train")
    clips = encode_classes(encoder, names, 1, _FIRST_SEEDS["negatives"], workers=workers)
    noise = encoder.encode_query(noise_clips(encoder.spec.frames, encoder.spec.image_size)).frames
    return np.concatenate([clips.features, noise]).astype(np.float16).astype(np.float32)


def noise_clips(frames: int, size: int) -> NDArray[np.uint8]:
    """Clips of noise of every grain, in colour and grey, (`NOISE`, T, S, S, 3)."""
    rng = np.random.default_rng(_FIRST_SEEDS["negatives"])
    clips = []
    for grain in _GRAINS:
        cells = -(-size // grain)
        for channels in (1, 3):
            drawn = rng.integers(0, 256, (frames, cells, cells, channels), dtype=np.uint8)
            large = drawn.repeat(grain, axis=1).repeat(grain, axis=2)[:, :size, :size]
            clips.append(np.broadcast_to(large, (frames, size, size, 3)))
    return np.stack(clips)


def held_out(encoder: Encoder, part: str, *, workers: int = 2) -> tuple[Clips, Clips]:
    """Named classes of a part, and these with unnamed ones, for banks of many classes.

    Args:
        encoder: The model.
        part: "val" or "test".
        workers: See `encode_classes`.
    """
    first = _FIRST_SEEDS[part]
    named = encode_classes(encoder, class_names(part), _CLIPS, first, workers=workers)  # type: ignore[arg-type]
    names = [f"wild_{UNNAMED[part] + i}" for i in range(_UNNAMED_CLASSES)]
    more = encode_classes(encoder, names, _UNNAMED_CLIPS, first + _UNNAMED_SEEDS, workers=workers)
    return named, named + more


def draw_episode(clips: Clips, way: int, shot: int, rng: np.random.Generator) -> Episode:
    """Draws a bank, at least eight known clips, and as many of other classes."""
    each = max(2, -(-8 // way))
    order = rng.permutation(int(clips.class_index.max()) + 1)
    support, known = [], []
    for label in order[:way]:
        drawn = rng.permutation(np.flatnonzero(clips.class_index == label))
        support.append(drawn[:shot])
        known.append(drawn[shot : shot + each])
    asked = np.concatenate(known)
    others = np.flatnonzero(np.isin(clips.class_index, order[way:]))
    unknown = rng.choice(others, len(asked), replace=False)
    return Episode(
        np.array(support),
        np.concatenate([asked, unknown]),
        np.repeat([False, True], len(asked)),
    )


def draw_mixture(
    named: Clips, many: Clips, *, rounds: int, seed: int
) -> list[tuple[Clips, Episode]]:
    """Draws banks of all sizes, `rounds` of each, with the clips that they are drawn from."""
    rng = np.random.default_rng([seed, 7])
    drawn: list[tuple[Clips, Episode]] = []
    for _ in range(rounds):
        for shot in _SHOTS:
            drawn += [(named, draw_episode(named, way, shot, rng)) for way in _WAYS]
        drawn += [(many, draw_episode(many, way, 5, rng)) for way in _LARGE_WAYS]
        drawn += [(many, draw_episode(many, way, 1, rng)) for way in _LARGE_WAYS]
    return drawn


def fit_logistic(rows: Float64, truth: NDArray[Any], ridge: float = _RIDGE) -> Float64:
    """Weights of a logistic regression by Newton's method, (S,).

    Args:
        rows: Statistics, (n, S).
        truth: 0 or 1, (n,).
        ridge: Weight of half the squared weights in the loss, which is a sum over the rows.
    """
    weights = np.zeros(rows.shape[1])
    for _ in range(50):
        p = 1.0 / (1.0 + np.exp(-rows @ weights))
        slope = rows.T @ (p - truth) + ridge * weights
        curve = (rows * (p * (1 - p))[:, None]).T @ rows + ridge * np.eye(len(weights))
        weights -= np.linalg.solve(curve, slope)
    return weights


def cross_entropy(p: Float64, truth: NDArray[Any]) -> float:
    """Mean cross-entropy of probabilities, nats."""
    p = np.clip(p, 1e-9, 1 - 1e-9)
    return float(-np.where(truth, np.log(p), np.log(1 - p)).mean())


def fit_prior(
    named: Clips, many: Clips, negatives: Float32, *, rounds: int = 12, seed: int = 0
) -> NonePrior:
    """Chooses views, weights and strength on validation classes, by cross-entropy.

    Half of the episodes fit the weights, the other half choose.

    Args:
        named: Clips of named classes.
        many: These and clips of unnamed classes.
        negatives: The negatives, (N, T, E).
        rounds: Episodes of each size of bank.
        seed: Draws the episodes.
    """
    drawn = draw_mixture(named, many, rounds=rounds, seed=seed)
    fitted, choosing = drawn[::2], drawn[1::2]
    best: tuple[float, NonePrior] | None = None
    for views, lam in _CANDIDATES:
        start = NonePrior((0.0,) * len(NONE_STATISTICS), 1.0, views, lam, NOISE)
        rows = [
            episode.judge(clips, start, negatives).statistics(clips.features[episode.queries])
            for clips, episode in fitted
        ]
        truth = np.concatenate([episode.unknown for _, episode in fitted])
        weights = fit_logistic(np.concatenate(rows), truth)
        prior = replace(start, weights=tuple(float(f"{value:.6g}") for value in weights))
        found = _best_strength(prior, choosing, negatives)
        log.info("views %s, lambda %g: cross-entropy %.4f, strength %g", views, lam, found[0],
                 found[1].strength)  # fmt: skip
        if best is None or found[0] < best[0]:
            best = found
    assert best is not None
    return best[1]


def _best_strength(
    prior: NonePrior, drawn: Sequence[tuple[Clips, Episode]], negatives: Float32
) -> tuple[float, NonePrior]:
    truth = np.concatenate([episode.unknown for _, episode in drawn])
    tried = []
    for strength in _STRENGTHS:
        here = replace(prior, strength=strength)
        p = [
            episode.judge(clips, here, negatives).p_none(clips.features[episode.queries])
            for clips, episode in drawn
        ]
        tried.append((cross_entropy(np.concatenate(p), truth), here))
    least = min(entropy for entropy, _ in tried)
    # Real clips differ from rendered ones more than these among each other, so of strengths that
    # are as good the one that listens most to a bank's own clips is kept.
    return next(item for item in tried if item[0] <= _AS_GOOD * least)


def add_negatives(bundle: Path, *, rounds: int = 12, seed: int = 0, workers: int = 2) -> NonePrior:
    """Renders, encodes and fits, and adds the result to a bundle.

    Args:
        bundle: The bundle's folder; it is replaced as a whole.
        rounds: See `fit_prior`.
        seed: See `fit_prior`.
        workers: See `encode_classes`.

    Raises:
        MafsarError: It is not a bundle, or cannot be written.
    """
    encoder = open_model(str(bundle), EngineChoice(engine="onnx", device="cpu"))
    negatives = negatives_of(encoder, workers=workers)
    named, many = held_out(encoder, "val", workers=workers)
    prior = fit_prior(named, many, negatives, rounds=rounds, seed=seed)
    with locked(bundle.resolve()), bundle_draft(bundle, bundle) as draft:
        write_negatives(draft.folder / NEGATIVES_FILE, negatives)
        draft.manifest["none"] = prior.to_json() | {"file": NEGATIVES_FILE}
    return prior


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m mafsar.training.starter.negatives",
        description="Add negatives to a bundle and fit p_none.",
    )
    parser.add_argument("bundle", type=Path, help="the bundle folder, which is changed")
    parser.add_argument("--rounds", type=int, default=12, help="episodes of each size of bank")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        prior = add_negatives(
            chosen.bundle, rounds=chosen.rounds, seed=chosen.seed, workers=chosen.workers
        )
    except MafsarError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(f"{prior}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
