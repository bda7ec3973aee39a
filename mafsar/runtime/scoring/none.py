"""The probability that a clip shows none of a bank's classes (docs/method.md, "None of the classes").

A distance alone says little: some clips are far from everything, some classes near to everything.
So a distance is compared with those of clips that are known to show none of the classes: the
negatives that come with the model, and the bank's own background clips. Speaker verification calls
this adaptive score normalisation (Cumani et al. 2011). The class c with the least

    s_c = ½ (d_c − mean_n d(n, c)) / σ_n d(n, c) + ½ (d_c − mean_n d(q, n)) / σ_n d(q, n)

over the negatives n is the one that is tested, by a logistic regression on these statistics:

    one            1
    to_negatives   (d_c − mean of the nearest tenth of the d(q, n)) / σ_n d(q, n)
    to_class       (d_c − mean of the nearest fifth of the d(n, c)) / σ_n d(n, c)
    runner_up      s_c − the next s; 0 for one class
    to_own         (d_c − mean distance of the class's clips, each left out) / σ_n d(n, c) · K / (K + 2);
                   0 for one clip
    to_others      (d_c − mean distance of the other classes' clips to c) / σ_n d(n, c); 0 for one
                   class
    shots          log of the class's clips
    classes        log of the number of classes
    alone          1 for one class

A background clip, or one of the clips of noise that come with the negatives, that is nearer to the
query than the nearest negatives takes their place. The weights are the model's; the constant moves towards what the bank's own clips say: left out of their
class they are known, without their class they are unknown. All distances are those of the query
graph, whether class names are used or not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mafsar.choices import NonePrior, Scoring
from mafsar.runtime.encoder import Float32
from mafsar.runtime.scoring.scores import Float64, class_distances, viewed_prototypes
from mafsar.runtime.scoring.views import NO_FLOOR, norms, views_of

LEAST_NEGATIVES = 20
MOST_CLIPS = 2000
"""Clips of a support that are asked what they say of each other; of more, some of each class."""
_OWN_WEIGHT = 4.0  # of a bank's own unknown clip against a negative of the model, in the threshold
_NEAR_QUERY, _NEAR_CLASS = 10, 5  # the nearest tenth and fifth of the negatives
_FLOOR_SHARE = 0.1  # ε over the median change
_STEPS = 30  # of Newton's method, which needs five


@dataclass(frozen=True)
class Distances:
    """Distances of Q clips to everything that they are compared with.

    Attributes:
        classes: To the classes, (Q, C).
        negatives: To the negatives, (Q, N); NaN for a negative itself.
        background: To the nearest background clip, (Q,); infinite without any.
    """

    classes: Float64
    negatives: Float64
    background: Float64


@dataclass(frozen=True)
class _Classes:
    """What is known of some of the classes.

    Attributes:
        mean: Mean distance of the negatives to each class, (C,).
        deviation: Standard deviation of it, (C,).
        nearest: Distances of the nearest fifth of the negatives and one more, ascending.
        counts: Clips of each class, (C,).
        own: Mean distance of each class's clips, each left out, (C,); NaN for one clip.
        between: Sums of the distances of the clips of one class to another, (C, C).
    """

    mean: Float64
    deviation: Float64
    nearest: Float64
    counts: Float64
    own: Float64
    between: Float64

    @classmethod
    def of(cls, distances: Float64, counts: Float64, own: Float64, between: Float64) -> _Classes:
        """From the distances of N negatives to C classes, (N, C)."""
        near = max(1, len(distances) // _NEAR_CLASS)
        return cls(
            distances.mean(axis=0),
            np.maximum(distances.std(axis=0), NO_FLOOR),
            np.sort(distances, axis=0)[: near + 1],
            counts,
            own,
            between,
        )

    @property
    def others(self) -> Float64:
        """Mean distance of the other classes' clips to each class, (C,); NaN for one class."""
        if len(self.counts) == 1:
            return np.full(1, np.nan)
        sums = self.between.sum(axis=0) - np.diag(self.between)
        return np.asarray(sums / (self.counts.sum() - self.counts))

    def without(self, index: int) -> _Classes:
        """The other classes."""
        return _Classes(
            np.delete(self.mean, index),
            np.delete(self.deviation, index),
            np.delete(self.nearest, index, axis=1),
            np.delete(self.counts, index),
            np.delete(self.own, index),
            np.delete(np.delete(self.between, index, axis=0), index, axis=1),
        )


