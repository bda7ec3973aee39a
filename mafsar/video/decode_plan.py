"""Which packets to decode for the wanted frames, and where to jump."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from mafsar.video.container import Packets

Strategy = Literal["auto", "seek", "through"]

JUMP_PACKETS = 3
"""A jump to a key frame costs about as much as decoding this many frames (benchmarks/decode.py)."""


@dataclass(frozen=True)
class Run:
    """Consecutive packets to decode, and the timestamps wanted from them."""

    start: int
    stop: int
    wanted: frozenset[int]


def plan_runs(packets: Packets, wanted: np.ndarray, strategy: Strategy) -> list[Run]:
    """Divides the decoding of the wanted timestamps into runs of packets.

    Args:
        packets: All packets of the stream, in file order.
        wanted: Timestamps of shown packets, ascending.
        strategy: As for `decode_moments`.

    Returns:
        Runs, in the order of the wanted timestamps.
    """
    keys = np.flatnonzero(packets.key)
    shown = np.flatnonzero(packets.shown)
    order = shown[np.argsort(packets.pts[shown], kind="stable")]
    needs = order[np.searchsorted(packets.pts[order], wanted)]
    # How many packets a jump must save; with a negative saving some are decoded again.
    total = len(packets.pts)
    least_saving = {"auto": JUMP_PACKETS, "seek": -total, "through": total + 1}[strategy]
    runs: list[Run] = []
    start, stop, inside = 0, 0, set[int]()
    for pts, need in zip(wanted, needs, strict=True):
        # Frames after a key frame in the file may be shown before it; they need the previous one.
        usable = keys[(keys <= need) & (packets.pts[keys] <= pts)]
        key = int(usable[-1]) if len(usable) else 0
        if key - stop >= least_saving and int(pts) not in inside:
            if inside:
                runs.append(Run(start, stop, frozenset(inside)))
            start, stop, inside = key, key, set()
        inside.add(int(pts))
        stop = max(stop, int(need) + 1)
    runs.append(Run(start, stop, frozenset(inside)))
    return runs
