"""Features of clips and class texts, from the cache or encoded once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mafsar.choices import OnError, Progress, check_count
from mafsar.data.frames import packed_clips, packed_hashes
from mafsar.data.labelled import LabelledClip
from mafsar.errors import InputError, MafsarError, VideoError, option
from mafsar.runtime.cache.features import FeatureCache, Tensors, clip_key, text_key
from mafsar.runtime.encoder import Encoder, Float32, Frames, files_sha256
from mafsar.video import Clip, ClipRequest, Geometry, MemoryClip, content_sha256, load_clips
from mafsar.video.guard import clip_errors
from mafsar.video.motion import motion_levels

if TYPE_CHECKING:
    from mafsar.data.store import Store

_THUMBNAIL = 64  # pixels


@dataclass(frozen=True, repr=False)
class EncodedClips:
    """Features of n clips, in the order asked for.

    Attributes:
        query: Features of the query graph, (n, T, E).
        pooled: Means over time of its raw features, (n, E).
        support: Features of the support graph with each clip's class text, (n, T, E), or None.
        durations_seconds: Duration of each clip, (n,).
        content_sha256: Hash of each clip's content.
        images: Small pictures, (n, T, 64, 64, 3), uint8, or None.
        encoded: Number of clips that this call encoded.
        repairs: What was repaired in reading each clip, sentences.
        motion: How much moves in each clip, (n,), grey levels; −1 where an older entry of the cache
            does not say.
        failed: Errors of clips that were left out, by index in the clips asked for; the other
            fields have no row for them.
    """

    query: Float32
    pooled: Float32
    support: Float32 | None
    durations_seconds: NDArray[np.float64]
    content_sha256: tuple[str, ...]
    images: Frames | None
    encoded: int
    failed: Mapping[int, MafsarError] = field(default_factory=dict)
    repairs: tuple[tuple[str, ...], ...] = ()
    motion: Float32 = field(default_factory=lambda: np.zeros(0, np.float32))


def encode_texts(
    encoder: Encoder, texts: Sequence[str], cache: FeatureCache | None = None
) -> Float32:
    """Raw embeddings of class texts, (n, E), each encoded on its own.

    Texts are encoded one by one, because the last bits of a row may depend on the batch, and adding a
    class to a bank must give the same bits as enrolling all classes at once.
    """
    rows: list[Float32] = []
    for text in texts:
        key = text_key(
            encoder.spec,
            precision=encoder.precision,
            files_sha256=files_sha256(encoder),
            text=text,
        )
        entry = None if cache is None else cache.get(key)
        if entry is not None and "embedding" in entry:
            rows.append(entry["embedding"])
            continue
        rows.append(encoder.encode_text([text])[0])
        if cache is not None:
            cache.put(key, {"embedding": rows[-1]})
    return np.array(rows, np.float32).reshape(len(rows), encoder.spec.embed_dim)


def hash_clips(
    clips: Sequence[LabelledClip], workers: int = 2, store: Store | None = None
) -> list[str]:
    """Hashes of the clips' content, in threads; a video with many clips is read once.

    Raises:
        VideoError: Clips cannot be read; the message names all of them.
    """
    if store is not None:
        return packed_hashes(store, clips, workers)
    found = try_hash_clips(clips, workers)
    refuse_unreadable([each for each in found if isinstance(each, MafsarError)])
    return [each for each in found if isinstance(each, str)]


def try_hash_clips(clips: Sequence[LabelledClip], workers: int = 2) -> list[str | MafsarError]:
    """The hash of each clip's content, or the error of a clip that cannot be read."""
    sources = {_source_key(clip): clip.source for clip in clips}
    with ThreadPoolExecutor(max(1, workers)) as pool:
        hashes = dict(zip(sources, pool.map(_hash, sources.values()), strict=True))
    return [hashes[_source_key(clip)] for clip in clips]


def refuse_unreadable(errors: Sequence[MafsarError], *, can_skip: bool = False) -> None:
    """Raises one error that names all clips that cannot be read; returns if there are none.

    Args:
        errors: The errors of the clips.
        can_skip: Whether the caller's user can go on without them by ``on_error="skip"``.

    Raises:
        MafsarError: There is an error; if there is only one, it is raised itself.
    """
    distinct = list(dict.fromkeys(errors))  # several parts of one video share its error
    if len(distinct) == 1:
        raise distinct[0]
    if distinct:
        parts: list[object] = [f"{len(distinct)} clips cannot be read"]
        for error in distinct:
            parts += [" · ", error]
        parts.append("; fix or remove them")
        if can_skip:
            parts += [", or skip them with ", option(on_error="skip")]
        raise VideoError(*parts)


