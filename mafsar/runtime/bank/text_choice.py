"""Whether class names are used in the scores: the argument `text`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mafsar.choices import TEXT_USES, Branch, Scoring, TextUse, check_choice
from mafsar.data.support import SupportClass
from mafsar.errors import UnavailableError, option
from mafsar.runtime.encoder import Float32, ModelSpec
from mafsar.runtime.scoring.leave_one_out import LeftOut, leave_one_out

_MARKS = ",.:;!?\"'()"
_WORD = r"[^\W_]+(?:['’][^\W_]+)*"


@dataclass(frozen=True)
class TextChoice:
    """Whether class names are used, and why.

    Attributes:
        requested: The user's choice.
        used: Whether class names are used.
        alpha: Weight of the text term, 0–1; 0 if not used.
        why: The reason, one sentence.
    """

    requested: TextUse
    used: bool
    alpha: float
    why: str

    def __post_init__(self) -> None:
        check_choice("text", self.requested, TEXT_USES)


def known_classes(spec: ModelSpec, classes: Sequence[SupportClass]) -> tuple[bool, ...]:
    """Whether the model was trained on every word of each class's text, (C,)."""
    known = spec.known_words
    if known is None:
        return (True,) * len(classes)
    return tuple(
        all(
            token.strip(_MARKS) in known or all(word in known for word in re.findall(_WORD, token))
            for token in item.text.lower().split()
        )
        for item in classes
    )


def check_text_use(spec: ModelSpec, requested: TextUse) -> bool:
    """Whether class texts need to be encoded.

    Raises:
        UnavailableError: `requested` is "on" and the model has no text tower.
    """
    if requested == "on" and not spec.text:
        raise UnavailableError(
            option(text="on"), f": {spec.name} has no text tower; use ", option(text="off")
        )
    return spec.text and requested != "off"


def decide_text(
    requested: TextUse,
    *,
    classes: Sequence[SupportClass],
    words_known: Sequence[bool],
    scoring: Scoring,
    query: Float32,
    pooled: Float32,
    support: Float32,
    text: Float32 | None,
    class_index: NDArray[np.intp],
    branch: Branch = "query",
) -> TextChoice:
    """Decides by the user's choice, the words that the model knows, and leave-one-out.

    Args:
        requested: The user's choice.
        classes: The C classes.
        words_known: Whether the model knows the words of each class, (C,).
        scoring: The model's own scoring.
        query: Clips by the query graph, (n, T, E).
        pooled: Time means of the raw query features, (n, E).
        support: Clips by the support graph with text, (n, T, E).
        text: Class text embeddings, (C, E), or None if the model has no text tower.
        class_index: Class of each clip, (n,), 0 … C − 1.
        branch: The graph that `support` is from.
    """

    def off(why: str) -> TextChoice:
        return TextChoice(requested, False, 0.0, why)

    def on(why: str) -> TextChoice:
        return TextChoice(requested, True, scoring.alpha, why)

    if requested == "off":
        return off("as requested")
    if text is None:
        return off("the model has no text tower")
    if requested == "on":
        return on("as requested")
    if scoring.alpha == 0.0:
        return off("the model's own alpha is 0: names did not help on its validation classes")
    if not all(words_known):
        unknown = [repr(c.text) for c, known in zip(classes, words_known, strict=True) if not known]
        listed = ", ".join(unknown[:3]) + (", …" if len(unknown) > 3 else "")
        return off(f"the model has not been trained on the words of {listed}")
    if np.bincount(class_index, minlength=len(classes)).min() < 2:
        return on("the model knows the words, and a class with one clip leaves none to test with")
    with_text = leave_one_out(
        query, support, class_index, scoring, pooled=pooled, text=text, branch=branch
    )
    without = leave_one_out(query, query, class_index, replace(scoring, alpha=0.0))
    # With few clips, accuracies are often equal; then the higher confidence decides.
    better = (with_text.accuracy or 0.0, with_text.confidence) >= (
        without.accuracy or 0.0,
        without.confidence,
    )
    why = f"leave-one-out is right on {_share(with_text)} with text, {_share(without)} without"
    if with_text.accuracy == without.accuracy:
        surer = "more" if better else "less"
        why = (
            f"leave-one-out is right on {_share(with_text)} with and without text, and with it the"
            f" right classes get {surer} of the shares"
        )
    return on(why) if better else off(why)


def _share(left_out: LeftOut) -> str:
    right = int(left_out.right[left_out.judged].sum())
    return f"{right} of {int(left_out.judged.sum())}"
