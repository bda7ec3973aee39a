"""A pool of actors of Ray Data, each with its own encoder, that rows of work go through.

Ray Data starts the actors again that were lost, repeats their rows, and holds rows back while all
actors are busy.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from mafsar.choices import EngineChoice
from mafsar.errors import MismatchError, UnavailableError
from mafsar.extras import require
from mafsar.runtime.encoder import Encoder

LOCAL = "local"
"""An address: start Ray on this machine, for this run."""
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


@dataclass(frozen=True)
class ModelOfPool:
    """The model that every machine of the cluster must have.

    Attributes:
        pool: Says where to find it, and the engine.
        weights_sha256: Hash of its weights.
        precision: What it runs in.
    """

    pool: RayPool
    weights_sha256: str
    precision: str

    @classmethod
    def of(cls, pool: RayPool, encoder: Encoder) -> ModelOfPool:
        """The model of an encoder."""
        return cls(pool, encoder.spec.weights_sha256, encoder.precision)

    def load(self) -> Encoder:
        """The model on a machine of the cluster; one thread for each actor on a CPU.

        Raises:
            MismatchError: The machine has another one under this name.
        """
        from mafsar.runtime.engines.loading import open_model

        encoder = open_model(self.pool.model, replace(self.pool.choice, threads=1))
        has = (encoder.spec.weights_sha256, encoder.precision)
        if has != (self.weights_sha256, self.precision):
            raise MismatchError(
                f"{self.pool.model} on this machine has weights {has[0][:12]} in {has[1]}, not"
                f" {self.weights_sha256[:12]} in {self.precision}; copy the model there"
            )
        return encoder
