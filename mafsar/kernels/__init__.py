"""Matching of clips: frame distances, OTAM, Bi-MHM and mean matching, over all pairs at once.

Every function takes torch tensors (with gradients) or numpy arrays and returns the same kind. The
native module computes what it can, and a twin in torch or numpy computes the rest; `status` says
which and why. Importing this package never imports torch.
"""

from __future__ import annotations

from mafsar.kernels.api import (
    bimhm,
    bimhm_match,
    frame_distances,
    mean_match,
    otam,
    otam_alignment,
    otam_match,
    temporal_adapter,
)
from mafsar.kernels.dispatch import OpStatus, get_num_threads, set_num_threads, status

__all__ = [
    "OpStatus",
    "bimhm",
    "bimhm_match",
    "frame_distances",
    "get_num_threads",
    "mean_match",
    "otam",
    "otam_alignment",
    "otam_match",
    "set_num_threads",
    "status",
    "temporal_adapter",
]
