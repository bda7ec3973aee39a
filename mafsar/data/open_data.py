"""Opens the data set that a user chose: a standard one, their own, or a packed one."""

from __future__ import annotations

from pathlib import Path

from mafsar.data.catalogue import Catalogue
from mafsar.data.folders import read_own
from mafsar.data.presets import preset, presets
from mafsar.data.standard import read_standard
from mafsar.data.store import Store, is_store
from mafsar.errors import InputError, Placeholder, option

_DIR = Placeholder("dir")


def open_data(
    *,
    dataset: str | None = None,
    root: Path | None = None,
    lists: Path | None = None,
    data: Path | None = None,
    split: Path | None = None,
) -> Catalogue:
    """Finds the clips of a data set.

    Give either `dataset` and `root`, or `data`.

    Args:
        dataset: A standard data set's name; needs ``root``, and some need ``lists``.
        root: Folder of its videos.
        lists: Folder of its train, val and test lists.
        data: The user's own class folders, CSV, or a packed data set.
        split: JSON with the train, val and test classes of ``data``.

    Raises:
        InputError: The arguments do not go together, or a file cannot be read.
        MissingError: A file or folder does not exist.
    """
    if (dataset is None) == (data is None):
        raise InputError(
            "name the clips: either ",
            option(dataset=Placeholder("name"), root=_DIR),
            f" ({', '.join(presets())}), or ",
            option(data=_DIR),
        )
    if data is not None:
        for name, value in (("root", root), ("lists", lists)):
            if value is not None:
                raise InputError(
                    option(**{name: value}),
                    ": belongs to ",
                    option("dataset"),
                    ", not to ",
                    option("data"),
                )
        if is_store(data):
            if split is not None:
                raise InputError(option(split=split), f": {data} is packed and holds its own split")
            return Store(data).catalogue()
        return read_own(data, split)
    assert dataset is not None
    name = preset(dataset).name
    if split is not None:
        raise InputError(
            option(split=split), ": belongs to ", option("data"), f"; {name} has its own split"
        )
    if root is None:
        raise InputError(
            option(dataset=name), ": add ", option(root=_DIR), ", the folder of its videos"
        )
    return read_standard(name, root, lists)
