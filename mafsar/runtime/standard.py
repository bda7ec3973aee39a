"""A part of a data set that training reads → labelled clips that evaluation reads."""

from __future__ import annotations

from pathlib import Path

from mafsar.data.catalogue import Catalogue
from mafsar.data.splits import Part
from mafsar.data.store import Store, is_store
from mafsar.data.support import SupportClass, SupportClip, SupportSet
from mafsar.errors import InputError


def part_clips(catalogue: Catalogue, part: Part) -> tuple[SupportSet, bool]:
    """The clips of one part.

    Args:
        catalogue: The data set; of a packed one, the clips' frames are taken from the store.
        part: Train, val or test.

    Returns:
        The clips, and whether every class has a name: where one has only a number, no text tower
        can read it.

    Raises:
        InputError: The part has no class, or a class no clip.
    """
    is_packed = is_store(catalogue.root)
    data = catalogue.select(part)
    empty = set(data.labels) - {clip.label for clip in data.clips}
    if empty:
        raise InputError(
            f"{catalogue.title}: no clip of {', '.join(sorted(empty)[:5])} is in "
            f"{catalogue.root}; mafsar data check lists what is missing"
        )
    classes = tuple(
        SupportClass(label, text or label)
        for label, text in zip(data.labels, data.texts, strict=True)
    )
    clips = tuple(
        SupportClip(Path(clip.name) if is_packed else clip.path, clip.label, clip.start, clip.end)
        for clip in data.clips
        if clip.path is not None
    )
    store = Store(catalogue.root) if is_packed else None
    return SupportSet(catalogue.root, classes, clips, store=store), None not in data.texts
