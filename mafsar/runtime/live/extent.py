"""Where in a window an action begins and ends: the hard path of OTAM through the frames of a clip.

In one direction OTAM (docs/method.md) aligns all frames of the support clip with some consecutive
frames of the query: the padding columns of cost 0 take what comes before and after. The first row
of the cheapest path is where the action begins, the last one where it ends.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def aligned_rows(distances: NDArray[np.floating]) -> tuple[int, int]:
    """The first and the last query frame that the cheapest path takes.

    C[l, m] = d[l, m] + min(C[l−1, m−1], C[l, m−1]), and in the first column the path may begin in
    any row at no cost.

    Args:
        distances: Between the frames of query and support, (Tq, Ts).

    Returns:
        Two row numbers, first ≤ last; of equal paths the shortest extent.
    """
    d = np.asarray(distances, np.float64)
    rows, columns = d.shape
    cost = d[:, 0].copy()
    first = np.arange(rows)
    for column in range(1, columns):
        diagonal = np.concatenate([[np.inf], cost[:-1]])
        from_above = diagonal < cost
        first = np.where(from_above, np.concatenate([[0], first[:-1]]), first)
        cost = np.minimum(diagonal, cost) + d[:, column]
    last = int(cost.argmin())
    return int(first[last]), last
