"""Features of clips and class texts, from the cache or encoded once."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mafsar.choices import OnError, Progress, check_count
from mafsar.data.frames import packed_hashes
from mafsar.data.labelled import LabelledClip
from mafsar.errors import InputError, MafsarError, VideoError, option
from mafsar.runtime.cache.clip_jobs import (
    ClipBranch,
    ClipJob,
    ClipReading,
    RunJobs,
    encode_jobs,
)
from mafsar.runtime.cache.clip_rows import ClipRows, EncodedClips
from mafsar.runtime.cache.features import FeatureCache, Tensors, clip_key, text_key
from mafsar.runtime.encoder import Encoder, Float32, files_sha256
from mafsar.video import Geometry, MemoryClip, content_sha256
from mafsar.video.guard import clip_errors

if TYPE_CHECKING:
    from mafsar.data.store import Store


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
    run: RunJobs | None = None,
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
        run: Encodes what is not in the cache in another way, as on a cluster; None = in this
            process.

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
    work = _Work(encoder, geometry or Geometry(), cache, images, ignore_clock)
    keys = [
        work.keys(clip, content, None if texts is None else texts[i])
        for i, (clip, content) in enumerate(zip(clips, hashes, strict=True))
    ]
    spec = encoder.spec
    rows = ClipRows(keys, spec.frames, spec.embed_dim, with_support=texts is not None)
    waiting: dict[tuple[str, ...], int] = {}
    for i, needed in enumerate(keys):
        for key in needed.values():
            if key not in rows.known and (entry := work.get(key)) is not None:
                rows.put(key, entry)
        if any(key not in rows.known for key in needed.values()):
            waiting.setdefault(tuple(needed.values()), i)
    todo = list(waiting.values())
    wanted = [(clips[i], keys[i], None if texts is None else texts[i]) for i in todo]
    jobs = _jobs(work, wanted, rows.known)
    reading = ClipReading(work.geometry, ignore_clock, None if store is None else store.path)
    if run is None:
        made = encode_jobs(encoder, jobs, reading, batch=batch, workers=workers)
    else:
        made = run(jobs, reading)
    bad: dict[str, MafsarError] = {}
    unread = 0
    for done, (i, result) in enumerate(zip(todo, made, strict=True), start=1):
        if isinstance(result, MafsarError):
            unread += 1
            bad |= {key: result for key in keys[i].values() if key not in rows.known}
        else:
            for branch, tensors in result.items():
                work.put(keys[i][branch], tensors)
                rows.put(keys[i][branch], tensors)
        if progress is not None:
            progress(done, len(todo), "encoding clips")
    failed: dict[int, MafsarError] = {}
    for i, needed in enumerate(keys):
        error = next((bad[key] for key in needed.values() if key not in rows.known), None)
        if error is not None and waiting[tuple(needed.values())] != i:
            error = VideoError(f"{clips[i].name}: has the same content as ", error)
        if error is not None:
            failed[i] = error
    if on_error == "raise":
        refuse_unreadable(list(failed.values()))
    return rows.finish(hashes, len(todo) - unread, failed)


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
    ignore_clock: float | None

    def keys(self, clip: LabelledClip, content: str, text: str | None) -> dict[ClipBranch, str]:
        """Cache keys of a clip by branch: query and, if wanted, support and images."""
        branches: list[ClipBranch] = ["query"]
        if text is not None:
            branches.append("support")
        if self.images:
            branches.append("images")
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

    def get(self, key: str) -> Tensors | None:
        return None if self.cache is None else self.cache.get(key)

    def put(self, key: str, tensors: Tensors) -> None:
        if self.cache is not None:
            self.cache.put(key, tensors)


def _jobs(
    work: _Work,
    wanted: Sequence[tuple[LabelledClip, dict[ClipBranch, str], str | None]],
    known: Collection[str],
) -> list[ClipJob]:
    """What has to be made of clips, each entry of the cache once."""
    texts = sorted({text for _, _, text in wanted if text is not None})
    embeddings = encode_texts(work.encoder, texts, work.cache) if texts else None
    rows = {text: i for i, text in enumerate(texts)}
    planned = set(known)
    jobs = []
    for clip, keys, text in wanted:
        branches = frozenset(branch for branch, key in keys.items() if key not in planned)
        planned.update(keys.values())
        embedding = None if text is None or embeddings is None else embeddings[rows[text]]
        jobs.append(ClipJob(clip, branches, embedding))
    return jobs
