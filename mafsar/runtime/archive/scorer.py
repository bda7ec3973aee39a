"""A bank that is compared with rows of an index, by the scoring of `Matcher`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mafsar import kernels
from mafsar.choices import Metric, Scoring, TextUse, ViewsUse
from mafsar.errors import InputError, UnavailableError, option
from mafsar.files import take_rows
from mafsar.kernels.windows import WindowViews, can_match_windows, match_windows
from mafsar.runtime.archive.index import Index
from mafsar.runtime.archive.parts import Half
from mafsar.runtime.bank.bank import Bank
from mafsar.runtime.encoder import Float32
from mafsar.runtime.live.extent import aligned_rows
from mafsar.runtime.live.windows import plan_windows
from mafsar.runtime.match.choice import choose_scoring
from mafsar.runtime.match.none import NoneAnswers
from mafsar.runtime.scoring.change import change_share, usual_change
from mafsar.runtime.scoring.scores import (
    Scores,
    class_distances,
    score_distances,
    viewed_prototypes,
)
from mafsar.runtime.scoring.views import Views
from mafsar.video.motion import is_still


@dataclass(frozen=True)
class ScoringChoice:
    """What `mafsar.watch` takes of the same names."""

    text: TextUse = "auto"
    alpha: float | None = None
    metric: Metric | None = None
    views: ViewsUse = "auto"
    threshold: float | Literal["auto", "off"] = "auto"
    far: float | None = None


class BankScorer:
    """Scores rows of an index by the classes of a bank.

    Args:
        bank: The bank.
        index: The index.
        choice: How the bank is matched.

    Attributes:
        bank: The bank.
        scoring: How features become scores.
        views: What is matched.
        support: Features of the bank's clips, (n, T, E), raw.
        prototypes: Of the classes, (C, T, E) or (C, T, 2E).
        own: Whether a class is judged at a length of the index, (lengths, C), bool.
        threshold: The p_none above which a row is none; None if no row is.

    Raises:
        MismatchError: The index was made by another model, or of another part of the picture.
        InputError: An argument does not fit the bank.
        UnavailableError: The bank uses class names, and the index keeps no pooled features.
    """

    def __init__(self, bank: Bank, index: Index, choice: ScoringChoice | None = None) -> None:
        choice = choice or ScoringChoice()
        settings = index.settings
        settings.check_bank(bank, index.place)
        self.bank = bank
        use_text, self.scoring = choose_scoring(
            bank, choice.text, choice.alpha, choice.metric, choice.views
        )
        self._text = bank.text if use_text else None
        if self._text is not None and not settings.pooled:
            raise UnavailableError(
                f"{index.place}: keeps no pooled features; use ", option(text="off")
            )
        rows = np.flatnonzero(bank.class_index >= 0)
        self.support = bank.frames(use_text=use_text)
        self.views = Views.of(
            self.scoring,
            take_rows(bank.query, rows),
            take_rows(self.support, rows),
            bank.branch(use_text=use_text),
        )
        self.prototypes = self.prototypes_of(self.views, self.support)
        self.own = _own_lengths(bank, index)
        self._shown = lru_cache(maxsize=8)(self._views_of_class)
        self._usual = lru_cache(maxsize=None)(self._usual_change_of_class)
        self._none = NoneAnswers(bank, choice.threshold, choice.far).for_windows()
        self._judge, self.threshold = self._none.judge_of(bank.class_index)

    def prototypes_of(self, views: Views, support: Float32) -> Float32:
        """Prototypes of the classes, from features of the bank's clips, (n, T, E)."""
        rows = np.flatnonzero(self.bank.class_index >= 0)
        return viewed_prototypes(
            views.of_support,
            take_rows(support, rows),
            self.bank.class_index[rows],
            len(self.bank.classes),
        )

    def scores(self, frames: Half, pooled: Half | None) -> Scores:
        """Scores of rows against all classes.

        Args:
            frames: Features, (n, T, E), as the index keeps them.
            pooled: Pooled features, (n, E); needed where class names are used.
        """
        distances = window_distances(self.views, self.prototypes, frames, self.scoring)
        return score_distances(
            np.asarray(distances, np.float64),
            frames.shape[-2],
            self.scoring,
            pooled=None if pooled is None else pooled.astype(np.float32),
            text=self._text,
        )

    @property
    def needs_pooled(self) -> bool:
        """Whether class names are used."""
        return self._text is not None

    def p_none(self, frames: Float32, motion: Float32) -> NDArray[np.float64] | None:
        """Probability that each row shows none of the classes, (n,); None without calibration.

        Args:
            frames: Features, (n, T, E).
            motion: Of the rows, (n,), grey levels.
        """
        if self._judge is None:
            return None
        if len(frames) == 0:
            return np.zeros(0)
        found = np.asarray(self._judge.p_none(frames), np.float64)
        if self._none.moving:
            found[[is_still(float(levels)) for levels in motion]] = 1.0
        return found

    def parts(self, frames: Float32, class_index: int) -> NDArray[np.float64]:
        """The part of each row in which its alignment finds a class, as shares of the window.

        Args:
            frames: Features of rows, (n, T, E).
            class_index: The class.

        Returns:
            Begin and end, (n, 2), 0–1.
        """
        if len(frames) == 0:
            return np.zeros((0, 2))
        asked = self.views.of_query(frames)
        shown = self._shown(class_index)
        nearest = shown[class_distances(asked, shown, self.scoring).argmin(axis=1)]
        grids = np.asarray(kernels.frame_distances(asked[:, None], nearest[:, None]))[:, 0, 0]
        rows = np.array([aligned_rows(grid) for grid in grids], np.float64)
        rows[:, 1] += 1.0
        return np.asarray(rows / frames.shape[1])

    def changes(self, frames: Float32, class_index: int) -> NDArray[np.float64]:
        """What changes in each row as a share of what usually does in the clips of a class, (n,).

        Args:
            frames: Features of rows, (n, T, E).
            class_index: The class.
        """
        return change_share(frames, self._usual(class_index))

    def _usual_change_of_class(self, class_index: int) -> float:
        return usual_change(self.bank.query[self.bank.class_index == class_index])

    def _views_of_class(self, class_index: int) -> Float32:
        """What is matched of the clips of a class, (n, T, …)."""
        members = np.flatnonzero(self.bank.class_index == class_index)
        return self.views.of_support(self.support[members])

    def class_number(self, label: str) -> int:
        """The index of a class.

        Raises:
            InputError: There is no such class.
        """
        if label not in self.bank.labels:
            known = ", ".join(self.bank.labels[:8])
            raise InputError(f"{self.bank.name}: has no class {label!r}; it has {known}")
        return self.bank.labels.index(label)


