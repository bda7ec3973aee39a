"""Removing from banks and merging them; both end in `settle`, so that equal clips give equal banks."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mafsar.data.labels import NONE_FOLDER, nfc
from mafsar.errors import InputError, MismatchError, MissingError, option
from mafsar.files import take_rows
from mafsar.runtime.bank.bank import Bank
from mafsar.runtime.bank.none import merged
from mafsar.runtime.bank.text_choice import decide_text
from mafsar.runtime.encoder import Float32


def settle(bank: Bank) -> Bank:
    """Sorts classes and clips, and decides whether to use text.

    Classes are sorted by label, clips by class and content, so that the order depends neither on
    paths nor on what was added first.
    """
    order = sorted(range(len(bank.classes)), key=lambda i: nfc(bank.classes[i].label))
    settled = _take_classes(bank, order)
    last = len(order)  # index −1 of background clips becomes `last`
    rows = sorted(
        range(len(settled)),
        key=lambda i: (
            settled.class_index[i] % (last + 1),
            settled.clips[i].identity,
            settled.clips[i].name,
        ),
    )
    return _with_verdict(_with_text_choice(_take_clips(settled, rows)))


def remove(bank: Bank, *, class_names: Sequence[str] = (), clip_names: Sequence[str] = ()) -> Bank:
    """Returns a bank without some classes and clips; a class that loses its last clip is removed too.

    Args:
        bank: The bank; it is not changed.
        class_names: Labels of classes.
        clip_names: Clips, each by its path (or name, of frames in memory), by the last part of its
            path, or by the first 8 or more digits of its hash.

    Raises:
        MissingError: A name is not in the bank.
        InputError: No name is given, or no class would be left.
    """
    if not class_names and not clip_names:
        raise InputError(
            "nothing to remove; name ", option("class_names"), " or ", option("clip_names")
        )
    gone_classes = {_class_index(bank, label) for label in class_names}
    gone_clips = {i for name in clip_names for i in _clip_indices(bank, name)}
    kept = [
        i
        for i, index in enumerate(bank.class_index)
        if i not in gone_clips and int(index) not in gone_classes
    ]
    return some_clips(bank, kept)


def some_clips(bank: Bank, indices: Sequence[int]) -> Bank:
    """Returns a bank with only some clips, and the classes that they are of.

    Args:
        bank: The bank; it is not changed.
        indices: Places of the clips in it.

    Raises:
        InputError: No class would be left.
    """
    kept = sorted(set(indices))
    left = sorted({int(bank.class_index[i]) for i in kept} - {-1})
    if not left:
        raise InputError(f"{bank.name}: no class would be left")
    return settle(_take_classes(_take_clips(bank, kept), left))


def added(before: Bank, after: Bank) -> Bank | None:
    """The clips of one bank that another one lacks, with their classes; None where it lacks none."""
    here = {(nfc(clip.label), clip.identity) for clip in before.clips}
    kept = [i for i, clip in enumerate(after.clips) if (nfc(clip.label), clip.identity) not in here]
    classes = sorted({int(after.class_index[i]) for i in kept} - {-1})
    return _take_classes(_take_clips(after, kept), classes) if kept else None


def merge_banks(*banks: Bank) -> Bank:
    """Joins banks; a clip that two banks have in the same class is kept once.

    Args:
        banks: At least one; all made by the same model with the same geometry.

    Returns:
        A new bank.

    Raises:
        MismatchError: Models, pre-processing, prompts or geometries differ.
        InputError: No bank is given, a class has different texts, or only some banks have text.
    """
    if not banks:
        raise InputError("no bank to merge; give one or more")
    merged = functools.reduce(_merge_two, banks)
    return settle(replace(merged, path=None, added_to=None))


def _merge_two(left: Bank, right: Bank) -> Bank:
    names = f"{left.path or 'the first bank'} and {right.path or 'the other'}"
    a, b = left.model, right.model
    if (a.weights_sha256, a.preprocess, a.prompts) != (b.weights_sha256, b.preprocess, b.prompts):
        raise MismatchError(
            f"{names}: made by different models ({a.name}, {b.name}: weights, pre-processing or "
            "prompts differ); enroll the clips of one of them again"
        )
    if left.maker and right.maker and not left.maker.agrees(right.maker):
        raise MismatchError(
            f"{names}: made by files that compute different features of the same clip, though the "
            "hash of their weights is the same; enroll the clips of one of them again"
        )
    if left.geometry != right.geometry:
        raise MismatchError(
            f"{names}: made with different ",
            option("roi", "fit", "rotate", "hflip"),
            "; enroll the clips of one of them again",
        )
    if (left.text is None, left.support is None) != (right.text is None, right.support is None):
        raise InputError(
            f"{names}: one was enrolled with ", option(text="off"), "; enroll both in the same way"
        )
    labels = {nfc(item.label): i for i, item in enumerate(left.classes)}
    classes, known = list(left.classes), list(left.words_known)
    new_rows: list[int] = []
    label_of = {NONE_FOLDER: NONE_FOLDER}
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
                f"{item.text!r} in the other; enroll one of them again with the same labels.csv"
            )
        label_of[item.label] = classes[labels[key]].label
    here = {(clip.label, clip.identity) for clip in left.clips}
    moved = tuple(replace(clip, label=label_of[clip.label]) for clip in right.clips)
    kept = [i for i, clip in enumerate(moved) if (clip.label, clip.identity) not in here]
    extra = _take_clips(replace(right, clips=moved), kept)
    images = None
    if left.images is not None and extra.images is not None:
        images = np.concatenate([left.images, extra.images])
    motion = None
    if left.motion is not None or extra.motion is not None:
        motion = np.concatenate([_motion(left), _motion(extra)])
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
        # A bank vouches for its features only where all of them have a known maker.
        maker=left.maker if right.maker is not None else None,
        images=images,
        motion=motion,
        none=merged(left.none, right.none, None),
        notes=left.notes + right.notes,
        repairs=left.repairs + right.repairs,
    )


def _take_clips(bank: Bank, kept: Sequence[int]) -> Bank:
    """The bank with the clips `kept`, in that order."""
    rows = np.array(kept, np.intp)
    return replace(
        bank,
        clips=tuple(bank.clips[i] for i in kept),
        query=take_rows(bank.query, rows),
        pooled=take_rows(bank.pooled, rows),
        support=None if bank.support is None else take_rows(bank.support, rows),
        images=None if bank.images is None else take_rows(bank.images, rows),
        motion=None if bank.motion is None else bank.motion[rows],
    )


def _motion(bank: Bank) -> Float32:
    """How much moves in each clip, (n,); −1 where the bank does not say."""
    return np.full(len(bank), -1.0, np.float32) if bank.motion is None else bank.motion


def _take_classes(bank: Bank, kept: Sequence[int]) -> Bank:
    """The bank with the classes `kept`, in that order; its clips stay as they are."""
    rows = np.array(kept, np.intp)
    return replace(
        bank,
        classes=tuple(bank.classes[i] for i in kept),
        words_known=tuple(bank.words_known[i] for i in kept),
        text=None if bank.text is None else bank.text[rows],
    )


def _with_text_choice(bank: Bank) -> Bank:
    rows = np.flatnonzero(bank.class_index >= 0)
    choice = decide_text(
        bank.text_choice.requested,
        classes=bank.classes,
        words_known=bank.words_known,
        scoring=bank.scoring_with_text,
        query=take_rows(bank.query, rows),
        pooled=take_rows(bank.pooled, rows),
        support=take_rows(bank.frames(use_text=True), rows),
        text=bank.text,
        class_index=bank.class_index[rows],
        branch=bank.branch(use_text=True),
    )
    return replace(bank, text_choice=choice)


def _with_verdict(bank: Bank) -> Bank:
    from mafsar.runtime.bank.left_out import left_out_clips
    from mafsar.runtime.scoring.verdict import Verdict

    return replace(bank, verdict=Verdict.of(left_out_clips(bank)))


def _class_index(bank: Bank, label: str) -> int:
    keys = [nfc(item) for item in bank.labels]
    if nfc(label) not in keys:
        near = difflib.get_close_matches(nfc(label), keys, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(bank.labels[:8])}"
        raise MissingError(f"{bank.name}: no class {label!r}; {hint}")
    return keys.index(nfc(label))


def _clip_indices(bank: Bank, name: str) -> list[int]:
    """Indices of the clips that a name stands for; see `remove`."""
    paths = [clip.location for clip in bank.clips]
    hits = [i for i, path in enumerate(paths) if path == name]
    hits = hits or [i for i, path in enumerate(paths) if Path(path).name == name]
    if not hits and len(name) >= 8:
        hits = [i for i, clip in enumerate(bank.clips) if clip.content_sha256.startswith(name)]
    if not hits:
        near = difflib.get_close_matches(name, [Path(path).name for path in paths], 1)
        hint = f"did you mean {near[0]}?" if near else "its clips are listed by bank.clips"
        raise MissingError(f"{bank.name}: no clip {name!r}; {hint}")
    return hits
