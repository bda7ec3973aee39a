"""``mafsar bank list|remove|merge``: work with banks, without clips and without a model."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mafsar.cli import options as opt
from mafsar.cli import outputs, table, targets
from mafsar.errors import InputError, MissingError
from mafsar.plain import say

if TYPE_CHECKING:
    from mafsar.runtime.bank.bank import Bank
    from mafsar.runtime.bank.clips import EnrolledClip

ClassOption = Annotated[
    str | None, typer.Option("--class", metavar="C[,C]", help="Only these classes.")
]
ClipOption = Annotated[
    str | None,
    typer.Option("--clip", metavar="P[,P]", help="Only these clips: path, file name or hash."),
]
BanksArgument = Annotated[list[Path], typer.Argument(metavar="BANK", help="Banks (.safetensors).")]


def list_banks(
    banks: BanksArgument,
    classes: ClassOption = None,
    clips: ClipOption = None,
    out: opt.ResultsOption = None,
    overwrite: opt.OverwriteFlag = False,
    json_lines: opt.JsonFlag = False,
    _verbose: opt.VerboseFlag = 0,
    _quiet: opt.QuietFlag = False,
) -> None:
    """List the classes and clips of banks."""
    from mafsar.data.labels import NONE_FOLDER

    targets.check_outputs({"--out": out}, overwrite, inputs={"the bank": banks})
    loaded = _load(banks)
    chosen = [_chosen(bank, classes, clips) for bank in loaded]
    with outputs.results_to(out, overwrite=overwrite) as stream:
        for path, bank, indices in zip(banks, loaded, chosen, strict=True):
            if json_lines:
                outputs.print_json(stream, _json(path, bank, indices))
                continue
            rows = table.new_table("class", ("text", "fold"), ("clips", "right"), ("files", "fold"))
            for number, item in enumerate(bank.classes):
                files = sorted(
                    bank.clips[i].location for i in indices if bank.class_index[i] == number
                )
                if files:
                    table.add_row(rows, item.label, item.text, str(len(files)), "\n".join(files))
            background = sorted(bank.clips[i].location for i in indices if bank.class_index[i] < 0)
            if background:
                table.add_row(rows, NONE_FOLDER, "", str(len(background)), "\n".join(background))
            table.show(stream, rows, after=[_summary(path, bank)])


def remove(
    banks: BanksArgument,
    classes: ClassOption = None,
    clips: ClipOption = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="BANK", help="Write here. Default: in place."),
    ] = None,
    overwrite: opt.OverwriteFlag = False,
    json_lines: opt.JsonFlag = False,
    _verbose: opt.VerboseFlag = 0,
    _quiet: opt.QuietFlag = False,
) -> None:
    """Remove classes or clips from banks, in place unless -o is given."""
    if classes is None and clips is None:
        raise typer.BadParameter(
            "bank remove: nothing to remove was named; add --class C or --clip P"
        )
    if out is not None and len(banks) > 1:
        raise InputError(f"--out {out}: one bank at a time; {len(banks)} banks were given")
    targets.check_outputs({"--out": out}, overwrite, kinds={"--out": "bank"})
    class_names, clip_names = opt.listed(classes), opt.listed(clips)
    if out is None:
        from mafsar.runtime.bank.update import remove_in_place

        smaller = remove_in_place(banks, class_names=class_names, clip_names=clip_names)
        for path, bank in zip(banks, smaller, strict=True):
            _say_written(path, bank, json_lines)
        return
    from mafsar.runtime.bank.edit import remove as smaller_bank

    (held,) = _load(banks)
    bank = smaller_bank(held, class_names=class_names, clip_names=clip_names)
    bank.save(out, overwrite=overwrite)
    _say_written(out, bank, json_lines)


def merge(
    banks: BanksArgument,
    classes: ClassOption = None,
    clips: ClipOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="BANK", help="The merged bank.")
    ] = None,
    overwrite: opt.OverwriteFlag = False,
    json_lines: opt.JsonFlag = False,
    _verbose: opt.VerboseFlag = 0,
    _quiet: opt.QuietFlag = False,
) -> None:
    """Merge banks that one model made."""
    if len(banks) < 2:
        raise typer.BadParameter(f"bank merge {banks[0]}: one bank alone; name two or more")
    if out is None:
        raise typer.BadParameter(
            "bank merge: no place for the merged bank; add -o BANK.safetensors"
        )
    targets.check_outputs({"--out": out}, overwrite, kinds={"--out": "bank"})
    from mafsar.runtime.bank.edit import merge_banks

    merged = _kept(merge_banks(*_load(banks)), classes, clips)
    merged.save(out, overwrite=overwrite)
    _say_written(out, merged, json_lines)


def _load(paths: list[Path]) -> list[Bank]:
    from mafsar.runtime.bank.bank import read_bank

    return [read_bank(path) for path in paths]


def _kept(bank: Bank, classes: str | None, clips: str | None) -> Bank:
    """The bank with only the named classes and clips; all of it where neither was named."""
    from mafsar.runtime.bank.edit import some_clips

    chosen = _chosen(bank, classes, clips)
    return bank if len(set(chosen)) == len(bank.clips) else some_clips(bank, chosen)


def _chosen(bank: Bank, classes: str | None, clips: str | None) -> list[int]:
    """Places of the clips that ``--class`` and ``--clip`` name; all where neither was given."""
    from mafsar.data.labels import nfc

    where = bank.path or "the banks"
    wanted = {nfc(label) for label in opt.listed(classes)}
    unknown = sorted(wanted - {nfc(label) for label in bank.labels})
    if unknown:
        raise MissingError(
            f"--class {unknown[0]}: not in {where}, which has {', '.join(bank.labels)}"
        )
    names = opt.listed(clips)
    chosen = [
        i
        for i, clip in enumerate(bank.clips)
        if (not wanted or (not clip.is_background and nfc(clip.label) in wanted))
        and (not names or any(_is_called(clip, name) for name in names))
    ]
    if not chosen:
        raise MissingError(f"--clip {clips}: no such clip in {where}; see mafsar bank list BANK")
    return chosen


def _is_called(clip: EnrolledClip, name: str) -> bool:
    """Whether `name` is the clip's path, its last part, or 8 or more digits of its hash."""
    by_hash = len(name) >= 8 and clip.content_sha256.startswith(name)
    return by_hash or name in (clip.location, Path(clip.location).name)


