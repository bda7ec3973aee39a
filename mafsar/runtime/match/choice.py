"""How a bank is matched, by what it holds and what was asked for."""

from __future__ import annotations

from mafsar.choices import Metric, Scoring, TextUse, ViewsUse
from mafsar.errors import InputError, option
from mafsar.runtime.bank.bank import Bank


def choose_scoring(
    bank: Bank, text: TextUse, alpha: float | None, metric: Metric | None, views: ViewsUse
) -> tuple[bool, Scoring]:
    """Whether class names are used, and the scoring.

    Raises:
        InputError: An argument is out of range, contradicts another, or needs texts that the bank
            does not have.
    """
    use_text = bank.text_choice.used if text == "auto" else text == "on"
    if use_text and bank.text is None:
        raise InputError(
            f"{bank.name}: has no class texts: it was enrolled with ",
            option(text="off"),
            " or by a model without text; enroll the clips again with ",
            option(text="on"),
        )
    scoring = bank.scoring_with_text
    if not use_text:
        if alpha:
            raise InputError(option(alpha=alpha), ": text is off; use ", option(text="on"))
        return False, scoring.with_choices(metric=metric, alpha=0.0, views=views)
    own = bank.text_choice.alpha if bank.text_choice.used else scoring.alpha
    alpha = own if alpha is None else alpha
    return True, scoring.with_choices(metric=metric, alpha=alpha, views=views)
