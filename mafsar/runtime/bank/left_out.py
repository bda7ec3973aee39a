"""Leave-one-out over a bank, as the bank is matched."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mafsar.files import take_rows
from mafsar.runtime.bank.bank import Bank
from mafsar.runtime.scoring.leave_one_out import LeftOut, harmful_clips, leave_one_out

Answer = TypeVar("Answer")


def left_out_clips(bank: Bank, rows: NDArray[np.intp] | None = None) -> LeftOut:
    """Answers every clip from the others.

    Args:
        bank: The bank.
        rows: The clips that count, in order, each class with at least one; None = all but the
            background clips.
    """
    return _of_rows(bank, rows, leave_one_out)


def harm_of_clips(bank: Bank, rows: NDArray[np.intp] | None = None) -> NDArray[np.intp]:
    """How many more of the other clips are right without a clip, about; (n,), arguments as above."""
    return _of_rows(bank, rows, harmful_clips)


def _of_rows(bank: Bank, rows: NDArray[np.intp] | None, judge: Callable[..., Answer]) -> Answer:
    if rows is None:
        rows = np.flatnonzero(bank.class_index >= 0)
    use_text = bank.text_choice.used
    return judge(
        take_rows(bank.query, rows),
        take_rows(bank.frames(use_text=use_text), rows),
        bank.class_index[rows],
        bank.scoring,
        pooled=take_rows(bank.pooled, rows),
        text=bank.text if use_text else None,
        branch=bank.branch(use_text=use_text),
    )
