"""Views, restated from docs/method.md in float64 and plain loops, independent of the package.

Clips are sequences of frames, frames sequences of numbers. `prior` is (μ0, ε) of a branch, or None.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tests.restatements import matching

Clip = Sequence[Sequence[float]]
Prior = tuple[Sequence[float], float] | None


def mean(clips: Sequence[Clip], prior: Prior, kappa: float = 16.0) -> list[float]:
    """μ = (n μS + κ μ0) / (n + κ) of the enrolled clips of one branch."""
    frames = [frame for clip in clips for frame in clip]
    width = len(frames[0])
    own = [math.fsum(frame[e] for frame in frames) for e in range(width)]
    start = prior[0] if prior else [0.0] * width
    return [(own[e] + kappa * start[e]) / (len(frames) + kappa) for e in range(width)]


def views(clip: Clip, mu: Sequence[float], floor: float, w: float) -> list[list[float]]:
    """v_t = [ √(1−w) a_t ; √w c_t ] of every frame."""
    centre = [math.fsum(column) / len(clip) for column in zip(*clip, strict=True)]
    out = []
    for frame in clip:
        a = [x - m for x, m in zip(frame, mu, strict=True)]
        c = [x - m for x, m in zip(frame, centre, strict=True)]
        a_length, c_length = max(math.hypot(*a), 1e-6), max(math.hypot(*c), floor)
        out.append(
            [math.sqrt(1 - w) * x / a_length for x in a] + [math.sqrt(w) * x / c_length for x in c]
        )
    return out


def distances(
    query: Clip,
    enrolled_query: Sequence[Clip],
    enrolled_support: Sequence[Clip],
    class_index: Sequence[int],
    *,
    w: float,
    metric: str,
    lam: float,
    query_prior: Prior = None,
    support_prior: Prior = None,
) -> list[float]:
    """The distance of a query to each class of the enrolled clips."""
    floor = query_prior[1] if query_prior else 1e-6
    asked = views(query, mean(enrolled_query, query_prior), floor, w)
    mu = mean(enrolled_support, support_prior)
    floor = support_prior[1] if support_prior else 1e-6
    shown = [views(clip, mu, floor, w) for clip in enrolled_support]
    found = []
    for c in range(max(class_index) + 1):
        members = [v for v, own in zip(shown, class_index, strict=True) if own == c]
        prototype = [
            [math.fsum(column) / len(members) for column in zip(*frames, strict=True)]
            for frames in zip(*members, strict=True)
        ]
        found.append(matching.distance(metric, asked, prototype, lam))
    return found
