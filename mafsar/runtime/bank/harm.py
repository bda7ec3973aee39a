"""The few clips of a support that hurt: without them, the others are named better."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mafsar.runtime.bank.bank import Bank
from mafsar.runtime.bank.left_out import harm_of_clips, left_out_clips
from mafsar.runtime.scoring.leave_one_out import LeftOut
from mafsar.runtime.scoring.verdict import Verdict

MOST = 3  # clips that a report names: the removal of many is a fit to noise
_TRIED = 5  # candidates of each round that are judged exactly
MOST_CLIPS = 500
"""In a larger support no clips that hurt are looked for: candidates cost n² alignments, and each
removal that is tried n · C."""
_LEFT = 2  # clips that stay in each class, so that each can still be judged


@dataclass(frozen=True)
class Harm:
    """A clip to remove.

    Attributes:
        clip: Its index in the bank's clips.
        gain: How many more of the other clips are right without it, once those named before it are
            removed; > 0.
    """

    clip: int
    gain: int


@dataclass(frozen=True)
class Twins:
    """Two clips of different classes with the same content.

    Attributes:
        first: Index in the bank's clips.
        second: Of the other one.
        spare: The one to remove: without it leave-one-out is not worse, and least so; None where
            it is worse without either, and in a support of more than `MOST_CLIPS` clips.
    """

    first: int
    second: int
    spare: int | None


def find_spares(bank: Bank, left_out: LeftOut, pairs: Sequence[tuple[int, int]]) -> list[Twins]:
    """Which of each two twins to remove, tried one after the other.

    Args:
        bank: The bank.
        left_out: Leave-one-out over its clips.
        pairs: The twins, indices in the bank's clips.
    """
    rows, found = np.flatnonzero(bank.class_index >= 0), []
    if len(rows) > MOST_CLIPS:
        return [Twins(*pair, None) for pair in pairs]
    accuracy = left_out.accuracy or 0.0
    for pair in pairs:
        tried: list[tuple[float, int]] = []
        for clip in pair if set(pair) <= set(rows.tolist()) else ():
            kept = rows[rows != clip]
            if (bank.class_index[kept] == bank.class_index[clip]).any():
                tried.append((left_out_clips(bank, kept).accuracy or 0.0, clip))
        best = max(tried, default=(-1.0, -1), key=lambda item: item[0])
        spare = best[1] if best[0] >= accuracy else None
        if spare is not None:
            rows, accuracy = rows[rows != spare], best[0]
        found.append(Twins(*pair, spare))
    return found


def find_harm(bank: Bank, removed: Collection[int] = ()) -> list[Harm]:
    """At most `MOST` clips that hurt, the worst first; each is judged after removing those before.

    Each removal was tried: leave-one-out over the rest has a higher accuracy than before it, and
    the verdict on the support is not lost. A class keeps two clips. Nothing is named where the
    accuracy is within its interval of chance, since gains are noise there, nor in a support of more
    than `MOST_CLIPS` clips.

    Args:
        bank: The bank.
        removed: Indices of clips that are taken as removed already.
    """
    rows = np.array(
        [row for row in np.flatnonzero(bank.class_index >= 0) if row not in removed], np.intp
    )
    found: list[Harm] = []
    if len(rows) > MOST_CLIPS:
        return found
    left_out = left_out_clips(bank, rows)
    while len(found) < MOST and Verdict.of(left_out).kind == "apart":
        right = left_out.right & left_out.judged
        if right[left_out.judged].all():
            break
        best: tuple[int, int, LeftOut] | None = None
        for i in _candidates(bank, rows):
            kept = np.delete(np.arange(len(rows)), i)
            after = left_out_clips(bank, rows[kept])
            gain = int((after.right & after.judged).sum()) - int(right[kept].sum())
            better = (after.accuracy or 0.0) > (left_out.accuracy or 0.0)
            apart = Verdict.of(after).kind == "apart"
            if gain > 0 and better and apart and (best is None or gain > best[1]):
                best = (i, gain, after)
        if best is None:
            break
        index, gain, left_out = best
        found.append(Harm(int(rows[index]), gain))
        rows = np.delete(rows, index)
    return found


def _candidates(bank: Bank, rows: NDArray[np.intp]) -> list[int]:
    """The clips whose removal seems to help most, in the order of the rows' numbers."""
    gains = harm_of_clips(bank, rows)
    class_index = bank.class_index[rows]
    counts = np.bincount(class_index)
    gains = np.where(counts[class_index] > _LEFT, gains, 0)
    order = np.argsort(-gains, kind="stable")[:_TRIED]
    return [int(i) for i in order if gains[i] > 0]
