"""Class labels: how they are compared, and the words that a text tower reads."""

from __future__ import annotations

import unicodedata

NONE_FOLDER = "_none"
"""Folder or label of background clips; it is not a class."""

TEXT_TABLE = "labels.csv"
"""Table `folder,text` beside class folders: what the text tower reads."""


def nfc(label: str) -> str:
    """The form in which labels are compared."""
    return unicodedata.normalize("NFC", label.strip())


def label_words(label: str) -> str:
    """The text of a label: underscores and CamelCase become words, brackets are removed.

    >>> label_words("PlayingTVGames"), label_words("brush_hair"), label_words("Folding [something]")
    ('Playing TV Games', 'brush hair', 'Folding something')
    """
    label = nfc(label).replace("_", " ").replace("[", "").replace("]", "")
    pieces: list[str] = []
    for i, letter in enumerate(label):
        before = label[i - 1] if i else " "
        after = label[i + 1] if i + 1 < len(label) else " "
        starts_word = letter.isupper() and (
            before.islower() or before.isdigit() or (before.isupper() and after.islower())
        )
        pieces.append(f" {letter}" if starts_word else letter)
    return " ".join("".join(pieces).split())


def class_key(name: str) -> str:
    """The letters and digits of a class name: equal for all its spellings in folders and lists.

    >>> class_key("HandStandPushups") == class_key("handstand_pushups")
    True
    """
    return "".join(letter for letter in nfc(name).casefold() if letter.isalnum())