def encode_clips(
    encoder: Encoder,
    clips: Sequence[LabelledClip],
    texts: Sequence[str | None] | None = None,
    *,
    content: Sequence[str] | None = None,
    geometry: Geometry | None = None,
    cache: FeatureCache | None = None,
    images: bool = False,
    on_error: OnError = "raise",
    batch: int | None = None,
    workers: int = 2,
    progress: Progress | None = None,
    store: Store | None = None,
    ignore_clock: float | None = None,
) -> EncodedClips:
    """Encodes clips with the query graph and, if class texts are given, with the support graph.

    Args:
        encoder: The model.
        clips: n clips; the same content is encoded once.
        texts: Each clip's class text, None for a clip without a class; None = query graph only.
        content: Hash of each clip's content, if it is known already.
        geometry: Which part of the picture the model sees.
        cache: The feature cache, or None.
        images: Whether to make small pictures.
        on_error: "raise" names all clips that cannot be decoded in one error, after the others
            have been encoded; "skip" leaves them out.
        batch: Clips per call of the encoder; None = 1 on a CPU, where a batch gains little, else 8.
        workers: Threads that decode ahead of the encoder.
        progress: Called with (done, total, what).
        store: The packed data set that holds the clips; None = they are files.
        ignore_clock: Frames a second instead of the timestamps of video files.

    Raises:
        VideoError: Clips cannot be decoded, with "raise"; the message names all of them.
        InputError: ``batch`` or ``workers`` < 1, or a geometry is given for a packed data set.
    """
    if store is not None and geometry not in (None, Geometry()):
        raise InputError(
            f"{store.path}: the geometry of a packed data set is fixed; omit the geometry"
        )
    for name, value in (("batch", batch), ("workers", workers)):
        if value is not None:
            check_count(name, value)
    hashes = hash_clips(clips, workers, store) if content is None else content
    work = _Work(encoder, geometry or Geometry(), cache, images, store, ignore_clock)
    keys = [
        work.keys(clip, content, None if texts is None else texts[i])
        for i, (clip, content) in enumerate(zip(clips, hashes, strict=True))
    ]
    found: dict[str, Tensors] = {}
    waiting: dict[tuple[str, ...], int] = {}
    for i, needed in enumerate(keys):
        for key in needed.values():
            if key not in found and (entry := work.get(key)) is not None:
                found[key] = entry
        if any(key not in found for key in needed.values()):
            waiting.setdefault(tuple(needed.values()), i)
    todo = list(waiting.values())
    bad = _encode_missing(
        work,
        [(clips[i], keys[i], None if texts is None else texts[i]) for i in todo],
        found,
        batch=(1 if encoder.device == "cpu" else 8) if batch is None else batch,
        workers=workers,
        progress=progress,
    )
    failed: dict[int, MafsarError] = {}
    for i, needed in enumerate(keys):
        error = bad.get(tuple(needed.values()))
        if error is not None and waiting[tuple(needed.values())] != i:
            error = VideoError(f"{clips[i].name}: has the same content as ", error)
        if error is not None:
            failed[i] = error
    if on_error == "raise":
        refuse_unreadable(list(failed.values()))
    kept = [i for i in range(len(clips)) if i not in failed]
    return _gather(
        (encoder.spec.frames, encoder.spec.embed_dim),
        [keys[i] for i in kept],
        [hashes[i] for i in kept],
        found,
        with_support=texts is not None,
        encoded=len(todo) - len(bad),
        failed=failed,
    )


