"""The words of a quality report: the verdict in one sentence, and what to do, most useful first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mafsar.runtime.bank.bank import Bank
from mafsar.runtime.bank.harm import MOST, MOST_CLIPS, Harm, Twins
from mafsar.runtime.scoring.leave_one_out import LeftOut
from mafsar.runtime.scoring.verdict import Verdict

ENOUGH = 5  # clips a class, as the field's 5-shot episodes
_WELL = 0.8  # accuracy from which classes are simply "told apart"


def verdict_sentence(verdict: Verdict, labels: Sequence[str], left_out: LeftOut) -> str:
    """The verdict on a support, against chance, with the 95 % interval of the accuracy.

    Args:
        verdict: The counts.
        labels: The classes' labels.
        left_out: The answers, for the two classes that are mixed up most.
    """
    if len(labels) == 1:
        return "cannot judge one class alone: there is nothing to tell it from"
    if verdict.kind == "unjudged":
        return "cannot judge these clips: no class has a second one"
    low, high = (100 * bound for bound in verdict.interval)
    counts = f"right on {verdict.right} of {verdict.judged} left-out clips"
    counts += f" ({100 * verdict.right / verdict.judged:.0f} %, 95 % interval {low:.0f} to "
    counts += f"{high:.0f} %), chance is {verdict.chance * verdict.judged:.0f}: "
    if verdict.kind == "few":
        return counts + "too few clips to judge"
    if verdict.kind == "chance":
        if len(labels) == 2:
            return counts + f"this model cannot tell {labels[0]} from {labels[1]}"
        return counts + f"this model cannot tell these {len(labels)} classes apart"
    well = verdict.right >= _WELL * verdict.judged
    told = "these classes are told apart"
    return counts + told + ("" if well else ", but not well") + _mixed_up(labels, left_out)


def _mixed_up(labels: Sequence[str], left_out: LeftOut) -> str:
    """The two classes that are taken for each other most often, or nothing."""
    wrong = left_out.judged & ~left_out.right
    if not wrong.any():
        return ""
    table = np.zeros((len(labels), len(labels)), int)
    np.add.at(table, (left_out.class_index[wrong], left_out.answers[wrong]), 1)
    table = np.triu(table + table.T)
    first, second = divmod(int(table.argmax()), len(labels))
    times = int(table.max())
    often = "once" if times == 1 else f"{times} times"
    return f"; {labels[first]} and {labels[second]} are mixed up {often}"


def advise(
    bank: Bank,
    left_out: LeftOut,
    verdict: Verdict,
    harm: Sequence[Harm],
    twins: Sequence[Twins],
) -> list[str]:
    """What would make a support better, one sentence each, most useful first.

    Clips are only said to be removed where leave-one-out over the rest is not worse.

    Args:
        bank: The bank.
        left_out: Leave-one-out over its clips.
        verdict: The counts of it.
        harm: The clips that hurt.
        twins: Clips of two classes with the same content.
    """
    advice = []
    counts = np.bincount(left_out.class_index)
    names = [clip.location for clip in bank.clips]
    if len(counts) == 1:
        advice.append("one class only: a score needs another class to compare with; add one")
    if verdict.kind == "chance":
        advice.append(
            "try a larger model, or show the model only the region in which the classes differ"
        )
    for pair in twins[:MOST]:
        fact = f"{names[pair.first]} is also in another class, as {names[pair.second]}"
        spare = "keep it in one" if pair.spare is None else f"remove {names[pair.spare]}"
        advice.append(f"{fact}; {spare}")
    for item in harm:
        more = f"{item.gain} more of the others {'is' if item.gain == 1 else 'are'} right"
        advice.append(f"remove {names[item.clip]}: without it {more}")
    labels = np.array(bank.labels)
    single = labels[counts == 1].tolist()
    if single:
        advice.append(f"one clip only, cannot be tested: {_some(single)}; add a second clip")
    wrong = np.bincount(
        left_out.class_index[left_out.judged & ~left_out.right], minlength=len(counts)
    )
    weak = labels[(wrong > 0) & (counts < ENOUGH)].tolist()
    if weak and verdict.kind != "chance":
        advice.append(f"confused, with few clips: {_some(weak)}; add up to {ENOUGH} clips a class")
    elif not advice and (counts < ENOUGH).any():
        advice.append("no class is confused on these clips: enough for a start")
    if len(left_out.class_index) > MOST_CLIPS:
        advice.append(
            f"more than {MOST_CLIPS} clips: whether single clips hurt was not looked for, as it takes"
            " the square of their number"
        )
    return advice


def _some(labels: Sequence[str]) -> str:
    return ", ".join(labels[:5]) + (", …" if len(labels) > 5 else "")
