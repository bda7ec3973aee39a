"""Enrolling: from support clips to a bank; each clip is encoded once per branch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from mafsar.choices import (
    TEXT_USES,
    OnError,
    Progress,
    TextUse,
    ViewsUse,
    check_choice,
    check_count,
    check_far,
    check_views,
)
from mafsar.data.labelled import LabelledClip
from mafsar.data.labels import NONE_FOLDER, label_words, nfc
from mafsar.data.support import SupportClass, SupportSet, read_support
from mafsar.errors import InputError, MafsarError, Message, option
from mafsar.model.names import SHIPPED
from mafsar.runtime.bank.background import with_background
from mafsar.runtime.bank.bank import (
    Bank,
    check_geometry,
    is_bank,
    read_bank,
)
from mafsar.runtime.bank.clips import EnrolledClip, clip_identity, clip_size
from mafsar.runtime.bank.edit import merge_banks, settle
from mafsar.runtime.bank.maker import make_maker
from mafsar.runtime.bank.none import NoneBasis, merged
from mafsar.runtime.bank.text_choice import TextChoice, check_text_use, known_classes
from mafsar.runtime.cache.clip_rows import EncodedClips
from mafsar.runtime.cache.encoding import (
    encode_clips,
    encode_texts,
    refuse_unreadable,
    repairs_of,
    try_hash_clips,
)
from mafsar.runtime.cache.features import FeatureCache, open_cache
from mafsar.runtime.encoder import BankModel, Encoder, ModelSpec
from mafsar.runtime.engines.loading import load_model
from mafsar.video import Geometry


def enroll(
    support: SupportSet | str | Path | Mapping[str, Iterable[Any]],
    model: Encoder | str | Path | None = None,
    *,
    text: TextUse | None = None,
    views: ViewsUse | None = None,
    geometry: Geometry | None = None,
    add_to: Bank | None = None,
    none: Any = None,
    far: float | None = None,
    fps: float | None = None,
    times: Sequence[float] | None = None,
    frames_pattern: str | None = None,
    on_error: OnError = "raise",
    cache: FeatureCache | bool = True,
    images: bool = True,
    batch: int | None = None,
    workers: int = 2,
    progress: Progress | None = None,
    ignore_clock: float | None = None,
) -> Bank:
    """Encodes the clips of a support into a bank.

    Args:
        support: A folder of class folders, a CSV, or clips by label: `{"wave": [clip, …]}`, where a
            clip is a path, a uint8 RGB array (T, H, W, 3), a list of frames (H, W, 3) or a list of
            PIL images. The label `_none` holds background clips.
        model: An encoder, or the name or path of a model; None = that of `add_to`, else `tiny`.
        text: Whether class names are used: "on", "off" or "auto" (decide by leave-one-out); None =
            that of `add_to`, else "auto". With "off", no names are encoded.
        views: What features are matched by: "raw", the weight of the change view (0–1) or "auto"
            (the model's choice); None = that of `add_to`, else "auto". Kept in the bank.
        geometry: Which part of the picture the model sees; None = that of `add_to`, else all of it.
        add_to: A bank to add the clips to. Clips that it holds are not encoded again.
        none: Background clips, in which none of the actions happens: a video, a frame folder, a
            folder of clips or frames in memory, or a list of these. Long videos are cut into windows
            of the usual length of a support clip.
        far: The share of clips of unknown actions, 0–1, that `threshold="auto"` may take for one of
            the classes; None = that of `add_to`, else 0.05. Kept in the bank.
        fps: Frame rate of frames in memory, frames per second.
        times: Instead of `fps`: when each frame is first shown, seconds.
        frames_pattern: Which pictures are frames in folders that hold several kinds, for example
            `img_{:05d}.jpg`.
        on_error: "raise" lists all clips that cannot be read in one error; "skip" leaves them out
            and names them in the bank's `notes`.
        cache: A feature cache; True = the user's, False = no cache.
        images: Whether to keep small pictures of the clips, for plots when the clips are gone.
        batch: Clips per call of the encoder; None = 1 on a CPU, 8 on a GPU.
        workers: Threads that decode ahead of the encoder.
        progress: Called with (done, total, what).
        ignore_clock: Frames per second that replace the timestamps of video files.

    Returns:
        A new bank.

    Raises:
        MafsarError: The support or a clip cannot be read, or `add_to` has another model, geometry
            or use of text.
    """
    check_choice("on_error", on_error, get_args(OnError))
    for name, value in (("batch", batch), ("workers", workers)):
        if value is not None:
            check_count(name, value)
    if text is not None:
        check_choice("text", text, TEXT_USES)
    check_views("auto" if views is None else views)
    if far is not None:
        check_far(far)
    support = read_support(
        support, fps=fps, times=times, frames_pattern=frames_pattern, on_error="skip"
    )
    if none is not None:
        support = with_background(support, none, add_to, ignore_clock)
    encoder = _encoder_for(model, add_to)
    if add_to is not None:
        add_to.check_encoder(encoder)
        text, geometry = _of_bank(add_to, text, geometry)
        images = images and add_to.images is not None
        views = _views_of(add_to, views)
    requested = text or "auto"
    geometry = geometry or Geometry()
    use_text = check_text_use(encoder.spec, requested)
    classes = _agree_on_texts(support, add_to)
    clips, content, notes, unreadable = _fresh_clips(support, add_to, workers)
    text_of = {nfc(item.label): item.text for item in classes}
    store = open_cache(cache)
    encoded = encode_clips(
        encoder,
        clips,
        [text_of.get(nfc(clip.label)) for clip in clips]
        if use_text and encoder.spec.text_in_support
        else None,
        content=content,
        geometry=geometry,
        cache=store,
        images=images,
        on_error="skip",
        batch=batch,
        workers=workers,
        progress=progress,
        ignore_clock=ignore_clock,
    )
    unreadable = list(dict.fromkeys([*support.missing, *unreadable, *encoded.failed.values()]))
    if on_error == "raise":
        refuse_unreadable(unreadable, can_skip=True)
    notes = [*support.notes, *notes, *(Message.of(error, "; left out") for error in unreadable)]
    clips = [clip for i, clip in enumerate(clips) if i not in encoded.failed]
    if not clips and add_to is not None:
        kept = merged(add_to.none, NoneBasis.of(encoder.spec, far), far)
        return replace(add_to, none=kept, notes=tuple(notes), repairs=())
    if not clips:
        refuse_unreadable(unreadable)
    classes = _with_clips(classes, clips, add_to)
    texts = [item.text for item in classes]
    bank = _bank_of(
        encoder.spec,
        classes,
        clips,
        encoded,
        ignore_clock,
        text=encode_texts(encoder, texts, store) if use_text else None,
        geometry=geometry,
        maker=make_maker(encoder, with_text=use_text, cache=store),
        text_choice=TextChoice(requested, False, 0.0, ""),
        views="auto" if views is None else views,
        none=NoneBasis.of(encoder.spec, far),
        notes=tuple(notes),
        repairs=repairs_of(clips, encoded.repairs),
    )
    if add_to is None:
        return settle(bank)
    kept = merged(add_to.none, bank.none, far)
    joined = merge_banks(replace(add_to, none=kept, notes=(), repairs=()), bank)
    return replace(joined, added_to=add_to if add_to.path is not None else add_to.added_to)


def open_support(
    path: str | Path,
    model: Encoder,
    *,
    text: TextUse | None = None,
    views: ViewsUse | None = None,
    geometry: Geometry | None = None,
    cache: FeatureCache | bool = True,
    images: bool = False,
    progress: Progress | None = None,
) -> Bank:
    """Reads a bank file, or enrolls a folder or CSV.

    Args:
        path: Bank, folder or CSV.
        model: The encoder; a bank must have been made by it.
        text: See `enroll`; not used for a bank, whose choice a `Matcher` can override.
        views: See `enroll`; not used for a bank, as `text`.
        geometry: See `enroll`; None, or that of the bank.
        cache: See `enroll`.
        images: See `enroll`.
        progress: See `enroll`.

    Raises:
        MafsarError: The support cannot be read, or the bank has another model or geometry.
    """
    if not is_bank(path):
        return enroll(
            path,
            model,
            text=text,
            views=views,
            geometry=geometry,
            cache=cache,
            images=images,
            progress=progress,
        )
    bank = read_bank(path)
    bank.check_encoder(model)
    check_geometry(bank, geometry)
    return bank


def _encoder_for(model: Encoder | str | Path | None, add_to: Bank | None) -> Encoder:
    if model is None and add_to is not None:
        return add_to.encoder
    if model is None or isinstance(model, (str, Path)):
        return load_model(SHIPPED if model is None else model)
    return model


def _of_bank(
    bank: Bank, text: TextUse | None, geometry: Geometry | None
) -> tuple[TextUse, Geometry]:
    check_geometry(bank, geometry)
    requested = bank.text_choice.requested
    if text is not None and text != requested:
        raise InputError(
            f"{bank.name}: enrolled with ",
            option(text=requested),
            ", not with ",
            option(text=text),
            "; omit it, or enroll all clips into a new bank",
        )
    return requested, bank.geometry


def _views_of(bank: Bank, views: ViewsUse | None) -> ViewsUse:
    if views is not None and views != bank.views:
        raise InputError(
            f"{bank.name}: enrolled with ",
            option(views=bank.views),
            ", asked for ",
            option(views=views),
            "; omit it, or enroll all clips into a new bank",
        )
    return bank.views


def _agree_on_texts(support: SupportSet, held: Bank | None) -> tuple[SupportClass, ...]:
    """The support's classes; one that the bank has too keeps the bank's label and default text."""
    if held is None:
        return support.classes
    known = {nfc(item.label): item for item in held.classes}
    agreed: list[SupportClass] = []
    for item in support.classes:
        here = known.get(nfc(item.label))
        own_default = item.text == label_words(item.label)
        agreed.append(here if here is not None and own_default else item)
    return tuple(agreed)


def _fresh_clips(
    support: SupportSet, held: Bank | None, workers: int
) -> tuple[list[LabelledClip], list[str], list[str], list[MafsarError]]:
    """The clips that are new: neither in the bank nor twice in the support, within a class.

    Returns:
        The clips, the hashes of their content, a sentence for each duplicate that is left out, and
        the errors of clips that cannot be read.
    """
    seen: dict[tuple[str, tuple[str, float, float]], str] = {}
    for enrolled in held.clips if held is not None else ():
        seen[nfc(enrolled.label), enrolled.identity] = enrolled.name
    fresh: list[LabelledClip] = []
    content: list[str] = []
    notes: list[str] = []
    unreadable: list[MafsarError] = []
    clips = (*support.clips, *support.none_clips)
    hashes = try_hash_clips(clips, workers)
    for clip, digest in zip(clips, hashes, strict=True):
        if isinstance(digest, MafsarError):
            unreadable.append(digest)
            continue
        key = (nfc(clip.label), clip_identity(digest, clip.start, clip.end))
        if key in seen:
            notes.append(f"{clip.name}: the same clip as {seen[key]}; it counts once")
            continue
        seen[key] = clip.name
        fresh.append(clip)
        content.append(digest)
    return fresh, content, notes, unreadable


def _with_clips(
    classes: tuple[SupportClass, ...], clips: Sequence[LabelledClip], held: Bank | None
) -> tuple[SupportClass, ...]:
    """The classes that have a clip.

    Raises:
        InputError: No class has one, and there is no bank to add to.
    """
    here = {nfc(clip.label) for clip in clips}
    kept = tuple(item for item in classes if nfc(item.label) in here)
    if not kept and held is None:
        raise InputError("no clip of any class could be read")
    return kept


def _bank_of(
    spec: ModelSpec,
    classes: tuple[SupportClass, ...],
    clips: Sequence[LabelledClip],
    encoded: EncodedClips,
    ignore_clock: float | None,
    **rest: Any,
) -> Bank:
    label_of = {nfc(item.label): item.label for item in classes} | {NONE_FOLDER: NONE_FOLDER}
    enrolled = tuple(
        EnrolledClip(
            clip.path,
            label_of[nfc(clip.label)],
            clip.start,
            clip.end,
            name=clip.name,
            content_sha256=encoded.content_sha256[i],
            size_bytes=clip_size(clip.path),
            duration_seconds=float(encoded.durations_seconds[i]),
            ignore_clock=ignore_clock,
        )
        for i, clip in enumerate(clips)
    )
    return Bank(
        classes=classes,
        words_known=known_classes(spec, classes),
        clips=enrolled,
        query=encoded.query,
        pooled=encoded.pooled,
        support=encoded.support,
        model=BankModel.of(spec),
        images=encoded.images,
        motion=encoded.motion,
        **rest,
    )
