"""A standard data set on the user's disk → catalogue: by class folders, or by the user's lists."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from mafsar.data.catalogue import Catalogue, DataClass, assemble
from mafsar.data.clip_tree import ClipTree
from mafsar.data.labelled import LabelledClip
from mafsar.data.labels import class_key, label_words
from mafsar.data.lists import (
    FORMATS,
    ListedClip,
    find_lists,
    read_class_names,
    read_list,
    read_video_names,
)
from mafsar.data.presets import Preset, preset
from mafsar.data.splits import PARTS, Part
from mafsar.errors import InputError, Placeholder, option


def read_standard(name: str, root: Path, lists: Path | None = None) -> Catalogue:
    """Finds the clips of a standard data set.

    Args:
        name: ``hmdb51``, ``ucf101``, ``kinetics100``, ``ssv2_small`` or ``ssv2_full``.
        root: Folder of the videos or frame folders, at any depth.
        lists: Folder of the train, val and test lists; without it every video of the classes
            counts, which only HMDB51 and UCF101 allow.

    Raises:
        MissingError: A folder or list does not exist.
        InputError: The name is unknown, lists are needed, or a list cannot be read.
    """
    chosen = preset(name)
    if lists is None and chosen.listed:
        raise InputError(
            option(dataset=chosen.name),
            ": its videos are chosen by lists, so add ",
            option(lists=Placeholder("dir")),
            f" with {FORMATS}",
        )
    if lists is not None:
        return _from_lists(chosen, ClipTree(root), lists)
    return _from_folders(chosen, ClipTree(root))


def _from_folders(chosen: Preset, tree: ClipTree) -> Catalogue:
    """Every video of the classes' folders."""
    classes = [item for part in PARTS for item in _named_classes(chosen, part)]
    by_key = {class_key(item.label): item for item in classes}
    clips: list[LabelledClip] = []
    outside: dict[str, int] = {}
    for found in tree.clips:
        key = tree.class_of(found, by_key)
        if key is None:
            folder = found.name.rpartition("/")[0] or "."
            outside[folder] = outside.get(folder, 0) + 1
            continue
        clips.append(
            LabelledClip(found.path, by_key[key].label, name=found.name, part=by_key[key].part)
        )
    notes = []
    if outside:
        folders = ", ".join(list(outside)[:3]) + (", …" if len(outside) > 3 else "")
        notes.append(
            f"{sum(outside.values())} clips are outside the class folders of {chosen.title} and were "
            f"skipped ({folders})"
        )
    here = {clip.label for clip in clips}
    absent = [(item.part, item.label) for item in classes if item.label not in here]
    return assemble(
        chosen.title, tree.root, classes, clips, preset=chosen, absent=absent, notes=notes
    )


def _from_lists(chosen: Preset, tree: ClipTree, folder: Path) -> Catalogue:
    """The videos that the lists name."""
    paths = find_lists(folder, needed_by=chosen.title)
    video_names = read_video_names(folder)
    listed = {part: read_list(path, part) for part, path in paths.items()}
    classes: list[DataClass] = []
    named: list[tuple[DataClass, ListedClip]] = []
    for part, lines in listed.items():
        here = _classes_of_lines(chosen, part, lines, paths[part], video_names)
        unique = list(dict.fromkeys(here))
        classes += unique
        named += list(zip(here, lines, strict=True))
    keys = {class_key(item.label) for item in classes}
    clips = []
    for item, line in named:
        found = tree.find(line.path, item.label, keys)
        name, path = (line.path, None) if found is None else (found.name, found.path)
        clips.append(LabelledClip(path, item.label, name=name, part=item.part))
    here_labels = {item.label for item in classes}
    absent = [
        (part, item.label)
        for part in PARTS
        for item in _named_classes(chosen, part)
        if item.label not in here_labels
    ]
    unnamed = sum(item.text is None for item in classes)
    notes = []
    if unnamed:
        notes.append(
            f"{unnamed} classes have only numbers, because their names are not public; add "
            f"val_classes.txt or Something-Something's own .json annotations to {folder}"
        )
    return assemble(
        chosen.title, tree.root, classes, clips, preset=chosen, absent=absent, notes=notes
    )


def _classes_of_lines(
    chosen: Preset,
    part: Part,
    lines: Sequence[ListedClip],
    path: Path,
    video_names: Mapping[str, str],
) -> list[DataClass]:
    """The class of each line: by its folder's name, else by its number."""
    known = {class_key(item.label): item for item in _named_classes(chosen, part)}
    numbered = _classes_by_number(chosen, part, lines, path, video_names)
    classes: list[DataClass] = []
    numbers: dict[str, int] = {}
    for line in lines:
        item = known.get(class_key(line.folder or ""))
        if item is None and line.class_id is not None:
            item = numbered[line.class_id]
        if item is None:
            near = difflib.get_close_matches(class_key(line.folder or ""), known, 1)
            hint = f"did you mean {known[near[0]].label!r}" if near else "is this its list"
            raise InputError(
                f"{path} line {line.line}: {line.folder!r} is not a {part} class of {chosen.title}; "
                f"{hint}?"
            )
        if line.class_id is not None:
            first = numbers.setdefault(item.label, line.class_id)
            if first != line.class_id:
                raise InputError(
                    f"{path} line {line.line}: class numbers {first} and {line.class_id} are both "
                    f"{item.label!r}; fix the list or {part}_classes.txt"
                )
        classes.append(item)
    return classes


def _classes_by_number(
    chosen: Preset,
    part: Part,
    lines: Sequence[ListedClip],
    path: Path,
    video_names: Mapping[str, str],
) -> dict[int, DataClass]:
    """The class of each number: by annotations, by ``<part>_classes.txt``, by the preset's order."""
    known = {class_key(item.label): item for item in _named_classes(chosen, part)}
    annotated: dict[int, str] = {}
    for line in lines:
        name = video_names.get(PurePosixPath(line.path).stem)
        if line.class_id is None or name is None:
            continue
        first = annotated.setdefault(line.class_id, name)
        if class_key(first) != class_key(name):
            raise InputError(
                f"{path} line {line.line}: number {line.class_id} is {first!r} and {name!r} by the "
                "annotations; the list and the .json files do not belong together"
            )
    names = read_class_names(path.parent, part) or chosen.parts[part].classes
    result: dict[int, DataClass] = {}
    for line in lines:
        number = line.class_id
        if number is None or number in result:
            continue
        if names is not None and number >= len(names):
            raise InputError(
                f"{path} line {line.line}: class number {number}, but {chosen.title} has only "
                f"{len(names)} {part} classes, 0 to {len(names) - 1}; is this its list?"
            )
        name = annotated.get(number) or (None if names is None else names[number])
        if name is None:
            result[number] = DataClass(f"{part}{number}", None, part)
        else:
            item = DataClass(name, label_words(name), part)
            result[number] = known.get(class_key(name), item)
    return result


def _named_classes(chosen: Preset, part: Part) -> list[DataClass]:
    names = chosen.parts[part].classes or ()
    return [DataClass(name, label_words(name), part) for name in names]
