"""The layers of the frozen photo embeddings as a table: sizes and exact parameter counts (no torch).

Things are seen by EfficientNet-Lite0's last blocks, which go on where the tower's stem ends
(`mafsar.model.stem_table`). People are seen by the backbone of BlazePose (Bazarevsky et al. 2020,
the "lite" model), whose convolutions have biases and no batch norms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from mafsar.errors import InputError
from mafsar.model.stem_table import stage

PHOTO_SIZE = 224
"""Side of the pictures that both networks read, pixels; twice that of the tower."""

THINGS_BLOCKS = (*stage(112, 192, 5, 2, 6, 4), *stage(192, 320, 3, 1, 6, 1))
THINGS_CELLS = 3  # a side of the pooled map of 7×7
THINGS_WIDTH = THINGS_BLOCKS[-1].out_channels * THINGS_CELLS**2

PEOPLE_FIRST = 24  # channels after the first convolution, 3×3 with stride 2
PEOPLE_BLOCKS = (
    *stage(24, 8, 3, 1, 1, 1),
    *stage(8, 16, 3, 2, 4, 1),
    *stage(16, 16, 3, 1, 6, 1),
    *stage(16, 24, 5, 2, 6, 2),
    *stage(24, 40, 3, 2, 6, 3),
    *stage(40, 56, 5, 1, 6, 3),
    *stage(56, 96, 5, 2, 6, 4),
)
PEOPLE_HIDDEN, PEOPLE_CHANNELS = 576, 192  # of the last layers: 1×1, twice depthwise 3×3, 1×1
PEOPLE_CELLS = 2  # a side of the pooled map of 7×7
PEOPLE_WIDTH = PEOPLE_CHANNELS * PEOPLE_CELLS**2


@dataclass(frozen=True)
class PhotoConfig:
    """Widths of the frozen embeddings beside the tower's own.

    Attributes:
        things: Components of EfficientNet-Lite0's last map that are kept.
        people: Components of BlazePose's map that are kept.
        sums: Weight of the running sums of things; 0 leaves them out.
    """

    things: int = 256
    people: int = 64
    sums: float = 16.0

    def __post_init__(self) -> None:
        for name, width, most in (
            ("things", self.things, THINGS_WIDTH),
            ("people", self.people, PEOPLE_WIDTH),
        ):
            if not 1 <= width <= most:
                raise InputError(f"photo.{name} must be from 1 to {most}, got {width}")
        if not 0 <= self.sums < math.inf:
            raise InputError(f"photo.sums must be 0 or a positive number, got {self.sums}")

    @property
    def width(self) -> int:
        """Numbers of a frame's photo embedding."""
        return self.things * (2 if self.sums else 1) + self.people

    @property
    def parameters(self) -> int:
        """Number of parameters, without the stem's; none of them is tuned."""
        things = sum(block.parameters for block in THINGS_BLOCKS)
        hidden = PEOPLE_HIDDEN
        people = (
            (3 * 3**2 + 1) * PEOPLE_FIRST
            + sum(block.parameters for block in PEOPLE_BLOCKS)
            + (PEOPLE_BLOCKS[-1].out_channels + 1) * hidden
            + 2 * (3**2 + 1) * hidden
            + (hidden + 1) * PEOPLE_CHANNELS
        )
        projections = (THINGS_WIDTH + 1) * self.things + (PEOPLE_WIDTH + 1) * self.people
        return things + people + projections