def window_distances(
    views: Views, prototypes: Float32, frames: Half, scoring: Scoring
) -> NDArray[np.floating[Any]]:
    """The metric between windows and prototypes, (n, C).

    Args:
        views: What is matched.
        prototypes: Views of the classes, (C, T, …).
        frames: Raw features of the windows, (n, T, E).
        scoring: Metric and λ.
    """
    most = max(frames.shape[-2], prototypes.shape[-2])
    if not can_match_windows(scoring.metric, most):
        return class_distances(views.of_query(frames.astype(np.float32)), prototypes, scoring)
    seen = None
    if views.weight is not None and views.query_mean is not None:
        mean = np.broadcast_to(views.query_mean, frames.shape[-1:])
        seen = WindowViews(mean, views.query_floor, views.weight)
    return match_windows(scoring.metric, frames, prototypes, scoring.lam, seen)


def _own_lengths(bank: Bank, index: Index) -> NDArray[np.bool_]:
    """At which lengths of an index a bank's classes are judged: the nearest to their clips'."""
    lengths = index.settings.lengths
    plan = plan_windows(bank, index.settings.frames, lengths)
    own = np.zeros((len(lengths), len(bank.classes)), np.bool_)
    for row, length in zip(plan.own, plan.lengths, strict=True):
        own[lengths.index(length)] = row
    return own
