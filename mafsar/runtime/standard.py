"""A part of a data set that training reads → labelled clips that evaluation reads."""

from __future__ import annotations

from mafsar.data.catalogue import Catalogue
from mafsar.data.splits import Part
from mafsar.data.store import is_store
from mafsar.errors import InputError, UnavailableError
from mafsar.runtime.support import SupportClass, SupportClip, SupportSet


def part_clips(catalogue: Catalogue, part: Part) -> tuple[SupportSet, bool]:
    """The clips of one part.

    Args:
        catalogue: The data set, not packed.
        part: Train, val or test.

    Returns:
        The clips, and whether every class has a name: where one has only a number, no text tower
        can read it.

    Raises:
        InputError: The part has no class, or a class no clip.
        UnavailableError: The data set is packed: it holds frames, and features belong to videos.
    """
    if catalogue.root.is_file() and is_store(catalogue.root):
        raise UnavailableError(
            f"{catalogue.root}: is packed for training, and evaluation decodes the videos "
            "themselves; name them: --data DIR or --dataset NAME --root DIR"
        )
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
        SupportClip(clip.path, clip.label, clip.start, clip.end)
        for clip in data.clips
        if clip.path is not None
    )
    return SupportSet(catalogue.root, classes, clips), None not in data.texts