def _json(path: Path, bank: Bank, indices: list[int] | None = None) -> dict[str, Any]:
    shown = [bank.clips[i] for i in (range(len(bank.clips)) if indices is None else indices)]
    from mafsar.data.labels import NONE_FOLDER

    count = Counter(clip.label for clip in shown)
    place = {label: number for number, label in enumerate((NONE_FOLDER, *bank.labels))}
    return {
        "schema": 1,
        "bank": str(path),
        "model": bank.model.name,
        "adapters": bank.model.adapters,
        "weights_sha256": bank.model.weights_sha256,
        "text": bank.text_choice.used,
        "alpha": bank.text_choice.alpha,
        "geometry": bank.geometry.to_json(),
        "classes": [
            {
                "label": item.label,
                "text": item.text,
                "clips": count[item.label],
            }
            for item in bank.classes
            if count[item.label]
        ],
        "clips": [
            {
                "path": clip.location,
                "label": None if clip.is_background else clip.label,
                "start": clip.start,
                "end": clip.end,
                "duration_seconds": clip.duration_seconds,
                "content_sha256": clip.content_sha256,
            }
            for clip in sorted(shown, key=lambda clip: (place[clip.label], clip.location))
        ],
    }


def _summary(path: Path, bank: Bank) -> str:
    from mafsar.runtime.cache.places import recall_place
    from mafsar.runtime.encoder import shown_model

    model = shown_model(bank.model.name, recall_place(bank.model.weights_sha256))
    text = f"text on, alpha {bank.text_choice.alpha:g}" if bank.text_choice.used else "text off"
    return (
        f"{path}: {opt.count(len(bank.classes), 'class')}, {opt.count(len(bank.clips), 'clip')},"
        f" made by {model}, {text}"
    )


def _say_written(path: Path, bank: Bank, json_lines: bool) -> None:
    import sys

    outputs.say_written(path)
    if json_lines:
        outputs.print_json(sys.stdout, _json(path, bank))
    else:
        say(sys.stdout, f"{_summary(path, bank)}\n")
