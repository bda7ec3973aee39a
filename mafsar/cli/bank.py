"""``mafsar bank list|remove|merge``: what needs no clips and no model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mafsar.cli import options as opt
from mafsar.cli import outputs, table
from mafsar.errors import InputError, MissingError

if TYPE_CHECKING:
    from mafsar.runtime.bank import Bank

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
    loaded = [_kept(bank, classes, clips) for bank in _load(banks)]
    with outputs.results_to(out, overwrite=overwrite) as stream:
        for path, bank in zip(banks, loaded, strict=True):
            if json_lines:
                outputs.print_json(stream, _json(path, bank))
                continue
            rows = table.new_table("class", ("text", "fold"), ("clips", "right"), ("files", "fold"))
            for index, item in enumerate(bank.classes):
                files = [clip.path for clip in bank.clips if clip.owner == index]
                rows.add_row(item.label, item.text, str(len(files)), "\n".join(files))
            nothing = [clip.path for clip in bank.clips if clip.owner < 0]
            if nothing:
                rows.add_row("(none)", "", str(len(nothing)), "\n".join(nothing))
            table.show(stream, rows, after=[_summary(path, bank)], widest=160)


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
        raise InputError("bank remove: nothing to remove was named; add --class C or --clip P")
    if out is not None and len(banks) > 1:
        raise InputError(f"--out {out}: one bank at a time; {len(banks)} banks were given")
    outputs.refuse_existing({"--out": out}, overwrite)
    smaller = [
        bank.remove(classes=opt.listed(classes), clips=opt.listed(clips)) for bank in _load(banks)
    ]
    # Nothing is written before every bank has been found to hold what was named.
    for path, bank in zip(banks, smaller, strict=True):
        target = out or path
        bank.save(target, overwrite=True)
        _say_written(target, bank, json_lines)


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
        raise InputError(f"bank merge {banks[0]}: one bank alone; name two or more")
    if out is None:
        raise InputError("bank merge: no place for the merged bank; add -o BANK.safetensors")
    outputs.refuse_existing({"--out": out}, overwrite)
    first, *others = _load(banks)
    merged = _kept(first.merge(*others), classes, clips)
    merged.save(out, overwrite=True)
    _say_written(out, merged, json_lines)


def _load(paths: list[Path]) -> list[Bank]:
    from mafsar.runtime.bank import Bank

    return [Bank.load(path) for path in paths]


def _kept(bank: Bank, classes: str | None, clips: str | None) -> Bank:
    """The bank with only the named classes and clips; all of it where neither was named."""
    wanted = set(opt.listed(classes))
    unknown = sorted(wanted - set(bank.labels))
    if unknown:
        raise MissingError(
            f"--class {unknown[0]}: not in {bank.path or 'the banks'}, which has"
            f" {', '.join(bank.labels)}; name one of these"
        )
    if wanted and wanted != set(bank.labels):
        bank = bank.remove(classes=[label for label in bank.labels if label not in wanted])
    named = opt.listed(clips)
    if named:
        drop = [
            clip.path
            for clip in bank.clips
            if not any(
                name in (clip.path, Path(clip.path).name) or clip.content_sha256.startswith(name)
                for name in named
            )
        ]
        if len(drop) == len(bank.clips):
            raise MissingError(
                f"--clip {clips}: no such clip in {bank.path or 'the banks'}; see mafsar bank list"
            )
        bank = bank.remove(clips=drop) if drop else bank
    return bank


def _json(path: Path, bank: Bank) -> dict[str, Any]:
    labels = bank.labels
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
                "clips": sum(clip.owner == index for clip in bank.clips),
            }
            for index, item in enumerate(bank.classes)
        ],
        "clips": [
            {
                "path": clip.path,
                "label": labels[clip.owner] if clip.owner >= 0 else None,
                "start": clip.start,
                "end": clip.end,
                "duration_seconds": clip.duration_seconds,
                "content_sha256": clip.content_sha256,
            }
            for clip in bank.clips
        ],
    }


def _summary(path: Path, bank: Bank) -> str:
    text = f"text on, alpha {bank.text_choice.alpha:g}" if bank.text_choice.used else "text off"
    return (
        f"{path}: {opt.count(len(bank.classes), 'class')}, {opt.count(len(bank.clips), 'clip')},"
        f" made by {bank.model.name}, {text}"
    )


def _say_written(path: Path, bank: Bank, json_lines: bool) -> None:
    import sys

    if json_lines:
        outputs.print_json(sys.stdout, _json(path, bank))
    else:
        sys.stdout.write(f"{_summary(path, bank)}\n")
