"""Work on a cluster: files go through a pool of actors of Ray Data, each with its own encoder.

Ray Data starts the actors again that were lost, repeats their files, and holds files back while
all actors are busy. What is written does not depend on who made it (`build`), so a file that was
encoded twice is the same.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mafsar.choices import EngineChoice
from mafsar.errors import MismatchError, UnavailableError
from mafsar.extras import require
from mafsar.runtime.archive.build import RunFiles, run_in_threads
from mafsar.runtime.archive.encode import FileEncoder
from mafsar.runtime.archive.parts import FileRecord
from mafsar.runtime.archive.settings import IndexSettings
from mafsar.runtime.archive.store import Store
from mafsar.runtime.bank.bank import Bank
from mafsar.runtime.encoder import Encoder
from mafsar.runtime.match.answers import Match, QueryError
from mafsar.runtime.match.matcher import Matcher
from mafsar.runtime.match.queries import Query

LOCAL = "local"
"""An address: start Ray on this machine, for this run."""
_QUERIES = 8  # clips of one call of an actor that matches
_TRIES = 3  # a busy machine may need more than the 30 s that Ray waits for its own start


@dataclass(frozen=True)
class RayPool:
    """The actors that work.

    Attributes:
        model: What `load_model` takes for the model; every machine of the cluster must have it there.
        choice: Engine, device and precision.
        address: Of the cluster: "local", "auto", "HOST:PORT" or "ray://HOST:PORT".
        workers: Actors at most; None = one per GPU, or per CPU core where there are none.
        verbose: Whether Ray may print what it does.
    """

    model: str
    choice: EngineChoice
    address: str = LOCAL
    workers: int | None = None
    verbose: bool = False


@contextmanager
def connected(pool: RayPool) -> Iterator[Any]:
    """Connects to a cluster, or starts one here; gives the module `ray`, and leaves at the end.

    Raises:
        UnavailableError: Ray is not installed, or the cluster cannot be reached.
    """
    require("a cluster", "ray", "pyarrow", extra="ray")
    # Before the import: Ray reports its use over the network unless it is told not to.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray warns of its default
    if not pool.verbose:
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    import ray

    options: dict[str, Any] = {"address": pool.address}
    if pool.address == LOCAL:
        options |= {"num_cpus": pool.workers or os.cpu_count(), "include_dashboard": False}
    level = logging.INFO if pool.verbose else logging.ERROR
    was_there = ray.is_initialized()
    for left in reversed(range(0 if was_there else _TRIES)):
        try:
            ray.init(logging_level=level, log_to_driver=pool.verbose, **options)
            break
        except Exception as error:  # Ray raises many kinds, a bare Exception for a slow start
            ray.shutdown()
            if pool.address == LOCAL and left:
                continue
            reason = str(error).strip().splitlines()[0] if str(error).strip() else "no answer"
            raise UnavailableError(
                f"Ray at {pool.address} cannot be reached ({reason}); start it there with ray start"
            ) from error
    import ray.data

    logging.getLogger("ray.data").setLevel(level)  # its import sets the level
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = pool.verbose
    try:
        yield ray
    finally:
        if not was_there:
            ray.shutdown()


def run_on_ray(pool: RayPool) -> RunFiles:
    """Encodes files by actors of a cluster; for `build_index`.

    Args:
        pool: The actors.
    """

    def run(work: FileEncoder, paths: Sequence[str]) -> Iterator[tuple[str, FileRecord]]:
        left = []
        for path in paths:
            found = work.recall(path)
            if found is None:
                left.append(path)
            else:
                yield path, found
        if not left:
            return
        with connected(pool):
            settings = json.dumps(work.settings.to_json())
            arguments = (pool, work.store.place, settings, tuple(work.known))
            for row in actor_rows(pool, _IndexActor, arguments, [{"path": each} for each in left]):
                values = json.loads(row["record"])
                yield (
                    row["path"],
                    FileRecord(**(values | {"repairs": tuple(values["repairs"])})),
                )

    return run


def actor_rows(
    pool: RayPool,
    actor: type,
    arguments: tuple[Any, ...],
    rows: Sequence[dict[str, Any]],
    *,
    batch: int = 1,
    ordered: bool = False,
) -> Iterator[dict[str, Any]]:
    """Sends rows through a pool of actors, and yields the rows that they give.

    Args:
        pool: The actors. The cluster is connected.
        actor: A class that is called with batches of rows: lists by column.
        arguments: Of its constructor, before the last one: how many rows it may work on side by side.
        rows: The rows, at least one.
        batch: Rows of a call at least; they are lost together where an actor is.
        ordered: Whether they come in the order of the rows.
    """
    import ray
    from ray.data import ActorPoolStrategy, DataContext, from_items

    cluster: Any = ray  # its own annotations leave this function out
    resources: dict[str, float] = cluster.cluster_resources()
    gpus, cpus = int(resources.get("GPU", 0)), max(1, int(resources.get("CPU", 1)))
    on_gpu = gpus > 0 and pool.choice.device != "cpu"
    actors = max(1, min(pool.workers or cpus, len(rows), gpus if on_gpu else cpus))
    # A GPU needs several decoders that feed it; on the CPU one file keeps one core busy.
    side_by_side = max(1, cpus // gpus) if on_gpu else 1
    batch = max(batch, side_by_side)
    DataContext.get_current().execution_options.preserve_order = ordered
    data = from_items(list(rows), override_num_blocks=max(1, len(rows) // batch))
    found = data.map_batches(
        actor,
        fn_constructor_args=(*arguments, side_by_side),
        batch_size=batch,
        compute=ActorPoolStrategy(min_size=1, max_size=actors),
        num_cpus=side_by_side,
        num_gpus=1 if on_gpu else None,
    )
    yield from found.iter_rows()


def load_on_worker(pool: RayPool) -> Encoder:
    """The model, on a machine of the cluster."""
    from mafsar.runtime.engines.loading import open_model

    return open_model(pool.model, replace(pool.choice, threads=1))


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
        arguments = (pool, bank, dict(options))
        for row in actor_rows(pool, _MatchActor, arguments, rows, batch=_QUERIES, ordered=True):
            yield pickle.loads(row["answer"])


class _MatchActor:
    """Names clips on a machine of the cluster.

    Args:
        pool: The model.
        bank: The bank.
        options: For `Matcher`.
        side_by_side: Threads that decode.
    """

    def __init__(
        self, pool: RayPool, bank: Bank, options: dict[str, Any], side_by_side: int
    ) -> None:
        encoder = load_on_worker(pool)
        self._matcher = Matcher(bank, encoder, workers=side_by_side, evidence=False, **options)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        """Answers the queries of a batch: `name` and `path`, lists."""
        pairs = zip(batch["name"], batch["path"], strict=True)
        queries = [Query(str(name), Path(str(path))) for name, path in pairs]
        # Within one run and one cluster, as Ray itself sends objects; nothing of it is kept.
        return {"answer": [pickle.dumps(each) for each in self._matcher.stream(queries)]}


class _IndexActor:
    """Encodes files on a machine of the cluster; Ray Data makes and calls it.

    Args:
        pool: The model.
        place: The index.
        settings: Of the index, JSON.
        known: What is in the index.
        side_by_side: Files at once.
    """

    def __init__(
        self,
        pool: RayPool,
        place: str,
        settings: str,
        known: tuple[FileRecord, ...],
        side_by_side: int,
    ) -> None:
        encoder = load_on_worker(pool)
        wanted = IndexSettings.from_json(json.loads(settings))
        has = (encoder.spec.weights_sha256, encoder.precision)
        if has != (wanted.weights_sha256, wanted.precision):
            raise MismatchError(
                f"{pool.model} on this machine has weights {has[0][:12]} in {has[1]}, the index"
                f" {wanted.weights_sha256[:12]} in {wanted.precision}; copy the model there"
            )
        self._work = FileEncoder(Store(place), wanted, encoder, known)
        self._run = run_in_threads(side_by_side)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """Encodes the files of a batch.

        Args:
            batch: `path`, a list.
        """
        done = list(self._run(self._work, [str(path) for path in batch["path"]]))
        return {
            "path": [path for path, _ in done],
            "record": [json.dumps(asdict(record)) for _, record in done],
        }
