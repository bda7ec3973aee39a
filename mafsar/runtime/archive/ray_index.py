"""Indexing on a cluster: files go through a pool of actors.

What is written does not depend on who made it (`build`), so a file that was encoded twice, as after
the loss of an actor, is the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from mafsar.runtime.archive.build import RunFiles, run_in_threads
from mafsar.runtime.archive.encode import FileEncoder
from mafsar.runtime.archive.parts import FileRecord
from mafsar.runtime.archive.ray_pool import ModelOfPool, RayPool, actor_rows, connected
from mafsar.runtime.archive.settings import IndexSettings
from mafsar.runtime.archive.store import Store


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
            model = ModelOfPool.of(pool, work.encoder)
            arguments = (model, work.store.place, settings, tuple(work.known))
            for row in actor_rows(pool, _IndexActor, arguments, [{"path": each} for each in left]):
                values = json.loads(row["record"])
                yield (
                    row["path"],
                    FileRecord(**(values | {"repairs": tuple(values["repairs"])})),
                )

    return run


class _IndexActor:
    """Encodes files on a machine of the cluster; Ray Data makes and calls it.

    Args:
        model: The model.
        place: The index.
        settings: Of the index, JSON.
        known: What is in the index.
        side_by_side: Files at once.
    """

    def __init__(
        self,
        model: ModelOfPool,
        place: str,
        settings: str,
        known: tuple[FileRecord, ...],
        side_by_side: int,
    ) -> None:
        wanted = IndexSettings.from_json(json.loads(settings))
        encoder = model.load()
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