def repairs_of(clips: Sequence[LabelledClip], repairs: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """One sentence for each clip that was repaired in reading it, with its name."""
    named = zip(clips, repairs, strict=True)
    return tuple(f"{clip.name}: {'; '.join(said)}" for clip, said in named if said)


def _hash(source: Path | MemoryClip) -> str | MafsarError:
    try:
        if isinstance(source, MemoryClip):
            return source.content_sha256
        with clip_errors(source):
            return content_sha256(source)
    except MafsarError as error:
        return error


def _source_key(clip: LabelledClip) -> object:
    return clip.path if clip.array is None else id(clip.array)


@dataclass(frozen=True)
class _Work:
    encoder: Encoder
    geometry: Geometry
    cache: FeatureCache | None
    images: bool
    store: Store | None
    ignore_clock: float | None

    def keys(self, clip: LabelledClip, content: str, text: str | None) -> dict[str, str]:
        """Cache keys of a clip by branch: query and, if wanted, support and images."""
        branches = ["query"] + ["support"] * (text is not None) + ["images"] * self.images
        return {
            branch: clip_key(
                self.encoder.spec,
                branch=branch,
                precision="" if branch == "images" else self.encoder.precision,
                files_sha256=None if branch == "images" else files_sha256(self.encoder),
                geometry=self.geometry,
                content_sha256=content,
                start=clip.start,
                end=clip.end,
                text=text if branch == "support" else None,
                ignore_clock=self.ignore_clock,
            )
            for branch in branches
        }

    def load(self, clips: Sequence[LabelledClip], workers: int) -> Iterator[Clip | VideoError]:
        """The clips as the model takes them, loaded ahead."""
        frames, size = self.encoder.spec.frames, self.encoder.spec.image_size
        if self.store is not None:
            return packed_clips(self.store, clips, frames=frames, size=size, workers=workers)
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

    def get(self, key: str) -> Tensors | None:
        return None if self.cache is None else self.cache.get(key)

    def put(self, found: dict[str, Tensors], key: str, tensors: Tensors) -> None:
        found[key] = tensors
        if self.cache is not None:
            self.cache.put(key, tensors)


def _encode_missing(
    work: _Work,
    jobs: Sequence[tuple[LabelledClip, dict[str, str], str | None]],
    found: dict[str, Tensors],
    *,
    batch: int,
    workers: int,
    progress: Progress | None,
) -> dict[tuple[str, ...], MafsarError]:
    """Decodes clips ahead in threads and encodes them batch by batch.

    Returns:
        Errors of clips that cannot be decoded, by the clips' cache keys.
    """
    failed: dict[tuple[str, ...], MafsarError] = {}
    if not jobs:
        return failed
    wanted = sorted({text for _, _, text in jobs if text is not None})
    embeddings = encode_texts(work.encoder, wanted, work.cache) if wanted else None
    rows = {text: i for i, text in enumerate(wanted)}
    pending: list[tuple[Clip, dict[str, str], str | None]] = []
    for done, ((_, keys, text), clip) in enumerate(
        zip(jobs, work.load([clip for clip, _, _ in jobs], workers), strict=True)
    ):
        if isinstance(clip, VideoError):
            failed[tuple(keys.values())] = clip
        else:
            pending.append((clip, keys, text))
        if pending and (len(pending) == batch or done + 1 == len(jobs)):
            _encode_batch(work, pending, found, embeddings, rows)
            pending = []
        if progress is not None:
            progress(done + 1, len(jobs), "encoding clips")
    return failed


def _encode_batch(
    work: _Work,
    batch: Sequence[tuple[Clip, dict[str, str], str | None]],
    found: dict[str, Tensors],
    embeddings: Float32 | None,
    rows: dict[str, int],
) -> None:
    asked = [item for item in batch if item[1]["query"] not in found]
    if asked:
        features = work.encoder.encode_query(np.stack([clip.pixels for clip, _, _ in asked]))
        for i, (clip, keys, _) in enumerate(asked):
            tensors = {"frames": features.frames[i], "pooled": features.pooled[i]}
            work.put(found, keys["query"], tensors | _facts(clip))
    worded = [item for item in batch if item[2] is not None and item[1]["support"] not in found]
    if worded and embeddings is not None:
        text = embeddings[[rows[text] for _, _, text in worded if text is not None]]
        pixels = np.stack([clip.pixels for clip, _, _ in worded])
        features = work.encoder.encode_support(pixels, text)
        for i, (clip, keys, _) in enumerate(worded):
            work.put(found, keys["support"], {"frames": features.frames[i]} | _facts(clip))
    for clip, keys, _ in batch:
        if work.images and keys["images"] not in found:
            work.put(found, keys["images"], {"images": _thumbnails(clip)})


def _facts(clip: Clip) -> Tensors:
    """What is said of a clip, kept beside its features; repairs as UTF-8, one a line."""
    facts: Tensors = {
        "duration_seconds": np.array([clip.duration_seconds], np.float64),
        "motion": np.array([motion_levels(clip.pixels)], np.float32),
    }
    if clip.repairs:
        facts["repairs"] = np.frombuffer("\n".join(clip.repairs).encode(), np.uint8).copy()
    return facts


def _repairs(entry: Tensors) -> tuple[str, ...]:
    said = entry.get("repairs")
    return () if said is None else tuple(said.tobytes().decode().split("\n"))


def _thumbnails(clip: Clip) -> Frames:
    from PIL import Image

    size = (_THUMBNAIL, _THUMBNAIL)
    return np.stack(
        [
            np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BOX), np.uint8)
            for frame in clip.pixels
        ]
    )


def _gather(
    shape: tuple[int, int],
    keys: Sequence[dict[str, str]],
    hashes: Sequence[str],
    found: dict[str, Tensors],
    *,
    with_support: bool,
    encoded: int,
    failed: Mapping[int, MafsarError],
) -> EncodedClips:
    query = [found[key["query"]] for key in keys]
    frames, width = shape
    support = None
    if with_support:
        # A clip without a class has no text; the query graph's features take its place.
        support = _stacked(
            [found[key.get("support", key["query"])]["frames"] for key in keys], frames, width
        )
    images = [found[key["images"]]["images"] for key in keys if "images" in key]
    return EncodedClips(
        _stacked([entry["frames"] for entry in query], frames, width),
        _stacked([entry["pooled"] for entry in query], width),
        support,
        np.array([entry["duration_seconds"][0] for entry in query], np.float64),
        tuple(hashes),
        np.stack(images) if images else None,
        encoded,
        failed,
        tuple(_repairs(entry) for entry in query),
        np.array(
            [entry["motion"][0] if "motion" in entry else -1.0 for entry in query], np.float32
        ),
    )


def _stacked(rows: Sequence[Float32], *shape: int) -> Float32:
    """The rows as one array, (n, *shape); n may be 0."""
    return np.stack(rows) if rows else np.zeros((0, *shape), np.float32)
