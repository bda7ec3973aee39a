"""What the numbers of a training configuration may be, in one table."""

from __future__ import annotations

from dataclasses import dataclass

from mafsar.documents import shortened
from mafsar.errors import InputError

LONGEST_TEXT = 4096  # characters of a name or path
MOST_PROMPTS = 1000
MOST_DRAWN = 1 << 28
"""Most classes and clips that the episodes of a run name: 1 GiB of numbers."""


@dataclass(frozen=True)
class Range:
    """From `least` to `most`, both included unless said otherwise.

    Attributes:
        least: The lowest value.
        most: The highest value.
        below: Whether `most` itself is too high.
    """

    least: float
    most: float
    below: bool = False

    def check(self, name: str, value: float) -> None:
        """Raises an InputError that names the field, the bound and the value; for NaN, too."""
        if self.least <= value <= self.most and not (self.below and value == self.most):
            return
        if (self.least, self.most) == (0, 1):
            wanted = "in 0–1" if not self.below else "≥ 0 and < 1"
        elif value < self.least:
            wanted = f"≥ {self.least:g}"
        else:
            wanted = f"from {self.least:g} to {self.most:g}"
        raise InputError(f"{name} must be {wanted}, got {shortened(value)}")


_SHARE = Range(0, 1)
_COUNT = Range(1, 1000)
_STEPS = 1_000_000_000

RANGES: dict[str, Range] = {
    "way": Range(2, 1000),
    "shot": _COUNT,
    "query": _COUNT,
    "episodes": Range(1, 10_000_000),
    "seed": Range(0, (1 << 63) - 1),
    "alpha": _SHARE,
    # λ and the scales are those of a bundle's manifest, so that every run can be exported.
    "lam": Range(1e-6, 1e6),
    "visual_scale": Range(1e-6, 1e6),
    "smooth": _SHARE,
    "text_dropout": _SHARE,
    "model.ratio": Range(1e-4, 1),
    "model.joint_scale": Range(-1e6, 1e6),
    "model.frames": _COUNT,
    "data.workers": Range(0, 256),
    "optim.learning_rate": Range(0, 1e38),
    "optim.weight_decay": Range(0, 1000),
    "optim.beta1": Range(0, 1, below=True),
    "optim.beta2": Range(0, 1, below=True),
    "optim.warm_up": _SHARE,
    "optim.batch": Range(1, 100_000),
    "optim.clip_norm": Range(0, 1e9),
    "val.every": Range(0, _STEPS),
    "val.episodes": Range(1, 1_000_000),
    "val.clips": Range(0, 1_000_000),
    "run.save_every": Range(1, _STEPS),
}
"""By dotted name; a field of another type has no entry."""
