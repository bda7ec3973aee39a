"""Clips of a packed data set for evaluation: their frames come from the store, nothing is decoded anew."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence

from mafsar.data.catalogue import DataClip
from mafsar.data.frames import StoredFrames
from mafsar.data.parallel import in_order
from mafsar.data.store import Store
from mafsar.data.support import SupportClip
from mafsar.video import Clip
from mafsar.video.sampling import segment_times


def packed_hashes(store: Store, clips: Sequence[SupportClip], workers: int) -> list[str]:
    """Hashes of all frames that are kept of each clip: a copy under another name has the same."""

    def digest(clip: SupportClip) -> str:
        found = hashlib.sha256(b"packed frames\n")
        for jpeg in store.read(_stored(clip), range(store.settings.frames)):
            found.update(len(jpeg).to_bytes(8, "little") + jpeg)
        return found.hexdigest()

    return list(in_order(digest, clips, workers=max(1, workers)))


def packed_clips(
    store: Store, clips: Sequence[SupportClip], *, frames: int, size: int, workers: int
) -> Iterator[Clip]:
    """The clips as a model takes them, in order.

    Args:
        store: Holds them.
        clips: Labelled clips whose path is their name in the store.
        frames: T.
        size: S, pixels.
        workers: Threads that decode the JPEGs.

    Raises:
        MissingError: A clip is not in the store.
    """
    source = StoredFrames(store)

    def load(clip: SupportClip) -> Clip:
        began = time.perf_counter()
        pixels = source.testing(_stored(clip), frames=frames, size=size)
        duration, fps = store.duration(_stored(clip))
        return Clip(
            pixels=pixels,
            times_seconds=segment_times(duration, frames),
            duration_seconds=duration,
            fps=fps,
            decode_seconds=time.perf_counter() - began,
            preprocess_seconds=0.0,
        )

    yield from in_order(load, clips, workers=max(1, workers))


def _stored(clip: SupportClip) -> DataClip:
    return DataClip(clip.path.as_posix(), None, clip.label or "", "test")
