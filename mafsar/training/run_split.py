"""The split of a run that leaves it to its seed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from mafsar.data.auto_split import AUTO, SPLIT_FILE, draw_split
from mafsar.data.folders import read_own
from mafsar.data.splits import Split, read_split
from mafsar.data.store import is_store
from mafsar.training.config import TrainConfig


def run_split(config: TrainConfig, run: Path | None = None) -> Split | None:
    """The split that a configuration leaves to its seed; None if it names one or needs none.

    Args:
        config: With `data.split` "auto", or not.
        run: The run's folder; the split that it keeps stays the run's own. None: it is drawn.
    """
    data = config.data
    if data.split != AUTO or data.folder is None or is_store(Path(data.folder)):
        return None
    path = SPLIT_FILE if run is None else run / SPLIT_FILE
    if run is not None and (run / SPLIT_FILE).is_file():
        return read_split(run / SPLIT_FILE)
    found = read_own(Path(data.folder), frames_pattern=data.frames_pattern)
    return draw_split(Counter(clip.label for clip in found.clips), config.seed, Path(path))
