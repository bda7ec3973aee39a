"""How good a support is: what leave-one-out says about each clip, and advice."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mafsar.runtime.bank.advice import advise, verdict_sentence
from mafsar.runtime.bank.bank import Bank
from mafsar.runtime.bank.harm import find_harm, find_spares
from mafsar.runtime.bank.left_out import left_out_clips
from mafsar.runtime.bank.text_choice import TextChoice
from mafsar.runtime.scoring.verdict import Verdict

SCHEMA = 1


@dataclass(frozen=True)
class ClipQuality:
    """What leave-one-out says about one clip.

    Attributes:
        path: The clip's path, or its name if it was in memory.
        label: Its class.
        duration_seconds: Its length.
        right: Whether the other clips give it its own class; None for a class's only clip.
        answer: The class that they give it; None for a class's only clip.
        nearest_other: The other class with the highest score.
        margin: Score of its own class minus that of `nearest_other`, −1 to 1.
        hurts: Whether the report says to remove it: more of the other clips are right without it.
            At most three clips, and none if the accuracy may be chance.
        gain: How many more are right; 0 if it does not hurt.
        twin: A clip of another class with the same content, or None.
    """

    path: str
    label: str
    duration_seconds: float
    right: bool | None
    answer: str | None
    nearest_other: str | None
    margin: float | None
    hurts: bool
    gain: int
    twin: str | None


@dataclass(frozen=True)
class ClassQuality:
    """One class of the support.

    Attributes:
        label: The class.
        text: The text that the model reads.
        clips: Number of clips.
        right: How many of them are right in leave-one-out; None if no clip can be judged.
    """

    label: str
    text: str
    clips: int
    right: int | None


@dataclass(frozen=True)
class EnrollReport:
    """How good a support is.

    Attributes:
        verdict: One sentence: leave-one-out against chance, with the 95 % interval.
        kind: "unjudged", "few", "chance" or "apart"; see `mafsar.runtime.scoring.verdict.Verdict`.
        chance: What naming every clip after the largest class gets, 0–1.
        interval: 95 % interval of the accuracy, 0–1; None if no clip can be judged.
        classes: The classes, ordered by label.
        clips: The clips, ordered by class and path.
        none_clips: Number of background clips.
        accuracy: Leave-one-out accuracy, 0–1; None if no clip can be judged.
        text: Whether class names are used, and why.
        notes: What was left out while enrolling.
        advice: What would improve the support, one sentence each, most useful first.
    """

    verdict: str
    kind: Literal["unjudged", "few", "chance", "apart"]
    chance: float
    interval: tuple[float, float] | None
    classes: tuple[ClassQuality, ...]
    clips: tuple[ClipQuality, ...]
    none_clips: int
    accuracy: float | None
    text: TextChoice
    notes: tuple[str, ...]
    advice: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The JSON object that `mafsar enroll` prints."""
        return {"schema": SCHEMA} | asdict(self)


def judge(bank: Bank) -> EnrollReport:
    """Judges each clip of a bank by the others."""
    rows = np.flatnonzero(bank.class_index >= 0)
    class_index, labels = bank.class_index[rows], bank.labels
    left_out = left_out_clips(bank)
    verdict = Verdict.of(left_out)
    twins = _twins(bank, rows)
    pairs = [(row, twin) for row, twin in twins.items() if twin is not None and row < twin]
    spares = find_spares(bank, left_out, pairs)
    harm = find_harm(bank, {pair.spare for pair in spares if pair.spare is not None})
    gains = {item.clip: item.gain for item in harm}
    clips = []
    for i, row in enumerate(rows):
        scores = left_out.probabilities[i]
        others = np.delete(np.arange(len(scores)), class_index[i])
        judged = bool(left_out.judged[i])
        best = int(others[scores[others].argmax()]) if len(others) else None
        clips.append(
            ClipQuality(
                path=bank.clips[row].location,
                label=labels[class_index[i]],
                duration_seconds=bank.clips[row].duration_seconds,
                right=bool(left_out.right[i]) if judged else None,
                answer=labels[left_out.answers[i]] if judged else None,
                nearest_other=None if best is None else labels[best],
                margin=float(scores[class_index[i]] - scores[best])
                if judged and best is not None
                else None,
                hurts=int(row) in gains,
                gain=gains.get(int(row), 0),
                twin=None if (twin := twins[int(row)]) is None else bank.clips[twin].location,
            )
        )
    place = {label: number for number, label in enumerate(labels)}
    clips.sort(key=lambda clip: (place[clip.label], clip.path))
    classes = []
    for index, item in enumerate(bank.classes):
        judged_here = (class_index == index) & left_out.judged
        right = int(left_out.right[judged_here].sum()) if judged_here.any() else None
        classes.append(
            ClassQuality(item.label, item.text, int((class_index == index).sum()), right)
        )
    return EnrollReport(
        verdict_sentence(verdict, bank.labels, left_out),
        verdict.kind,
        verdict.chance,
        verdict.interval if verdict.judged else None,
        tuple(classes),
        tuple(clips),
        int((bank.class_index < 0).sum()),
        left_out.accuracy,
        bank.text_choice,
        bank.notes,
        tuple(advise(bank, left_out, verdict, harm, spares)),
    )


def _twins(bank: Bank, rows: NDArray[np.intp]) -> dict[int, int | None]:
    """For each of some clips the first clip of another class with the same content, or None."""
    same: dict[tuple[Any, ...], list[int]] = {}
    for index, clip in enumerate(bank.clips):
        if not clip.is_background:
            same.setdefault(clip.identity, []).append(index)
    found: dict[int, int | None] = {}
    for row in rows.tolist():
        clip = bank.clips[row]
        others = (each for each in same[clip.identity] if bank.clips[each].label != clip.label)
        found[row] = next(others, None)
    return found
