"""The choice between raw features and views, on the validation classes (docs/method.md, "Views").

One small grid at the end of a run, from the weights that were kept. Raw features stay unless views
win beyond the paired 95 % interval over the same episodes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mafsar.choices import VIEWS_LAM, BranchPrior, Scoring, ViewPrior
from mafsar.runtime.encoder import Float32
from mafsar.runtime.evaluation.tally import confidence_interval
from mafsar.training.encode import ClipFeatures
from mafsar.training.fit import Float64, fused_scores, share_right
from mafsar.training.validate import Validator

WEIGHTS = (0.25, 0.5, 0.75)
_FLOOR_SHARE = 0.1  # ε over the median change


@dataclass(frozen=True)
class Candidate:
    """One way to match, fitted to the validation episodes.

    Attributes:
        match: With its fitted α and visual_scale.
        accuracy: On the validation episodes, %.
        gain: Accuracy above the best raw candidate's, points.
        gain_ci95: Half width of the paired 95 % interval of `gain`, points.
        chosen: Whether it is kept.
    """

    match: Scoring
    accuracy: float
    gain: float
    gain_ci95: float
    chosen: bool

    def to_json(self) -> dict[str, Any]:
        """A row of the run's log."""
        names = ("metric", "lam", "alpha", "visual_scale", "views")
        kept = {name: getattr(self.match, name) for name in names}
        rest = ("accuracy", "gain", "gain_ci95", "chosen")
        return kept | {name: getattr(self, name) for name in rest}


def view_prior(features: ClipFeatures) -> ViewPrior:
    """μ0 and ε of both branches, from training clips by the final weights."""
    query, support = features.arrays()
    return ViewPrior(branch_prior(query), branch_prior(support))


def branch_prior(features: Float32) -> BranchPrior:
    """μ0 and ε of one branch, from features of training clips (n, T, E)."""
    frames = features.astype(np.float64)
    changes = np.linalg.norm(frames - frames.mean(axis=1, keepdims=True), axis=-1)
    mean = tuple(float(f"{value:.7g}") for value in frames.mean(axis=(0, 1)))
    return BranchPrior(mean, float(f"{_FLOOR_SHARE * np.median(changes):.7g}"))


def choose_views(
    validator: Validator, features: ClipFeatures, match: Scoring, prior: ViewPrior
) -> list[Candidate]:
    """Tries raw features and views; one of the candidates is chosen.

    Args:
        validator: The validation episodes.
        features: Of its clips, by the final weights.
        match: The run's scoring, raw.
        prior: μ0 and ε, which every candidate keeps.
    """
    base = dataclasses.replace(match, views="raw", view_prior=prior)
    lams = sorted({base.lam, VIEWS_LAM}, key=lambda lam: lam != base.lam)
    views = ["raw", *(WEIGHTS if base.metric != "mean" else (0.0,))]
    tried = [
        validator.score(features, dataclasses.replace(base, lam=lam, views=view))
        for view in views
        for lam in (lams if base.metric == "otam" else lams[:1])
    ]
    rights = [share_right(fused_scores(one.visual, one.text, one.match)) for one in tried]
    raws = [i for i, one in enumerate(tried) if one.match.views == "raw"]
    best_raw = max(raws, key=lambda i: (rights[i].mean(), -i))
    gains = [_gain(right, rights[best_raw]) for right in rights]
    winners = [i for i, (gain, half) in enumerate(gains) if i not in raws and gain > half]
    chosen = max(winners, key=lambda i: (gains[i][0], -i), default=None)
    if chosen is None:  # λ of raw features changes only for a gain beyond the interval, too
        gain, half = _gain(rights[best_raw], rights[0])
        chosen = best_raw if gain > half else 0
    return [
        Candidate(one.match, 100 * float(right.mean()), gain, half, i == chosen)
        for i, (one, right, (gain, half)) in enumerate(zip(tried, rights, gains, strict=True))
    ]


def _gain(right: Float64, other: Float64) -> tuple[float, float]:
    """Mean difference and half its paired 95 % interval over the episodes, points."""
    difference = right - other
    return 100 * float(difference.mean()), 100 * confidence_interval(difference)


def table(candidates: Sequence[Candidate]) -> list[str]:
    """The grid as lines for a log."""
    return [
        f"views {one.match.views}, lambda {one.match.lam:g}, alpha {one.match.alpha:g}, visual scale"
        f" {one.match.visual_scale:g}: {one.accuracy:.2f} %, {one.gain:+.2f} ± {one.gain_ci95:.2f}"
        f" against raw{' (kept)' if one.chosen else ''}"
        for one in candidates
    ]
