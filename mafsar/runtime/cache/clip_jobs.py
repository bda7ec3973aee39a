"""Clips that have to be encoded: decoded ahead in threads, encoded batch by batch.

A job depends on its clip and on nothing else, so it may run in any process that has the model and
the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from mafsar.data.frames import packed_clips
from mafsar.data.labelled import LabelledClip
from mafsar.data.store import Store
from mafsar.errors import MafsarError
from mafsar.runtime.cache.features import Tensors
from mafsar.runtime.encoder import Encoder, Float32, Frames
from mafsar.video import Clip, ClipRequest, Geometry, load_clips
from mafsar.video.motion import motion_levels

ClipBranch = Literal["query", "support", "images"]
"""What is made of a clip: features of either graph, or small pictures."""
ClipTensors = dict[ClipBranch, Tensors]
_THUMBNAIL = 64  # pixels


@dataclass(frozen=True, eq=False)
class ClipJob:
    """A clip to encode.

    Attributes:
        clip: The clip.
        branches: What to make of it.
        embedding: Of its class text, (E,); needed for "support".
    """

    clip: LabelledClip
    branches: frozenset[ClipBranch]
    embedding: Float32 | None = None


@dataclass(frozen=True)
class ClipReading:
    """How clips are read.

    Attributes:
        geometry: Which part of the picture the model sees.
        ignore_clock: Frames per second that replace the timestamps of video files, or None.
        store: The packed data set that holds the clips; None = they are files.
    """

    geometry: Geometry
    ignore_clock: float | None = None
    store: Path | None = None

    def load(
        self, encoder: Encoder, clips: Sequence[LabelledClip], workers: int
    ) -> Iterator[Clip | MafsarError]:
        """The clips as the model takes them, in order, loaded ahead by threads."""
        frames, size = encoder.spec.frames, encoder.spec.image_size
        if self.store is not None:
            opened = Store(self.store)
            return packed_clips(opened, clips, frames=frames, size=size, workers=workers)
        requests = [
            ClipRequest(
                clip.source,
                frames=frames,
                size=size,
                geometry=self.geometry,
                start=clip.start,
                end=clip.end,
                ignore_clock=self.ignore_clock,
            )
            for clip in clips
        ]
        return load_clips(requests, workers=workers)


RunJobs = Callable[[Sequence[ClipJob], ClipReading], Iterator[ClipTensors | MafsarError]]
"""Runs jobs, and gives in their order what was made of each, or why it cannot be read."""


def encode_jobs(
    encoder: Encoder,
    jobs: Sequence[ClipJob],
    reading: ClipReading,
    *,
    batch: int | None = None,
    workers: int = 2,
) -> Iterator[ClipTensors | MafsarError]:
    """Runs jobs in this process.

    Args:
        encoder: The model.
        jobs: The clips.
        reading: How they are read.
        batch: Clips per call of the encoder; None = 1 on a CPU, where a batch gains little, else 8.
        workers: Threads that decode ahead of the encoder.

    Yields:
        What was made of each clip, in order, or the error of one that cannot be decoded.
    """
    if batch is None:
        batch = 1 if encoder.device == "cpu" else 8
    clips = reading.load(encoder, [job.clip for job in jobs], workers)
    held: list[tuple[ClipJob, Clip | MafsarError]] = []
    ready = 0
    for job, clip in zip(jobs, clips, strict=True):
        held.append((job, clip))
        ready += isinstance(clip, Clip)
        if ready == batch:
            yield from _encode(encoder, held)
            held, ready = [], 0
    yield from _encode(encoder, held)


def _encode(
    encoder: Encoder, held: Sequence[tuple[ClipJob, Clip | MafsarError]]
) -> Iterator[ClipTensors | MafsarError]:
    """Encodes one batch."""
    made: list[ClipTensors] = [{} for _ in held]
    read = [(job, clip, made[i]) for i, (job, clip) in enumerate(held) if isinstance(clip, Clip)]
    asked = [each for each in read if "query" in each[0].branches]
    if asked:
        features = encoder.encode_query(np.stack([clip.pixels for _, clip, _ in asked]))
        for i, (_, clip, out) in enumerate(asked):
            tensors = {"frames": features.frames[i], "pooled": features.pooled[i]}
            out["query"] = tensors | _facts(clip)
    worded = [
        (clip, out, job.embedding)
        for job, clip, out in read
        if "support" in job.branches and job.embedding is not None
    ]
    if worded:
        pixels = np.stack([clip.pixels for clip, _, _ in worded])
        features = encoder.encode_support(pixels, np.stack([text for _, _, text in worded]))
        for i, (clip, out, _) in enumerate(worded):
            out["support"] = {"frames": features.frames[i]} | _facts(clip)
    for job, clip, out in read:
        if "images" in job.branches:
            out["images"] = {"images": _thumbnails(clip)}
    for (_, loaded), out in zip(held, made, strict=True):
        yield out if isinstance(loaded, Clip) else loaded


def _facts(clip: Clip) -> Tensors:
    """What is said of a clip, kept beside its features; repairs as UTF-8, one a line."""
    facts: Tensors = {
        "duration_seconds": np.array([clip.duration_seconds], np.float64),
        "motion": np.array([motion_levels(clip.pixels)], np.float32),
    }
    if clip.repairs:
        facts["repairs"] = np.frombuffer("\n".join(clip.repairs).encode(), np.uint8).copy()
    return facts


def _thumbnails(clip: Clip) -> Frames:
    from PIL import Image

    size = (_THUMBNAIL, _THUMBNAIL)
    return np.stack(
        [
            np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BOX), np.uint8)
            for frame in clip.pixels
        ]
    )
