"""Which support clips have the content of a query, and are left out for it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mafsar.runtime.bank.bank import Bank
from mafsar.runtime.bank.clips import clip_identity, clip_size
from mafsar.runtime.match.queries import Query
from mafsar.video import MemoryClip, content_sha256


def class_index_without(bank: Bank, query: Query) -> tuple[NDArray[np.intp], list[str]]:
    """Leaves out the support clips that have the same content as the query.

    Args:
        bank: The support, n clips.
        query: A file, a folder of frames or frames in memory.

    Returns:
        Class index of each clip, −1 for those left out, (n,), and a warning for each of them and
        for each class that has no other clip.

    Raises:
        MafsarError: The query cannot be read.
    """
    class_index = bank.class_index
    # A long video is hashed only if a support clip has the same size.
    size = clip_size(query.path)
    if size not in bank.sizes:
        return class_index, []
    source = query.source
    content = source.content_sha256 if isinstance(source, MemoryClip) else content_sha256(source)
    identity = clip_identity(content, None, None)
    class_index = class_index.copy()
    warnings = []
    for i, clip in enumerate(bank.clips):
        if class_index[i] >= 0 and clip.identity == identity:
            number = class_index[i]
            class_index[i] = -1
            warnings.append(f"support clip {clip.name} has the same content and was left out")
            if not (class_index == number).any():
                label = bank.labels[number]
                warnings.append(f"class {label} has no other clip and was left out")
    return class_index, warnings
