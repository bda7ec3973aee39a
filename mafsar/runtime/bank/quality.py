"""How good a support is: what leave-one-out says about each clip, and advice."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mafsar.runtime.bank.bank import Bank
from mafsar.runtime.bank.text_choice import TextChoice
from mafsar.runtime.scoring.leave_one_out import harmful_clips, leave_one_out

SCHEMA = 1
_ENOUGH = 5  # clips per class, as in 5-shot episodes
_MOST_CLIPS = 500  # finding harmful clips takes n² distances


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
        hurts: Whether more of the other clips are right without it.
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
        classes: The classes, ordered by label.
        clips: The clips, ordered by class and path.
        none_clips: Number of background clips.
        accuracy: Leave-one-out accuracy, 0–1; None if no clip can be judged.
        text: Whether class names are used, and why.
        notes: What was left out while enrolling.
        advice: What would improve the support, one sentence each.
    """

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
    class_index = bank.class_index[rows]
    use_text = bank.text_choice.used
    query, support = bank.query[rows], bank.frames(use_text=use_text)[rows]
    pooled, text = bank.pooled[rows], bank.text if use_text else None
    left_out = leave_one_out(query, support, class_index, bank.scoring, pooled=pooled, text=text)
    gains = np.zeros(len(rows), np.intp)
    if len(rows) <= _MOST_CLIPS:
        gains = harmful_clips(query, support, class_index, bank.scoring, pooled=pooled, text=text)
    clips = []
    for i, row in enumerate(rows):
        scores = left_out.probabilities[i]
        others = np.delete(np.arange(len(scores)), class_index[i])
        judged = bool(left_out.judged[i])
        best = int(others[scores[others].argmax()]) if len(others) else None
        clips.append(
            ClipQuality(
                path=bank.clips[row].location,
                label=bank.labels[class_index[i]],
                duration_seconds=bank.clips[row].duration_seconds,
                right=bool(left_out.right[i]) if judged else None,
                answer=bank.labels[left_out.answers[i]] if judged else None,
                nearest_other=None if best is None else bank.labels[best],
                margin=float(scores[class_index[i]] - scores[best])
                if judged and best is not None
                else None,
                hurts=bool(gains[i] > 0),
                twin=_twin(bank, int(row)),
            )
        )
    clips.sort(key=lambda clip: (bank.labels.index(clip.label), clip.path))
    classes = []
    for index, item in enumerate(bank.classes):
        judged_here = (class_index == index) & left_out.judged
        right = int(left_out.right[judged_here].sum()) if judged_here.any() else None
        classes.append(
            ClassQuality(item.label, item.text, int((class_index == index).sum()), right)
        )
    return EnrollReport(
        tuple(classes),
        tuple(clips),
        int((bank.class_index < 0).sum()),
        left_out.accuracy,
        bank.text_choice,
        bank.notes,
        tuple(_advice(classes, clips)),
    )


def _twin(bank: Bank, row: int) -> str | None:
    """A clip of another class with the same content, or None."""
    clip = bank.clips[row]
    for other in bank.clips:
        if other.label == clip.label or other.is_background:
            continue
        if other.identity == clip.identity:
            return other.location
    return None


def _advice(classes: list[ClassQuality], clips: list[ClipQuality]) -> list[str]:
    advice = []
    if len(classes) == 1:
        advice.append("one class only: a score needs another class to compare with; add one")
    single = [item.label for item in classes if item.clips == 1]
    if single:
        advice.append(f"one clip only, cannot be tested: {_some(single)}; add a second clip")
    few = [item.label for item in classes if 1 < item.clips < _ENOUGH]
    weak = [
        item.label
        for item in classes
        if item.right is not None and item.right < item.clips and item.clips < _ENOUGH
    ]
    if weak:
        advice.append(f"confused, with few clips: {_some(weak)}; add up to {_ENOUGH} clips a class")
    elif few and not single:
        advice.append("no class is confused on these clips: enough for a start")
    advice += [
        f"{clip.path} hurts: without it more of the others are right"
        for clip in clips
        if clip.hurts
    ]
    advice += [
        f"{clip.path} is also in another class, as {clip.twin}; keep it in one"
        for clip in clips
        if clip.twin
    ]
    return advice


def _some(labels: list[str]) -> str:
    return ", ".join(labels[:5]) + (", …" if len(labels) > 5 else "")
