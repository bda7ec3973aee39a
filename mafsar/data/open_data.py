"""What ``--dataset``, ``--root``, ``--lists``, ``--data`` and ``--split`` name → catalogue."""

from __future__ import annotations

from pathlib import Path

from mafsar.data.catalogue import Catalogue
from mafsar.data.folders import read_own
from mafsar.data.presets import preset, presets
from mafsar.data.standard import read_standard
from mafsar.data.store import Store, is_store
from mafsar.errors import InputError


def open_data(
    *,
    dataset: str | None = None,
    root: Path | None = None,
    lists: Path | None = None,
    data: Path | None = None,
    split: Path | None = None,
) -> Catalogue:
    """Finds a data set's clips.

    Args:
        dataset: A standard data set's name; needs ``root``, and some need ``lists``.
        root: Folder of its videos.
        lists: Folder of its train, val and test lists.
        data: The user's own class folders, CSV, or a packed data set.
        split: JSON with the train, val and test classes of ``data``.

    Raises:
        InputError: They do not go together, or what they name cannot be read.
        MissingError: What they name is not there.
    """
    if (dataset is None) == (data is None):
        raise InputError(
            "name the clips: either --dataset NAME --root DIR (NAME: "
            f"{', '.join(presets())}), or --data DIR"
        )
    if data is not None:
        for flag, value in (("--root", root), ("--lists", lists)):
            if value is not None:
                raise InputError(f"{flag} {value}: belongs to --dataset, not to --data")
        if is_store(data):
            if split is not None:
                raise InputError(f"--split {split}: {data} is packed and holds its own split")
            return Store(data).catalogue()
        return read_own(data, split)
    assert dataset is not None
    name = preset(dataset).name
    if split is not None:
        raise InputError(f"--split {split}: belongs to --data; {name} has its own split")
    if root is None:
        raise InputError(f"--dataset {name}: add --root DIR, the folder of its videos")
    return read_standard(name, root, lists)
