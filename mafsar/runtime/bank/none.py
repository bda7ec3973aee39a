"""What a bank keeps to say that a query shows none of its classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mafsar.choices import FAR, NonePrior
from mafsar.runtime.encoder import Float32, ModelSpec
from mafsar.runtime.engines.negatives import read_negatives
from mafsar.runtime.scoring.none import LEAST_NEGATIVES, NoneJudge

NEGATIVES = "negatives"  # tensor of a bank's file


@dataclass(frozen=True, repr=False, eq=False)
class NoneBasis:
    """What p_none is calibrated from, beside the bank's own clips.

    Attributes:
        prior: The model's.
        negatives: Clips of other classes by the query graph, (N, T, E).
        far: The false-accept rate that `threshold="auto"` means.
    """

    prior: NonePrior
    negatives: Float32
    far: float = FAR

    @classmethod
    def of(cls, spec: ModelSpec, far: float | None) -> NoneBasis | None:
        """What a model brings; None if it brings nothing."""
        negatives = read_negatives(spec)
        if spec.none_prior is None or negatives is None or len(negatives) < LEAST_NEGATIVES:
            return None
        return cls(spec.none_prior, negatives, FAR if far is None else far)

    def judge(
        self,
        query: Float32,
        class_index: NDArray[np.intp],
        background: Float32,
    ) -> NoneJudge:
        """Calibrates on clips of some classes.

        Args:
            query: All clips of the classes by the query graph, (n, T, E).
            class_index: Their classes, (n,), 0 … C − 1.
            background: Background clips by the query graph, (B, T, E).
        """
        return NoneJudge(query, class_index, self.prior, self.negatives, background)

    def to_json(self) -> dict[str, Any]:
        """The entry `none` of a bank's document."""
        return self.prior.to_json() | {"far": self.far}

    @classmethod
    def from_json(
        cls, entry: Mapping[str, Any] | None, tensors: Mapping[str, NDArray[Any]]
    ) -> NoneBasis | None:
        """Reads `to_json`'s form and the tensor beside it, which have been checked."""
        if entry is None:
            return None
        return cls(NonePrior.from_json(entry), tensors[NEGATIVES], float(entry["far"]))


def merged(left: NoneBasis | None, right: NoneBasis | None, far: float | None) -> NoneBasis | None:
    """The basis of two banks of one model: the first one's, with another `far` if it is given."""
    found = left or right
    return found if found is None or far is None else replace(found, far=far)
