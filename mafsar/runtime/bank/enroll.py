"""Enrolling: support clips → bank, each clip encoded once a branch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mafsar.data.labels import label_words, nfc
from mafsar.data.support import (
    SupportClass,
    SupportClip,
    SupportSet,
    read_support,
)
from mafsar.errors import InputError
from mafsar.runtime.bank.bank import (
    Bank,
    BankClip,
    BankModel,
    TextChoice,
    clip_identity,
    clip_size,
    is_bank,
)
from mafsar.runtime.bank.edit import merge, settle
from mafsar.runtime.bank.text_choice import TextUse, check_text_use, known_classes
from mafsar.runtime.cache.encoding import Progress, encode_clips, encode_texts, hash_clips
from mafsar.runtime.cache.features import FeatureCache, open_cache
from mafsar.runtime.encoder import Encoder
from mafsar.video import Geometry


def enroll(
    support: SupportSet | str | Path,
    model: Encoder,
    *,
    text: TextUse | None = None,
    geometry: Geometry | None = None,
    into: Bank | None = None,
    cache: FeatureCache | bool = True,
    images: bool = True,
    batch: int | None = None,
    workers: int = 2,
    progress: Progress | None = None,
) -> Bank:
    """Encodes the clips of a support into a bank.

    Args:
        support: A support set, or the path of a folder or CSV.
        model: The encoder.
        text: Whether class names take part: "auto" (the default) decides by leave-one-out, "off"
            encodes no names at all.
        geometry: What the user said about the picture.
        into: A bank that the clips are added to; its text and geometry hold, and what it has is
            not encoded again.
        cache: The feature cache; True = the user's own, False = none.
        images: Whether to keep small pictures of the clips, for plots without the clips.
        batch: Clips a call of the encoder; None = what suits the device.
        workers: Threads that decode ahead of the encoder.
        progress: Called with (done, total, what).

    Raises:
        MafsarError: The support or one of its clips cannot be read, or `into` does not fit.
    """
    if isinstance(support, (str, Path)):
        support = read_support(support)
    if into is not None:
        into.check_model(model.spec)
        text, geometry = _of_bank(into, text, geometry)
        images = images and into.images is not None
    requested = text or "auto"
    geometry = geometry or Geometry()
    worded = check_text_use(model.spec, requested)
    classes = _agree_on_texts(support, into)
    clips, content, notes = _fresh_clips(support, into, workers)
    if into is not None and not clips:
        return replace(into, notes=(*support.notes, *notes))
    store = open_cache(cache)
    texts: list[str | None] = [
        None if clip.label is None else classes[_owner(classes, clip)].text for clip in clips
    ]
    encoded = encode_clips(
        model,
        clips,
        texts if worded and model.spec.text_in_support else None,
        content=content,
        geometry=geometry,
        cache=store,
        images=images,
        batch=batch,
        workers=workers,
        progress=progress,
    )
    rows = tuple(
        BankClip(
            str(clip.path),
            -1 if clip.label is None else _owner(classes, clip),
            encoded.content_sha256[i],
            clip_size(clip.path),
            clip.start,
            clip.end,
            float(encoded.durations_seconds[i]),
        )
        for i, clip in enumerate(clips)
    )
    bank = Bank(
        classes=classes,
        words_known=known_classes(model.spec, classes),
        clips=rows,
        query=encoded.query,
        pooled=encoded.pooled,
        support=encoded.support,
        text=encode_texts(model, [item.text for item in classes], store) if worded else None,
        model=BankModel.of(model.spec),
        geometry=geometry,
        text_choice=TextChoice(requested, False, 0.0, ""),
        images=encoded.images,
        notes=(*support.notes, *notes),
    )
    return settle(bank) if into is None else merge([replace(into, notes=()), bank])


def open_support(
    path: str | Path,
    model: Encoder,
    *,
    text: TextUse | None = None,
    geometry: Geometry | None = None,
    cache: FeatureCache | bool = True,
    images: bool = False,
    batch: int | None = None,
    workers: int = 2,
    progress: Progress | None = None,
) -> Bank:
    """The bank of a support, whichever form it has: a bank file is read, the rest is enrolled.

    Args:
        path: Bank, folder or CSV.
        model: The encoder; it must be the one that made the bank.
        text: As `enroll`; a bank has its own choice, which `match_queries` can override.
        geometry: As `enroll`; for a bank it must be the bank's own.
        cache: As `enroll`.
        images: As `enroll`.
        batch: As `enroll`.
        workers: As `enroll`.
        progress: As `enroll`.
    """
    if not is_bank(path):
        return enroll(
            path,
            model,
            text=text,
            geometry=geometry,
            cache=cache,
            images=images,
            batch=batch,
            workers=workers,
            progress=progress,
        )
    bank = Bank.load(path)
    bank.check_model(model.spec)
    check_geometry(bank, geometry)
    return bank


def check_geometry(bank: Bank, geometry: Geometry | None) -> None:
    """Refuses another geometry than the one a bank was made with.

    Raises:
        InputError: `geometry` is given and differs.
    """
    if geometry is not None and geometry != bank.geometry:
        raise InputError(
            f"{bank.path or 'this bank'}: enrolled with {_said(bank.geometry)}, asked for "
            f"{_said(geometry)}; leave the flags away or enrol the clips again"
        )


def _said(geometry: Geometry) -> str:
    values = geometry.to_json()
    return " ".join(f"{name}={value}" for name, value in values.items())


def _of_bank(
    into: Bank, text: TextUse | None, geometry: Geometry | None
) -> tuple[TextUse, Geometry]:
    check_geometry(into, geometry)
    requested = into.text_choice.requested
    if text is not None and text != requested:
        raise InputError(
            f"{into.path or 'this bank'}: enrolled with --text {requested}, asked for --text "
            f"{text}; leave it away or enrol all clips into a new bank"
        )
    return requested, into.geometry


def _agree_on_texts(support: SupportSet, into: Bank | None) -> tuple[SupportClass, ...]:
    """The support's classes; one that the bank has keeps the bank's label and, by default, text."""
    if into is None:
        return support.classes
    held = {nfc(item.label): item for item in into.classes}
    agreed: list[SupportClass] = []
    for item in support.classes:
        here = held.get(nfc(item.label))
        own_default = item.text == label_words(item.label)
        agreed.append(here if here is not None and own_default else item)
    return tuple(agreed)


def _fresh_clips(
    support: SupportSet, into: Bank | None, workers: int
) -> tuple[list[SupportClip], list[str], list[str]]:
    """Clips that neither the bank nor the support itself has already under the same class.

    Returns:
        The clips, the hashes of their content, and a sentence for every one left out.
    """
    seen: dict[tuple[str, tuple[str, float, float]], str] = {}
    if into is not None:
        for held in into.clips:
            label = "" if held.owner < 0 else nfc(into.labels[held.owner])
            seen[(label, held.identity)] = held.path
    fresh: list[SupportClip] = []
    content: list[str] = []
    notes: list[str] = []
    clips = (*support.clips, *support.none_clips)
    for clip, digest in zip(clips, hash_clips(clips, workers), strict=True):
        key = (nfc(clip.label or ""), clip_identity(digest, clip.start, clip.end))
        if key in seen:
            notes.append(f"{clip.name}: the same clip as {seen[key]}; it counts once")
            continue
        seen[key] = clip.name
        fresh.append(clip)
        content.append(digest)
    return fresh, content, notes


def _owner(classes: tuple[SupportClass, ...], clip: SupportClip) -> int:
    key = nfc(clip.label or "")
    return next(i for i, item in enumerate(classes) if nfc(item.label) == key)
