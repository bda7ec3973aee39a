"""Means over the last steps of a run, and how long the rest of it takes at their pace."""

from __future__ import annotations

from collections import deque

STEPS = 50
"""Steps of the window."""


class Window:
    """The last steps of a run."""

    def __init__(self, began: float) -> None:
        """Starts empty.

        Args:
            began: When the first step began, seconds of any clock.
        """
        self._values: deque[tuple[float, float]] = deque(maxlen=STEPS)
        self._ends: deque[float] = deque([began], maxlen=STEPS + 1)

    def add(self, loss: float, accuracy: float, ended: float) -> None:
        """Adds a step.

        Args:
            loss: Its loss.
            accuracy: Its accuracy, %.
            ended: When it ended, with what followed the step before it, as a validation.
        """
        self._values.append((loss, accuracy))
        self._ends.append(ended)

    def __len__(self) -> int:
        return len(self._values)

    @property
    def loss(self) -> float:
        """Mean loss; there is at least one step."""
        return sum(loss for loss, _ in self._values) / len(self._values)

    @property
    def accuracy(self) -> float:
        """Mean accuracy, %."""
        return sum(accuracy for _, accuracy in self._values) / len(self._values)

    @property
    def seconds_step(self) -> float:
        """Seconds a step, validations and checkpoints in between included."""
        return (self._ends[-1] - self._ends[0]) / len(self._values)
