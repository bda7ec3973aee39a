"""Changing banks: every change ends in `settle`, so that equal clips give equal banks."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mafsar.data.labels import nfc
from mafsar.errors import InputError, MismatchError, MissingError
from mafsar.runtime.bank.bank import Bank, BankClip
from mafsar.runtime.bank.text_choice import decide_text


def settle(bank: Bank) -> Bank:
    """Puts classes and clips in their one order and decides about text.

    Classes go by label, clips by class and content: the order does not depend on the paths, nor on
    what was added first.
    """
    order = sorted(range(len(bank.classes)), key=lambda i: nfc(bank.classes[i].label))
    new_index = {old: new for new, old in enumerate(order)}
    clips = [replace(clip, owner=new_index.get(clip.owner, -1)) for clip in bank.clips]
    last = len(order)
    rows = sorted(
        range(len(clips)),
        key=lambda i: (clips[i].owner % (last + 1), clips[i].identity, clips[i].path),
    )
    taken = np.array(rows, np.intp)
    settled = replace(
        _take(bank, taken, [clips[i] for i in rows]),
        classes=tuple(bank.classes[i] for i in order),
        words_known=tuple(bank.words_known[i] for i in order),
        text=None if bank.text is None else bank.text[np.array(order, np.intp)],
    )
    return _with_text_choice(settled)


def remove(bank: Bank, classes: Sequence[str], clips: Sequence[str]) -> Bank:
    """The bank without the named classes and clips; a class without clips goes too.

    Raises:
        MissingError: A name is not in the bank.
        InputError: Nothing is named, or nothing would be left.
    """
    if not classes and not clips:
        raise InputError("nothing to remove; name a --class or a --clip")
    gone_classes = {_class_index(bank, label) for label in classes}
    gone_clips = {i for name in clips for i in _clip_indices(bank, name)}
    kept = [
        i
        for i, clip in enumerate(bank.clips)
        if i not in gone_clips and clip.owner not in gone_classes
    ]
    owners = {bank.clips[i].owner for i in kept} - {-1}
    if not owners:
        raise InputError(f"{bank.path or 'this bank'}: no class would be left")
    order = sorted(owners)
    new_index = {old: new for new, old in enumerate(order)}
    rest = [replace(bank.clips[i], owner=new_index.get(bank.clips[i].owner, -1)) for i in kept]
    return settle(
        replace(
            _take(bank, np.array(kept, np.intp), rest),
            classes=tuple(bank.classes[i] for i in order),
            words_known=tuple(bank.words_known[i] for i in order),
            text=None if bank.text is None else bank.text[np.array(order, np.intp)],
        )
    )


def merge(banks: Sequence[Bank]) -> Bank:
    """One bank of all clips; the same clip of the same class is kept once.

    Raises:
        MismatchError: The banks are of different models, pre-processing, prompts or geometry.
        InputError: A class has two texts, or only some of the banks have text.
    """
    first = banks[0]
    for other in banks[1:]:
        first = _merge_two(first, other)
    return settle(replace(first, path=None))


def _merge_two(left: Bank, right: Bank) -> Bank:
    names = f"{left.path or 'the bank'} and {right.path or 'the other'}"
    a, b = left.model, right.model
    if (a.weights_sha256, a.preprocess, a.prompts) != (b.weights_sha256, b.preprocess, b.prompts):
        raise MismatchError(
            f"{names}: made by different models ({a.name}, {b.name}: weights, pre-processing or "
            "prompts differ); enrol the clips of one of them again"
        )
    if left.geometry != right.geometry:
        raise MismatchError(
            f"{names}: made with different --roi, --fit, --rotate or --hflip; enrol one of them again"
        )
    if (left.text is None, left.support is None) != (right.text is None, right.support is None):
        raise InputError(f"{names}: one was enrolled with --text off; enrol it again without")
    labels = {nfc(item.label): i for i, item in enumerate(left.classes)}
    classes, known = list(left.classes), list(left.words_known)
    new_rows: list[int] = []
    owner_of: dict[int, int] = {-1: -1}
    for i, item in enumerate(right.classes):
        key = nfc(item.label)
        if key not in labels:
            labels[key] = len(classes)
            classes.append(item)
            known.append(right.words_known[i])
            new_rows.append(i)
        elif classes[labels[key]].text != item.text:
            raise InputError(
                f"class {item.label!r} has the text {classes[labels[key]].text!r} in one bank and "
                f"{item.text!r} in the other; enrol one of them again with the same labels.csv"
            )
        owner_of[i] = labels[key]
    here = {(clip.owner, clip.identity) for clip in left.clips}
    moved = [replace(clip, owner=owner_of[clip.owner]) for clip in right.clips]
    kept = [i for i, clip in enumerate(moved) if (clip.owner, clip.identity) not in here]
    rows = np.array(kept, np.intp)
    extra = _take(right, rows, [moved[i] for i in kept])
    images = None
    if left.images is not None and extra.images is not None:
        images = np.concatenate([left.images, extra.images])
    return replace(
        left,
        classes=tuple(classes),
        words_known=tuple(known),
        clips=left.clips + extra.clips,
        query=np.concatenate([left.query, extra.query]),
        pooled=np.concatenate([left.pooled, extra.pooled]),
        support=None
        if left.support is None or extra.support is None
        else np.concatenate([left.support, extra.support]),
        text=None
        if left.text is None or right.text is None
        else np.concatenate([left.text, right.text[np.array(new_rows, np.intp)]]),
        images=images,
        notes=left.notes + right.notes,
    )


def _take(bank: Bank, rows: NDArray[np.intp], clips: Sequence[BankClip]) -> Bank:
    """The bank with some of its clips, which may have been changed."""
    return replace(
        bank,
        clips=tuple(clips),
        query=bank.query[rows],
        pooled=bank.pooled[rows],
        support=None if bank.support is None else bank.support[rows],
        images=None if bank.images is None else bank.images[rows],
    )


def _with_text_choice(bank: Bank) -> Bank:
    rows = np.flatnonzero(bank.owners >= 0)
    choice = decide_text(
        bank.text_choice.requested,
        classes=bank.classes,
        words_known=bank.words_known,
        scoring=bank.model.scoring,
        query=bank.query[rows],
        pooled=bank.pooled[rows],
        support=bank.frames(use_text=True)[rows],
        text=bank.text,
        owners=bank.owners[rows],
    )
    return replace(bank, text_choice=choice)


def _class_index(bank: Bank, label: str) -> int:
    keys = [nfc(item) for item in bank.labels]
    if nfc(label) not in keys:
        near = difflib.get_close_matches(nfc(label), keys, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(bank.labels[:8])}"
        raise MissingError(f"{bank.path or 'this bank'}: no class {label!r}; {hint}")
    return keys.index(nfc(label))


def _clip_indices(bank: Bank, name: str) -> list[int]:
    """Clips by path, by its last part, or by the first 8 or more digits of the content's hash."""
    hits = [i for i, clip in enumerate(bank.clips) if clip.path == name]
    hits = hits or [i for i, clip in enumerate(bank.clips) if Path(clip.path).name == name]
    if not hits and len(name) >= 8:
        hits = [i for i, clip in enumerate(bank.clips) if clip.content_sha256.startswith(name)]
    if not hits:
        near = difflib.get_close_matches(name, [Path(clip.path).name for clip in bank.clips], 1)
        hint = f"did you mean {near[0]}?" if near else "see: mafsar bank list BANK"
        raise MissingError(f"{bank.path or 'this bank'}: no clip {name!r}; {hint}")
    return hits