class NoneJudge:
    """Says how probable it is that clips show none of the classes of a support.

    Attributes:
        shift: What the support's own clips add to the constant of the prior, in logits.
    """

    def __init__(
        self,
        clips: Float32,
        class_index: NDArray[np.intp],
        prior: NonePrior,
        negatives: Float32,
        background: Float32 | None = None,
    ) -> None:
        """Calibrates on a support.

        Args:
            clips: Support clips by the query graph, (n, T, E).
            class_index: Classes, (n,), 0 … C − 1, each with at least one clip.
            prior: The model's.
            negatives: Clips of other classes by the query graph, (N, T, E), at least
                `LEAST_NEGATIVES`, then the clips of noise.
            background: Background clips by the query graph, (B, T, E).
        """
        self._prior = prior
        self._weights = np.array(prior.weights)
        self._scoring = Scoring("otam", prior.lam)
        actions = len(negatives) - prior.noise
        negatives, noise = negatives[:actions], negatives[actions:]
        self._centre = negatives.mean(axis=(0, 1), dtype=np.float64).astype(np.float32)
        own = negatives - negatives.mean(axis=1, keepdims=True)
        self._floor = max(_FLOOR_SHARE * float(np.median(norms(own, 0.0))), NO_FLOOR)
        self._negatives = self._view(negatives)
        given = clips[:0] if background is None else background
        self._behind = self._view(given)
        self._background = np.concatenate([self._behind, self._view(noise)])
        counts = np.bincount(class_index)
        self._prototypes = viewed_prototypes(self._view, clips, class_index, len(counts))
        # What the clips say of each other is asked of some of each class, where there are very many.
        rows = _some_of_each(class_index, counts)
        views, tested = self._view(clips[rows]), class_index[rows]
        of_negatives = class_distances(self._negatives, self._prototypes, self._scoring)
        found = self._distances(views)
        self._left_out = self._without_themselves(views, tested, counts)
        share = counts / np.bincount(tested, minlength=len(counts))
        sums = [found.classes[tested == c].sum(axis=0) * share[c] for c in range(len(counts))]
        own = [
            self._left_out[tested == c].mean() if count > 1 else np.nan
            for c, count in enumerate(counts)
        ]
        self._classes = _Classes.of(
            of_negatives, counts.astype(np.float64), np.array(own), np.stack(sums)
        )
        known, unknown = self._own_clips(found, tested)
        unknown = np.concatenate([unknown, self._background_rows()])
        self.shift = _shift(known @ self._weights, unknown @ self._weights, prior.strength)
        self._unknown, self._unknown_weights = self._all_unknown(of_negatives, unknown)

    def p_none(self, query: Float32) -> Float64:
        """Probability that each clip shows none of the classes, (Q,), if half of all clips do.

        Args:
            query: Clips by the query graph, (Q, T, E).
        """
        return _sigmoid(self.statistics(query) @ self._weights + self.shift)

    def statistics(self, query: Float32) -> Float64:
        """The statistics of clips by the query graph, (Q, T, E), in the order of the weights."""
        return self._rows(self.distances(query), self._classes)

    def distances(self, query: Float32) -> Distances:
        """Distances of clips by the query graph, (Q, T, E), to all that they are compared with."""
        return self._distances(self._view(query))

    def threshold(self, far: float) -> float:
        """The p_none up to which a class is answered, so that about `far` of unknown clips are.

        Taken from the p_none of the negatives, each without itself, of the support's clips without
        their classes, and of the background clips.

        Args:
            far: The false-accept rate, between 0 and 1.
        """
        order = np.argsort(self._unknown)
        logits = self._unknown[order]
        share = np.cumsum(self._unknown_weights[order])
        place = int(np.searchsorted(share / share[-1], far, side="right"))
        if place == 0:
            logit = logits[0] - 1e-6
        elif place >= len(logits):
            logit = logits[-1]
        else:
            logit = (logits[place - 1] + logits[place]) / 2
        return float(_sigmoid(np.array(logit + self.shift)))

    def _view(self, frames: Float32) -> Float32:
        """What is compared: views about the mean of the negatives, or raw features."""
        if self._prior.views == "raw":
            return frames
        return views_of(frames, self._centre, self._floor, float(self._prior.views))

    def _distances(self, views: Float32, *, themselves: bool = False) -> Distances:
        """Distances of clips; `themselves` if they are the background clips."""
        background = np.full(len(views), np.inf)
        if len(self._background) > themselves:
            table = class_distances(views, self._background, self._scoring)
            if themselves:
                np.fill_diagonal(table, np.inf)
            background = table.min(axis=1)
        return Distances(
            class_distances(views, self._prototypes, self._scoring),
            class_distances(views, self._negatives, self._scoring),
            background,
        )

    def _rows(
        self, found: Distances, classes: _Classes, *, negatives_themselves: bool = False
    ) -> Float64:
        """The statistics of clips against classes, (Q, S)."""
        d, t = found.classes, found.negatives
        each = np.arange(len(d))
        deviation = np.maximum(np.nanstd(t, axis=1), NO_FLOOR)
        s = (d - classes.mean) / classes.deviation
        s = (s + (d - np.nanmean(t, axis=1)[:, None]) / deviation[:, None]) / 2
        best = s.argmin(axis=1)
        near = max(1, t.shape[1] // _NEAR_QUERY)
        nearest = np.partition(t, near - 1, axis=1)[:, :near].mean(axis=1)  # NaN sorts last
        nearest = np.minimum(nearest, found.background)
        distance = d[each, best]
        few = classes.nearest[:, best].T  # (Q, near + 1)
        of_class = few[:, :-1].mean(axis=1)
        if negatives_themselves:
            inside = distance <= few[:, -1]
            without = (few.sum(axis=1) - distance) / (few.shape[1] - 1)
            of_class = np.where(inside, without, of_class)
        number = d.shape[1]
        runner_up = np.zeros(len(d))
        if number > 1:
            two = np.partition(s, 1, axis=1)[:, :2]
            runner_up = two[:, 0] - two[:, 1]
        counts = classes.counts[best]
        to_own = (distance - classes.own[best]) / classes.deviation[best] * counts / (counts + 2)
        to_others = (distance - classes.others[best]) / classes.deviation[best]
        return np.stack(
            [
                np.ones(len(d)),
                (distance - nearest) / deviation,
                (distance - of_class) / classes.deviation[best],
                runner_up,
                np.nan_to_num(to_own, nan=0.0),
                np.nan_to_num(to_others, nan=0.0),
                np.log(counts),
                np.full(len(d), math.log(number)),
                np.full(len(d), float(number == 1)),
            ],
            axis=1,
        )

    def _without_themselves(
        self,
        views: Float32,
        class_index: NDArray[np.intp],
        counts: NDArray[np.intp],
    ) -> Float64:
        """Distance of each clip to the others of its class, (n,); NaN for a class's only clip."""
        own = np.full(len(views), np.nan)
        rows = np.flatnonzero(counts[class_index] > 1)
        if len(rows):
            number = counts[class_index[rows], None, None]
            rest = (self._prototypes[class_index[rows]] * number - views[rows]) / (number - 1)
            own[rows] = class_distances(
                views[rows, None], rest[:, None].astype(np.float32), self._scoring
            )[:, 0, 0]
        return own

    def _own_clips(
        self, found: Distances, class_index: NDArray[np.intp]
    ) -> tuple[Float64, Float64]:
        """Statistics of the support's clips: left out of their class, and without their class."""
        classes = self._classes
        known, unknown = [np.zeros((0, len(self._weights)))], [np.zeros((0, len(self._weights)))]
        for c, count in enumerate(classes.counts):
            rows = np.flatnonzero(class_index == c)
            if len(classes.counts) > 1:
                others = Distances(
                    np.delete(found.classes[rows], c, axis=1),
                    found.negatives[rows],
                    found.background[rows],
                )
                unknown.append(self._rows(others, classes.without(c)))
            for row in rows if count > 1 else ():
                here = Distances(
                    found.classes[[row]], found.negatives[[row]], found.background[[row]]
                )
                here.classes[0, c] = self._left_out[row]
                counts, own = classes.counts.copy(), classes.own.copy()
                counts[c] -= 1
                left = self._left_out[rows[rows != row]]
                own[c] = left.mean() if count > 2 else np.nan
                known.append(self._rows(here, replace(classes, counts=counts, own=own)))
        return np.concatenate(known), np.concatenate(unknown)

    def _background_rows(self) -> Float64:
        """Statistics of the background clips, each without itself."""
        if len(self._behind) == 0:
            return np.zeros((0, len(self._weights)))
        return self._rows(self._distances(self._behind, themselves=True), self._classes)

    def _all_unknown(self, of_negatives: Float64, own: Float64) -> tuple[Float64, Float64]:
        """Logits, without the shift, of all clips that are known to be unknown, and their weights."""
        between = class_distances(self._negatives, self._negatives, self._scoring)
        np.fill_diagonal(between, np.nan)
        found = Distances(of_negatives, between, np.full(len(between), np.inf))
        rows = self._rows(found, self._classes, negatives_themselves=True)
        weights = np.r_[np.ones(len(rows)), np.full(len(own), _OWN_WEIGHT)]
        return np.concatenate([rows, own]) @ self._weights, weights


def _some_of_each(class_index: NDArray[np.intp], counts: NDArray[np.intp]) -> NDArray[np.intp]:
    """All clips, or where they are more than `MOST_CLIPS` the first ones of each class, ascending."""
    if len(class_index) <= MOST_CLIPS:
        return np.arange(len(class_index))
    each = max(2, MOST_CLIPS // len(counts))
    order = np.argsort(class_index, kind="stable")
    firsts = np.cumsum(counts) - counts
    place = np.arange(len(order)) - firsts[class_index[order]]
    return np.sort(order[place < each])


def _shift(known: Float64, unknown: Float64, strength: float) -> float:
    """The constant that makes logits of known and unknown clips most probable, held at 0.

    Minimises Σ weight · cross-entropy + ½ strength · shift² by Newton's method. Both sides have the
    same weight in all; where one side is missing, the other counts half.
    """
    logits = np.concatenate([known, unknown])
    truth = np.r_[np.zeros(len(known)), np.ones(len(unknown))]
    if len(known) and len(unknown):
        least = min(len(known), len(unknown))
        weights = np.where(truth == 1, least / len(unknown), least / len(known))
    else:
        weights = np.full(len(truth), 0.5)
    shift = 0.0
    for _ in range(_STEPS):
        p = _sigmoid(logits + shift)
        slope = float((weights * (p - truth)).sum()) + strength * shift
        shift -= slope / (float((weights * p * (1 - p)).sum()) + strength)
    return shift


def _sigmoid(logits: Float64) -> Float64:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits)), np.float64)
