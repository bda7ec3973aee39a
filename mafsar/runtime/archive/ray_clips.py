"""Clips on a cluster: queries are answered, and clips of a data set encoded, by a pool of actors."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mafsar.errors import MafsarError
from mafsar.runtime.archive.ray_pool import ModelOfPool, RayPool, actor_rows, connected
from mafsar.runtime.bank.bank import Bank
from mafsar.runtime.cache.clip_jobs import (
    ClipJob,
    ClipReading,
    ClipTensors,
    RunJobs,
    encode_jobs,
)
from mafsar.runtime.encoder import Encoder
from mafsar.runtime.match.answers import Match, QueryError
from mafsar.runtime.match.matcher import Matcher
from mafsar.runtime.match.queries import Query

_AT_ONCE = 8  # clips of one call of an actor


def match_on_ray(
    pool: RayPool, matcher: Matcher, options: Mapping[str, Any], queries: Sequence[Query]
) -> Iterator[Match | QueryError]:
    """Names the action of each clip by actors of a cluster, in order; as `Matcher.stream`.

    Args:
        pool: The actors.
        matcher: Its bank and encoder; it has found the options to fit them.
        options: What each actor gives to `Matcher`; without evidence, which is too large to send.
        queries: Clips by path, which every machine of the cluster must have there.

    Yields:
        A `Match`, or a `QueryError` for a clip that cannot be read or answered.
    """
    rows = [{"name": query.name, "path": str(query.path)} for query in queries]
    bank = replace(matcher.bank, images=None)
    with connected(pool):
        arguments = (ModelOfPool.of(pool, matcher.encoder), bank, dict(options))
        for row in actor_rows(pool, _MatchActor, arguments, rows, batch=_AT_ONCE, ordered=True):
            yield pickle.loads(row["answer"])


def encode_on_ray(pool: RayPool, encoder: Encoder) -> RunJobs:
    """Encodes clips by actors of a cluster; for `evaluate`.

    Every machine of the cluster must have the clips under the same paths.

    Args:
        pool: The actors.
        encoder: The model.
    """

    def run(jobs: Sequence[ClipJob], reading: ClipReading) -> Iterator[ClipTensors | MafsarError]:
        if not jobs:
            return
        rows = [{"job": pickle.dumps(job)} for job in jobs]
        arguments = (ModelOfPool.of(pool, encoder), reading)
        with connected(pool):
            for row in actor_rows(
                pool, _EncodeActor, arguments, rows, batch=_AT_ONCE, ordered=True
            ):
                yield pickle.loads(row["made"])

    return run


class _MatchActor:
    """Names clips on a machine of the cluster.

    Args:
        model: The model.
        bank: The bank.
        options: For `Matcher`.
        side_by_side: Threads that decode.
    """

    def __init__(
        self, model: ModelOfPool, bank: Bank, options: dict[str, Any], side_by_side: int
    ) -> None:
        encoder = model.load()
        self._matcher = Matcher(bank, encoder, workers=side_by_side, evidence=False, **options)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        """Answers the queries of a batch: `name` and `path`, lists."""
        pairs = zip(batch["name"], batch["path"], strict=True)
        queries = [Query(str(name), Path(str(path))) for name, path in pairs]
        # Within one run and one cluster, as Ray itself sends objects; nothing of it is kept.
        return {"answer": [pickle.dumps(each) for each in self._matcher.stream(queries)]}


class _EncodeActor:
    """Encodes clips on a machine of the cluster.

    Args:
        model: The model.
        reading: How clips are read.
        side_by_side: Threads that decode.
    """

    def __init__(self, model: ModelOfPool, reading: ClipReading, side_by_side: int) -> None:
        self._encoder, self._reading, self._workers = model.load(), reading, side_by_side

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        """Runs the jobs of a batch: `job`, a list."""
        jobs = [pickle.loads(job) for job in batch["job"]]
        made = encode_jobs(self._encoder, jobs, self._reading, workers=self._workers)
        return {"made": [pickle.dumps(each) for each in made]}
