"""YCgCo pictures to RGB (ISO/IEC 23091-2, matrix 8), which FFmpeg's scaler does not convert."""

from __future__ import annotations

import numpy as np

YCGCO = 8
"""AVColorSpace of such frames."""


def ycgco_to_rgb(luma: np.ndarray, green: np.ndarray, orange: np.ndarray) -> np.ndarray:
    """Converts Y, Cg and Co.

    Args:
        luma: Y in [0, 1], (H, W).
        green: Cg in [-0.5, 0.5], (H, W).
        orange: Co in [-0.5, 0.5], (H, W).

    Returns:
        R'G'B' in [0, 1] (values outside are possible), (H, W, 3), float32.
    """
    rest = luma - green
    return np.stack([rest + orange, luma + green, rest - orange], axis=-1).astype(np.float32)
