"""Which packets to decode for the wanted frames, and where to jump."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from mafsar.video.timeline import Packets

Strategy = Literal["auto", "seek", "through"]

JUMP_PACKETS = 3
"""A jump to a key frame costs about as much as decoding this many frames (benchmarks/decode.py)."""


@dataclass(frozen=True)
class Run:
    """Consecutive packets to decode, and the numbers of those whose frames are wanted."""

    start: int
    stop: int
    wanted: frozenset[int]


def plan_runs(packets: Packets, wanted: np.ndarray, strategy: Strategy) -> list[Run]:
    """Divides the decoding of the wanted frames into runs of packets.

    Args:
        packets: All packets of the stream, in file order.
        wanted: Numbers of the packets of the wanted frames, in the order shown.
        strategy: As for `decode_moments`.

    Returns:
        Runs, in the order of the wanted frames.
    """
    keys = np.flatnonzero(packets.key)
    # How many packets a jump must save; with a negative saving some are decoded again.
    total = len(packets.pts)
    least_saving = {"auto": JUMP_PACKETS, "seek": -total, "through": total + 1}[strategy]
    runs: list[Run] = []
    start, stop, inside = 0, 0, set[int]()
    place = packets.place
    for need in wanted.tolist():
        # Frames after a key frame in the file may be shown before it; they need the previous one.
        usable = keys[(keys <= need) & (place[keys] <= place[need])]
        key = int(usable[-1]) if len(usable) else 0
        if key - stop >= least_saving and need not in inside:
            if inside:
                runs.append(Run(start, stop, frozenset(inside)))
            start, stop, inside = key, key, set()
        inside.add(need)
        stop = max(stop, need + 1)
    runs.append(Run(start, stop, frozenset(inside)))
    return runs
